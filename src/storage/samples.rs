//! Rows for the unit tests of this folder.

use std::sync::Arc;
use std::time::Duration;

use smallvec::smallvec;
use uuid::Uuid;

use super::ledger::{AttemptRecord, Intent, LedgerEntry, Progress, RequestState, Settlement};
use crate::domain::demand::Operation;
use crate::domain::ids::{KeyId, RequestId};
use crate::domain::money::{Cost, PriceVersion};
use crate::domain::time::WallTime;
use crate::domain::usage::{Charge, Usage};

pub(super) fn intent(n: u128) -> Arc<Intent> {
    Arc::new(Intent {
        id: RequestId(Uuid::from_u128(n)),
        request_id: format!("r-{n}"),
        key_id: KeyId(Uuid::from_u128(7)),
        user_id: None,
        operation: Operation::ChatCompletions,
        model: "gpt-4o-mini".into(),
        stream: true,
        // Later than any start of a store.
        started_at: WallTime(4_000_000_000_000_000),
        input_tokens: 10,
    })
}

pub(super) fn progress(intent: &Intent, output_tokens: u32) -> LedgerEntry {
    LedgerEntry::Progress(Progress {
        id: intent.id,
        resource: "eastus2".into(),
        deployment: "mini".into(),
        output_tokens,
    })
}

pub(super) fn settlement(output_tokens: u32) -> Settlement {
    let usage = Usage { input_tokens: 10, output_tokens, ..Usage::default() };
    Settlement {
        state: RequestState::Settled,
        status: 200,
        usage,
        estimated: false,
        cost: Cost(i64::from(output_tokens) * 600_000),
        flat_cost: false,
        price_version: Some(PriceVersion(77)),
        ttfb: Some(Duration::from_millis(3)),
        duration: Duration::from_millis(20),
        attempts: smallvec![attempt("eastus2", usage, Charge::Exact)],
    }
}

pub(super) fn attempt(resource: &str, usage: Usage, charge: Charge) -> AttemptRecord {
    AttemptRecord {
        resource: resource.into(),
        deployment: "mini".into(),
        status: Some(200),
        reason: "served",
        duration: Duration::from_millis(19),
        usage,
        charge,
        upstream_id: Some("5c1e-apim".into()),
    }
}

pub(super) fn settled(intent: &Arc<Intent>, output_tokens: u32) -> LedgerEntry {
    LedgerEntry::Settled(intent.clone(), Box::new(settlement(output_tokens)))
}

/// Everything the ledger wrote, one line a row.
pub(super) fn dump(store: &super::Store) -> Vec<String> {
    #[derive(diesel::QueryableByName)]
    struct Line {
        #[diesel(sql_type = diesel::sql_types::Text)]
        line: String,
    }
    store.show_open().unwrap();
    let lines: Vec<Line> = diesel::RunQueryDsl::load(
        diesel::sql_query(
            "SELECT 'request ' || json_array(hex(id), request_id, hex(key_id), hex(user_id), endpoint, model, stream, \
             started_at, state, status, estimated, input_tokens, cached_input_tokens, output_tokens, \
             reasoning_tokens, cost, ttfb_us, duration_us, attempts, resource, deployment, attempt_status, reason, \
             attempt_us, charge, upstream_id, flat_cost, price_version, audio_input_tokens, audio_output_tokens) \
             AS line FROM requests \
             UNION ALL SELECT 'attempt ' || json_array(hex(request), n, resource, deployment, status, reason, \
             duration_us, input_tokens, output_tokens, charge, upstream_id, audio_input_tokens, audio_output_tokens) \
             FROM attempts \
             UNION ALL SELECT 'roll-up ' || json_array(hour, hex(key_id), hex(user_id), model, resource, requests, \
             input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost, errors, cancelled, estimated, \
             flat_cost, audio_input_tokens, audio_output_tokens) \
             FROM usage_hourly ORDER BY 1",
        ),
        &mut *store.reader().unwrap(),
    )
    .unwrap();
    lines.into_iter().map(|line| line.line).collect()
}
