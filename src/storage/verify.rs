//! Checks of the books against themselves, in one snapshot, also beside a running gateway.
//!
//! What other books say (Azure's bill, a client's log) is not looked at. Open requests are no mistake: beside a
//! running gateway they are in flight, and without one the next start closes them.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use serde::Serialize;

use super::connection::StoreConnection;
use super::lock::Served;
use super::{StorageError, Store, meta};

/// Examples named per broken rule.
const EXAMPLES: usize = 5;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    pub rules: Vec<Rule>,
    /// Requests looked at.
    pub requests: i64,
    /// Of them still open.
    pub open: i64,
    /// Whether a gateway serves the file at the moment.
    pub gateway_running: bool,
}

/// One thing that must be true.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rule {
    pub name: &'static str,
    /// In words, for people.
    pub says: &'static str,
    /// Where it is not so; empty: it holds.
    pub broken: Vec<String>,
}

/// Each statement yields one text per violation.
const RULES: [(&str, &str, &str); 9] = [
    (
        "file",
        "the database file is whole",
        "SELECT integrity_check AS example FROM pragma_integrity_check WHERE integrity_check <> 'ok'",
    ),
    (
        "references",
        "every attempt belongs to a request, every key's user exists",
        "SELECT 'table ' || \"table\" || ' names a missing row of ' || parent AS example FROM pragma_foreign_key_check",
    ),
    (
        "unique",
        "every request has exactly one row",
        "SELECT 'req_' || lower(hex(id)) AS example FROM requests GROUP BY id HAVING COUNT(*) > 1",
    ),
    (
        "attempts",
        "a request has as many attempts as its row counts, and none twice",
        "SELECT 'req_' || lower(hex(r.id)) AS example FROM requests AS r \
         LEFT JOIN (SELECT request, COUNT(*) AS filed, MAX(n) AS last FROM attempts GROUP BY request) AS a \
         ON a.request = r.id \
         WHERE (a.request IS NULL AND r.attempts > 1) \
         OR a.filed NOT IN (r.attempts, r.attempts - 1) OR a.last <> a.filed - 1",
    ),
    (
        "closed once",
        "a closed request has a state, a status and one set of tokens; a recovered one is marked as estimated",
        "SELECT 'req_' || lower(hex(id)) AS example FROM requests WHERE (state <> 'open' AND state <> 'recovered' \
         AND (status IS NULL OR duration_us IS NULL)) OR (state = 'recovered' AND estimated = 0)",
    ),
    (
        "charged once",
        "the caller is charged nothing for a request whose only attempts Azure bills nothing for",
        "SELECT 'req_' || lower(hex(r.id)) AS example FROM requests AS r WHERE r.state <> 'open' AND r.charge = 'none' \
         AND (r.input_tokens > 0 OR r.output_tokens > 0 OR r.cost > 0) AND NOT EXISTS \
         (SELECT 1 FROM attempts AS a WHERE a.request = r.id AND a.charge <> 'none')",
    ),
    (
        "flat cost",
        "a request that capacity of a flat rate served costs nothing",
        "SELECT 'req_' || lower(hex(id)) AS example FROM requests WHERE flat_cost <> 0 AND cost > 0",
    ),
    (
        "not negative",
        "no count of tokens and no amount of money is below zero, or more cached than there is",
        "SELECT 'req_' || lower(hex(id)) AS example FROM requests WHERE MIN(input_tokens, cached_input_tokens, \
         output_tokens, reasoning_tokens, cost, attempts) < 0 \
         UNION ALL SELECT 'roll-up of hour ' || hour FROM usage_hourly WHERE MIN(requests, input_tokens, \
         cached_input_tokens, output_tokens, reasoning_tokens, cost, errors, cancelled, estimated, flat_cost) < 0",
    ),
    (
        "roll-ups",
        "every roll-up equals the sum of its closed requests",
        "SELECT 'hour ' || datetime(hour / 1000000, 'unixepoch') || ', key key_' || lower(hex(key_id)) || ', model ' \
         || model || ', resource ' || resource AS example FROM ( \
         SELECT hour, key_id, user_id, model, resource, requests, input_tokens, cached_input_tokens, output_tokens, \
         reasoning_tokens, cost, errors, cancelled, estimated, flat_cost FROM usage_hourly \
         UNION ALL \
         SELECT started_at - started_at % 3600000000, key_id, COALESCE(user_id, x''), model, resource, -1, \
         -input_tokens, -cached_input_tokens, -output_tokens, -reasoning_tokens, -cost, \
         -(state = 'failed' OR (state = 'settled' AND status >= 400)), -(state = 'cancelled'), -estimated, -flat_cost \
         FROM requests WHERE state <> 'open') \
         GROUP BY hour, key_id, user_id, model, resource \
         HAVING SUM(requests) <> 0 OR SUM(input_tokens) <> 0 OR SUM(cached_input_tokens) <> 0 \
         OR SUM(output_tokens) <> 0 OR SUM(reasoning_tokens) <> 0 OR SUM(cost) <> 0 OR SUM(errors) <> 0 \
         OR SUM(cancelled) <> 0 OR SUM(estimated) <> 0 OR SUM(flat_cost) <> 0",
    ),
];

#[derive(QueryableByName)]
struct Example {
    #[diesel(sql_type = Text)]
    example: String,
}

#[derive(QueryableByName)]
struct Counts {
    #[diesel(sql_type = BigInt)]
    requests: i64,
    #[diesel(sql_type = BigInt)]
    open: i64,
}

impl Verdict {
    pub fn holds(&self) -> bool {
        self.rules.iter().all(|rule| rule.broken.is_empty())
    }
}

impl Store {
    /// Reads everything: seconds for a large file. Writers are not held up.
    pub fn verify(&self) -> Result<Verdict, StorageError> {
        let gateway_running = self.served() == Served::ByAGateway;
        self.file_reader()?.transaction(|connection| {
            let mut rules = RULES
                .into_iter()
                .map(|(name, says, statement)| {
                    let examples: Vec<Example> = diesel::sql_query(statement).load(connection)?;
                    Ok(Rule { name, says, broken: shorten(examples.into_iter().map(|row| row.example).collect()) })
                })
                .collect::<Result<Vec<_>, StorageError>>()?;
            rules.push(left_open(connection, gateway_running)?);
            let Counts { requests, open } = diesel::sql_query(
                "SELECT COUNT(*) AS requests, COUNT(*) FILTER (WHERE state = 'open') AS open FROM requests",
            )
            .get_result(connection)?;
            Ok(Verdict { rules, requests, open, gateway_running })
        })
    }
}

/// A running gateway closed everything older than itself before it took its first request.
fn left_open(connection: &mut StoreConnection, gateway_running: bool) -> Result<Rule, StorageError> {
    let started_at: i64 = if gateway_running {
        meta::get(connection, meta::STARTED_AT)?.and_then(|text| text.parse().ok()).unwrap_or(i64::MIN)
    } else {
        i64::MIN
    };
    let examples: Vec<Example> = diesel::sql_query(
        "SELECT 'req_' || lower(hex(id)) AS example FROM requests WHERE state = 'open' AND started_at < ?",
    )
    .bind::<BigInt, _>(started_at)
    .load(connection)?;
    Ok(Rule {
        name: "recovered",
        says: "no request is open from before the running gateway's start",
        broken: shorten(examples.into_iter().map(|row| row.example).collect()),
    })
}

fn shorten(mut examples: Vec<String>) -> Vec<String> {
    let more = examples.len().saturating_sub(EXAMPLES);
    if more > 0 {
        examples.truncate(EXAMPLES);
        examples.push(format!("and {more} more"));
    }
    examples
}

#[cfg(test)]
mod tests {
    use diesel::connection::SimpleConnection;

    use super::*;
    use crate::settings::model::Durability;
    use crate::storage::ledger::LedgerEntry;
    use crate::storage::samples::{intent, settled};

    #[track_caller]
    fn check(damage: &str, expected: &[&str]) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("gateway.db"), Durability::Process).unwrap();
        let batch = vec![settled(&intent(1), 5), LedgerEntry::Intent(intent(2))];
        store.journal().unwrap().append(&[batch]).unwrap();
        store
            .writer()
            .unwrap()
            .batch_execute(&format!("PRAGMA foreign_keys = OFF; PRAGMA ignore_check_constraints = ON; {damage}"))
            .unwrap();
        let verdict = store.verify().unwrap();
        let broken: Vec<_> =
            verdict.rules.iter().filter(|rule| !rule.broken.is_empty()).map(|rule| rule.name).collect();
        assert_eq!(broken, expected, "{verdict:?}");
        assert_eq!((verdict.requests, verdict.open, verdict.gateway_running), (2, 1, true));
    }

    #[test]
    fn every_kind_of_damage_is_found() {
        check("", &[]);
        check("UPDATE requests SET started_at = 1 WHERE state = 'open'", &["recovered"]);
        check("UPDATE requests SET output_tokens = 6 WHERE state = 'settled'", &["roll-ups"]);
        check("UPDATE usage_hourly SET resource = 'x'", &["roll-ups"]);
        check("UPDATE usage_hourly SET flat_cost = 1", &["roll-ups"]);
        check("UPDATE requests SET flat_cost = 1 WHERE state = 'settled'", &["flat cost", "roll-ups"]);
        check("UPDATE requests SET status = NULL", &["closed once"]);
        check("UPDATE requests SET attempts = 3", &["attempts"]);
        check("UPDATE requests SET charge = 'none' WHERE state = 'settled'", &["charged once"]);
        check("UPDATE requests SET cost = -1 WHERE state = 'settled'", &["file", "not negative", "roll-ups"]);
        let orphan = "INSERT INTO attempts VALUES (x'00000000000000000000000000000009', 0, 'r', 'd', 200, 'served', 1, \
                      0, 0, 0, 0, 'none', NULL)";
        check(orphan, &["references"]);
    }
}
