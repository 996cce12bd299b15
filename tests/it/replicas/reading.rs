//! The shared ledger while it is read: what ends, is brought over or is folded meanwhile is in a sum once, or not yet.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use aoai_gateway::domain::demand::Operation;
use aoai_gateway::domain::ids::{KeyId, RequestId};
use aoai_gateway::domain::money::Cost;
use aoai_gateway::domain::secret::Secret;
use aoai_gateway::domain::time::WallTime;
use aoai_gateway::domain::usage::{Charge, Usage};
use aoai_gateway::settings::model::{Durability, Settings};
use aoai_gateway::storage::folding::Step;
use aoai_gateway::storage::ledger::{AttemptRecord, Intent, LedgerEntry, RequestState, Settlement};
use aoai_gateway::storage::usage::{Bucket, GroupBy, UsageFilter};
use aoai_gateway::storage::{Projection, Store};
use diesel::connection::SimpleConnection;
use diesel::sql_types::BigInt;
use diesel::{QueryableByName, RunQueryDsl};

use crate::support::gateway::eventually;
use crate::support::postgres;

pub(super) const HOUR: i64 = 3_600_000_000;
/// 2097-01-30T00:00:00Z: an hour in the middle of a month.
pub(super) const BEGIN: i64 = 4_010_342_400_000_000;
/// Each costs as much.
const TOKENS: u32 = 7;

/// A journal before this database, without a gateway, so that the test says what happens when.
pub(super) fn journal(folder: &tempfile::TempDir, url: &str) -> Store {
    let mut settings = Settings::default();
    settings.database.path = folder.path().join("journal.db");
    settings.database.server = Some(Secret::new(url));
    Store::open(&settings.database, Durability::Process).unwrap()
}

pub(super) fn intent(at: i64, n: u64) -> Arc<Intent> {
    let id = RequestId::first_of(WallTime(at)).0.as_u128() | u128::from(n);
    Arc::new(Intent {
        id: RequestId(uuid::Uuid::from_u128(id)),
        request_id: format!("r-{n}"),
        key_id: KeyId(uuid::Uuid::from_u128(u128::from(n % 3) + 1)),
        user_id: None,
        operation: Operation::ChatCompletions,
        model: "gpt-4o-mini".into(),
        stream: false,
        started_at: WallTime(at),
        input_tokens: 0,
    })
}

pub(super) fn settled(intent: Arc<Intent>) -> LedgerEntry {
    let usage = Usage { output_tokens: TOKENS, ..Usage::default() };
    let attempt = AttemptRecord {
        resource: "east".into(),
        deployment: "mini".into(),
        status: Some(200),
        reason: "served",
        duration: Duration::ZERO,
        usage,
        charge: Charge::Exact,
        upstream_id: None,
    };
    let settlement = Settlement {
        state: RequestState::Settled,
        status: 200,
        usage,
        estimated: false,
        cost: Cost(5),
        flat_cost: false,
        price_version: None,
        ttfb: None,
        duration: Duration::ZERO,
        attempts: [attempt].into_iter().collect(),
    };
    LedgerEntry::Settled(intent, Box::new(settlement))
}

pub(super) fn bring(projection: &mut Projection) {
    while projection.step().unwrap().done > 0 {}
}

fn fold(store: &Store, now: i64) {
    while store.fold_hours(WallTime(now)).unwrap() != Step::Done {}
}

/// Requests and output tokens of that month and the next.
pub(super) fn sums(store: &Store) -> (i64, i64) {
    let (from, to) = (WallTime(BEGIN - 29 * 24 * HOUR), WallTime(BEGIN + 30 * 24 * HOUR));
    let filter = UsageFilter { from, to, bucket: Bucket::None, group_by: GroupBy::default() };
    let rows = store.usage(&filter).unwrap();
    rows.iter().fold((0, 0), |sum, row| (sum.0 + row.requests, sum.1 + row.output_tokens))
}

#[track_caller]
fn holds(store: &Store) {
    let verdict = store.verify().unwrap();
    assert!(verdict.holds(), "{:#?}", verdict.rules);
}

/// A gateway reads how far the days go, and then them and the hours after: with a fold in between, an hour would be in both.
#[test]
fn an_hour_that_is_folded_while_the_sums_are_read_counts_once() {
    let (url, folder) = (postgres::database(), tempfile::tempdir().unwrap());
    let store = journal(&folder, &url);
    let (mut journal, mut projection) = (store.journal().unwrap(), store.projection().unwrap().unwrap());
    journal.append(&[(0..3).map(|n| settled(intent(BEGIN, n))).collect()]).unwrap();
    bring(&mut projection);
    fold(&store, BEGIN + 2 * HOUR);
    journal.append(&[(3..6).map(|n| settled(intent(BEGIN + HOUR, n))).collect()]).unwrap();
    bring(&mut projection);
    let whole = (6, 6 * i64::from(TOKENS));
    assert_eq!(sums(&store), whole);

    let (mut holder, mut observer) = (postgres::connect(&url), postgres::connect(&url));
    holder.batch_execute("BEGIN; LOCK TABLE usage_hourly IN ACCESS EXCLUSIVE MODE").unwrap();
    let read = std::thread::scope(|scope| {
        let reading = scope.spawn(|| sums(&store));
        eventually(|| {
            #[derive(QueryableByName)]
            struct Waiting {
                #[diesel(sql_type = BigInt)]
                count: i64,
            }
            let waiting = "SELECT COUNT(*) AS count FROM pg_locks WHERE NOT granted \
                           AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
            let waiting: Waiting = diesel::sql_query(waiting).get_result(&mut observer).unwrap();
            if waiting.count > 0 { Ok(()) } else { Err("nobody waits for the hours".to_owned()) }
        });
        // As another gateway folds.
        let columns = "requests, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost, errors, cancelled, \
                       estimated, flat_cost, audio_input_tokens, audio_output_tokens";
        let added: Vec<_> =
            columns.split(", ").map(|one| format!("{one} = usage_folded.{one} + excluded.{one}")).collect();
        let hour = BEGIN + HOUR;
        for (unit, start) in [(1, BEGIN), (2, BEGIN - 29 * 24 * HOUR)] {
            let fold = format!(
                "INSERT INTO usage_folded (unit, start, key_id, user_id, model, resource, {columns}) \
                 SELECT {unit}, {start}, key_id, user_id, model, resource, {columns} FROM usage_hourly WHERE hour = {hour} \
                 ON CONFLICT (unit, start, key_id, user_id, model, resource) DO UPDATE SET {}",
                added.join(", ")
            );
            holder.batch_execute(&fold).unwrap();
        }
        holder.batch_execute(&format!("UPDATE usage_fold SET until = {}; COMMIT", hour + HOUR)).unwrap();
        reading.join().unwrap()
    });
    assert_eq!(read, whole);
    assert_eq!(sums(&store), whole);
    holds(&store);
}

#[test]
fn what_ends_while_others_are_brought_over_folded_and_summed_is_lost_nowhere_and_counted_once() {
    const GROUPS: u64 = 60;
    const EACH: u64 = 5;
    let (url, folder) = (postgres::database(), tempfile::tempdir().unwrap());
    let store = journal(&folder, &url);
    let (mut journal, mut projection) = (store.journal().unwrap(), store.projection().unwrap().unwrap());
    let (booked, brought) = (AtomicBool::new(false), AtomicBool::new(false));
    let reads = std::thread::scope(|scope| {
        scope.spawn(|| {
            for group in 0..GROUPS {
                // Some began in hours that are folded by then.
                let at = |n: u64| BEGIN + (group / 10).saturating_sub(n % 3).cast_signed() * HOUR;
                journal.append(&[(0..EACH).map(|n| settled(intent(at(n), group * EACH + n))).collect()]).unwrap();
            }
            booked.store(true, SeqCst);
        });
        scope.spawn(|| {
            loop {
                let last = booked.load(SeqCst);
                bring(&mut projection);
                if last {
                    break;
                }
            }
            brought.store(true, SeqCst);
        });
        scope.spawn(|| {
            let mut hour = 1;
            while !brought.load(SeqCst) {
                fold(&store, BEGIN + hour * HOUR);
                hour = (hour + 1).min(5);
            }
        });
        let (mut known, mut reads) = (0, 0);
        while !brought.load(SeqCst) {
            let (requests, tokens) = sums(&store);
            assert_eq!(tokens, requests * i64::from(TOKENS));
            assert!(requests >= known, "{requests} after {known}");
            // A group of the journal is one commit there, and comes over as one.
            assert_eq!(requests % EACH.cast_signed(), 0);
            (known, reads) = (requests, reads + 1);
        }
        reads
    });
    assert!(reads > 0);
    fold(&store, BEGIN + 24 * HOUR);
    let all = (GROUPS * EACH).cast_signed();
    assert_eq!(sums(&store), (all, all * i64::from(TOKENS)));
    assert!(!store.has_waiting().unwrap());
    holds(&store);
}
