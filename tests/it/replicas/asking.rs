//! How often a gateway asks the server for a part of a quota that has nothing left.

use diesel::connection::SimpleConnection;
use diesel::sql_types::BigInt;
use diesel::{PgConnection, QueryableByName, RunQueryDsl};
use serde_json::json;

use super::alarms::ask_for;
use super::replica;
use crate::support::answers::answered;
use crate::support::fake_azure::{FakeAzure, Script};
use crate::support::gateway::eventually;
use crate::support::postgres;

/// Only a question begins the account of a quota's period, or tries to.
const NOTE: &str = "CREATE TABLE asked (at BIGINT NOT NULL); \
    CREATE FUNCTION note_question() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
    INSERT INTO asked VALUES (CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)); RETURN NULL; END $$; \
    CREATE TRIGGER questions AFTER INSERT ON quota_lent FOR EACH STATEMENT EXECUTE FUNCTION note_question()";
/// For all of it, for what must be there, and for that again where nobody else has a claim.
const ROUND: usize = 3;

#[derive(QueryableByName)]
struct Question {
    #[diesel(sql_type = BigInt)]
    at: i64,
}

/// When it was asked, by its own clock.
fn asked(observer: &mut PgConnection) -> Vec<i64> {
    let all: Vec<Question> = diesel::sql_query("SELECT at FROM asked ORDER BY at").load(observer).unwrap();
    all.into_iter().map(|question| question.at).collect()
}

#[test]
fn a_lender_that_has_nothing_left_is_asked_once_a_second_and_for_less_at_once() {
    let (url, azure) = (postgres::database(), FakeAzure::start(Script::always(answered())));
    let gateway = replica(&url, azure.address());
    let mut observer = postgres::connect(&url);
    observer.batch_execute(NOTE).unwrap();
    let limits = json!({ "rpm": "unlimited", "tpm": "unlimited", "concurrency": "unlimited" });
    let quota = json!({ "period": "month", "tokens": 100 });
    let (_, secret) = gateway.new_key(json!({ "quota": quota, "limits": limits }));
    let mut refused = 0;
    eventually(|| {
        assert_eq!(ask_for(&gateway, &secret, 800), 429);
        refused += 1;
        match asked(&mut observer).len() {
            questions if questions >= 3 * ROUND => Ok(()),
            questions => Err(format!("{refused} refused, {questions} questions")),
        }
    });
    let at = asked(&mut observer);
    let gaps: Vec<_> = at.windows(ROUND + 1).map(|round| round[ROUND] - round[0]).collect();
    assert!(gaps.iter().all(|gap| *gap > 900_000), "{refused} refused, microseconds between rounds: {gaps:?}");
    // A smaller one may fit.
    assert_eq!(ask_for(&gateway, &secret, 5), 200);
}
