//! Old requests leave the shared database, by the hand of one gateway at a time; their sums stay, and the books hold.

use std::time::Duration;

use aoai_gateway::domain::time::{WallTime, wall_now};
use aoai_gateway::storage::ledger::Intent;
use aoai_gateway::storage::retention::{Step, Sweep};
use diesel::connection::SimpleConnection;
use serde_json::Value;

use super::reading::{BEGIN, HOUR, bring, intent, journal, settled};
use super::{CHAT, on, projected, region, replica};
use crate::support::gateway::{TestGateway, eventually};
use crate::support::postgres::{self, Server};

fn usage(gateway: &TestGateway) -> Value {
    gateway.admin("GET", "/usage?group_by=key,model,resource", "").expect(200).json()
}

#[track_caller]
fn holds(gateway: &TestGateway) {
    let verdict = gateway.house.store.verify().unwrap();
    assert!(verdict.holds(), "{:#?}", verdict.rules);
}

#[test]
fn a_gateway_that_keeps_less_removes_what_others_brought_and_no_sums() {
    let (url, azure) = (postgres::database(), region());
    let first = replica(&url, azure.addr());
    for _ in 0..3 {
        first.chat(CHAT).expect(200);
    }
    projected(&first, 3);
    let before = usage(&first);
    // It looks when it starts.
    let second = TestGateway::with(|estate| {
        on(estate, &url, azure.addr());
        estate.0.accounting.keep_requests = Some(Duration::from_millis(1));
    });
    eventually(|| match first.rows().len() {
        0 => Ok(()),
        rows => Err(format!("{rows} requests are there")),
    });
    assert_eq!(usage(&first), before);
    // The first one's journal still has its rows: they are not missing there.
    holds(&first);
    holds(&second);
    first.chat(CHAT).expect(200);
    projected(&first, 1);
    holds(&first);

    // What somebody removes by hand is missing, and so is a sum.
    let mut postgres = postgres::connect(&url);
    let broken = |gateway: &TestGateway| -> Vec<&'static str> {
        let verdict = gateway.house.store.verify().unwrap();
        verdict.rules.iter().filter(|rule| !rule.broken.is_empty()).map(|rule| rule.name).collect()
    };
    postgres.batch_execute("CREATE TABLE aside AS SELECT * FROM requests; DELETE FROM requests").unwrap();
    assert_eq!(broken(&first), ["projection"]);
    postgres.batch_execute("INSERT INTO requests SELECT * FROM aside; UPDATE usage_hourly SET requests = 0").unwrap();
    assert_eq!(broken(&first), ["shared roll-ups"]);
    postgres.batch_execute("UPDATE usage_hourly SET requests = 4").unwrap();
    holds(&first);
}

#[test]
fn one_gateway_at_a_time_removes_old_requests() {
    let (url, azure) = (postgres::database(), region());
    let (one, two) = (replica(&url, azure.addr()), replica(&url, azure.addr()));
    one.chat(CHAT).expect(200);
    projected(&one, 1);
    // Of a period that is over, of one that never ends, and of one that may not be over.
    let present = wall_now().before(Duration::from_secs(30 * 24 * 3600)).0;
    let owner = "decode(repeat('00', 16), 'hex')";
    let mut postgres = postgres::connect(&url);
    for period in [1, 0, present] {
        let noted = format!(
            "INSERT INTO quota_alarms VALUES ({owner}, {period}, 80, 1, 1);
             INSERT INTO quota_lent VALUES ({owner}, {period}, 1, 1, 0, 0);
             INSERT INTO quota_leases VALUES ({owner}, {period}, {owner}, 1, 1)"
        );
        postgres.batch_execute(&noted).unwrap();
    }
    let (ours, theirs) = (&one.house.store, &two.house.store);
    // The gateways themselves look when they start.
    let mut sweep = eventually(|| ours.sweep_shared(wall_now()).unwrap().ok_or("somebody is at it".to_owned()));
    assert!(theirs.sweep_shared(wall_now()).unwrap().is_none());
    assert_eq!(sweep.step().unwrap(), Step::Removed(1));
    assert!(theirs.sweep_shared(wall_now()).unwrap().is_none(), "between two steps, too");
    assert_eq!(sweep.step().unwrap(), Step::Done);
    drop(sweep);
    let mut sweep = eventually(|| theirs.sweep_shared(wall_now()).unwrap().ok_or("somebody is at it".to_owned()));
    assert_eq!(sweep.step().unwrap(), Step::Done);
    #[derive(diesel::QueryableByName)]
    struct Period {
        #[diesel(sql_type = diesel::sql_types::BigInt)]
        period: i64,
    }
    for table in ["quota_alarms", "quota_lent", "quota_leases"] {
        let left = diesel::sql_query(format!("SELECT period FROM {table} ORDER BY period"));
        let left: Vec<Period> = diesel::RunQueryDsl::load(left, &mut postgres).unwrap();
        assert_eq!(left.iter().map(|row| row.period).collect::<Vec<_>>(), [0, present], "{table}");
    }
}

/// Ids follow the system's clock, which may have jumped.
#[test]
fn what_began_later_than_its_id_says_is_kept_there() {
    let (url, folder) = (postgres::database(), tempfile::tempdir().unwrap());
    let store = journal(&folder, &url);
    let mut projection = store.projection().unwrap().unwrap();
    let young = Intent { started_at: WallTime(BEGIN + 2 * HOUR), ..(*intent(BEGIN, 1)).clone() };
    let rows = vec![settled(intent(BEGIN, 0)), settled(young.into())];
    store.journal().unwrap().append(&[rows]).unwrap();
    bring(&mut projection);
    let mut pass = store.sweep_shared(WallTime(BEGIN + HOUR)).unwrap().unwrap();
    assert_eq!((pass.step().unwrap(), pass.step().unwrap()), (Step::Removed(1), Step::Done));
    let verdict = store.verify().unwrap();
    assert!(verdict.holds(), "{:#?}", verdict.rules);
}

/// Else it would be in no sum of the shared database.
#[test]
fn what_the_shared_database_does_not_have_yet_stays_in_the_journal() {
    let (server, azure) = (Server::start(), region());
    let url = server.database();
    let gateway = replica(&url, azure.addr());
    let store = &gateway.house.store;
    let brought_over = |requests: usize| {
        projected(&gateway, requests);
        eventually(|| match store.has_waiting().unwrap() {
            false => Ok(()),
            true => Err("rows are still on the list".to_owned()),
        });
    };
    let remove = || {
        let (mut pass, mut removed) = (Sweep::new(wall_now()), 0);
        while let Step::Removed(rows) = store.remove_old(&mut pass).unwrap() {
            removed += rows;
        }
        removed
    };
    gateway.chat(CHAT).expect(200);
    brought_over(1);
    server.stop();
    for _ in 0..3 {
        gateway.chat(CHAT).expect(200);
    }
    assert_eq!(remove(), 1, "those that wait stay");
    server.restart();
    brought_over(4);
    holds(&gateway);
    assert_eq!(remove(), 3);
    holds(&gateway);
    let requests: i64 =
        usage(&gateway)["data"].as_array().unwrap().iter().map(|line| line["requests"].as_i64().unwrap()).sum();
    assert_eq!(requests, 4);
}
