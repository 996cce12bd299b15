//! The way of the journal's rows into the shared database: what is refused, what was brought over by an older copy of the
//! journal, what was there before there was a server, how much may wait, and that `verify` sees what is wrong.

use aoai_gateway::domain::money::Tariff;
use aoai_gateway::domain::usage::{Charge, Usage};
use aoai_gateway::settings::model::Durability;
use aoai_gateway::simulator::Knobs;
use aoai_gateway::storage::ledger::{AttemptRecord, LedgerEntry};
use aoai_gateway::storage::{Step, StorageError, Store};
use diesel::connection::SimpleConnection;
use diesel::sql_types::BigInt;
use diesel::{PgConnection, QueryableByName, RunQueryDsl};

use super::reading::{BEGIN, bring, intent, journal, settled, sums};
use super::{CHAT, on, projected, region, replica};
use crate::support::gateway::{TestGateway, eventually};
use crate::support::postgres::{self, Server};
use crate::support::process::{Estate, Gateway};
use crate::support::sqlite;

fn count(connection: &mut PgConnection, table: &str) -> i64 {
    #[derive(QueryableByName)]
    struct Count {
        #[diesel(sql_type = BigInt)]
        count: i64,
    }
    diesel::sql_query(format!("SELECT COUNT(*) AS count FROM {table}")).get_result::<Count>(connection).unwrap().count
}

fn broken(store: &Store) -> Vec<&'static str> {
    let verdict = store.verify().unwrap();
    verdict.rules.iter().filter(|rule| !rule.broken.is_empty()).map(|rule| rule.name).collect()
}

#[test]
fn verify_finds_what_the_shared_database_has_otherwise() {
    let (url, azure) = (postgres::database(), region());
    let gateway = replica(&url, azure.addr());
    for _ in 0..3 {
        gateway.chat(CHAT).expect(200);
    }
    projected(&gateway, 3);
    let mut postgres = postgres::connect(&url);
    let mut check = |damage: &str, expected: &[&str], repair: &str| {
        assert_eq!(broken(&gateway.house.store), [""; 0]);
        postgres.batch_execute(damage).unwrap();
        assert_eq!(broken(&gateway.house.store), expected, "{damage}");
        postgres.batch_execute(repair).unwrap();
    };
    check(
        "UPDATE requests SET duration_us = duration_us + 1",
        &["projection"],
        "UPDATE requests SET duration_us = duration_us - 1",
    );
    check(
        "UPDATE prices SET output = output + 1, input = input + 1",
        &["shared prices"],
        "UPDATE prices SET output = output - 1, input = input - 1",
    );
    check("UPDATE usage_hourly SET cost = cost + 1", &["shared roll-ups"], "UPDATE usage_hourly SET cost = cost - 1");
    check(
        "CREATE TABLE aside AS SELECT * FROM requests LIMIT 1; DELETE FROM requests WHERE id = (SELECT id FROM aside)",
        &["projection", "shared roll-ups"],
        "INSERT INTO requests SELECT * FROM aside",
    );
}

#[test]
fn a_row_that_the_database_refuses_holds_up_no_other() {
    let (url, azure) = (postgres::database(), region());
    let mut gateway = replica(&url, azure.addr());
    gateway.chat(CHAT).expect(200);
    projected(&gateway, 1);
    let mut postgres = postgres::connect(&url);
    postgres.batch_execute("ALTER TABLE requests ADD CONSTRAINT whole CHECK (stream = false)").unwrap();
    let streamed = CHAT.replace("\"max", "\"stream\":true,\"max");
    for body in [CHAT, &streamed, CHAT, &streamed, CHAT] {
        gateway.chat(body).expect(200);
    }
    projected(&gateway, 4);
    gateway.settle();
    assert_eq!(count(&mut postgres, "requests"), 4);
    // With the next start they are tried again.
    postgres.batch_execute("ALTER TABLE requests DROP CONSTRAINT whole").unwrap();
    gateway.stop();
    let store = gateway.house.store.clone();
    let mut projection = store.projection().unwrap().unwrap();
    while projection.step().unwrap().done > 0 {}
    assert_eq!(count(&mut postgres, "requests"), 6);
}

/// As a gateway that froze in the middle of a batch holds one.
#[test]
fn a_lock_that_somebody_holds_is_no_fault_of_a_row() {
    let (url, azure) = (postgres::database(), region());
    let gateway = replica(&url, azure.addr());
    gateway.chat(CHAT).expect(200);
    projected(&gateway, 1);
    let mut postgres = postgres::connect(&url);
    postgres.batch_execute("BEGIN; LOCK TABLE usage_hourly IN EXCLUSIVE MODE").unwrap();
    gateway.chat(CHAT).expect(200);
    let backlog = &gateway.books.projector.as_ref().unwrap().backlog;
    eventually(|| match backlog.errors_total() {
        0 => Err("nothing has failed".to_owned()),
        _ => Ok(()),
    });
    postgres.batch_execute("COMMIT").unwrap();
    projected(&gateway, 2);
}

/// A disk that is full, for one.
#[test]
fn a_server_that_takes_nothing_at_all_refuses_no_row() {
    let (url, folder) = (postgres::database(), tempfile::tempdir().unwrap());
    let store = journal(&folder, &url);
    let mut projection = store.projection().unwrap().unwrap();
    let book = |rows: std::ops::Range<u64>| {
        store.journal().unwrap().append(&[rows.map(|n| settled(intent(BEGIN, n))).collect()]).unwrap();
    };
    book(0..3);
    bring(&mut projection);
    let mut postgres = postgres::connect(&url);
    let full = "CREATE FUNCTION is_full() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
        RAISE EXCEPTION USING ERRCODE = '53100', MESSAGE = 'no space left on device'; END $$; \
        CREATE TRIGGER full_disk BEFORE INSERT ON requests FOR EACH STATEMENT EXECUTE FUNCTION is_full(); \
        CREATE TRIGGER full_disk BEFORE UPDATE ON applied FOR EACH STATEMENT EXECUTE FUNCTION is_full()";
    postgres.batch_execute(full).unwrap();
    book(3..6);
    assert!(projection.step().is_err() && projection.step().is_err());
    postgres.batch_execute("DROP FUNCTION is_full CASCADE").unwrap();
    bring(&mut projection);
    assert!(!store.has_waiting().unwrap());
    assert_eq!((count(&mut postgres, "requests"), sums(&store).0), (6, 6));
    assert_eq!(broken(&store), [""; 0]);
}

/// At the next start, and before anything new.
#[test]
fn what_a_crash_left_open_is_brought_over_as_it_was_closed() {
    let (url, folder) = (postgres::database(), tempfile::tempdir().unwrap());
    let store = journal(&folder, &url);
    let mut projection = store.projection().unwrap().unwrap();
    store.journal().unwrap().append(&[vec![LedgerEntry::Intent(intent(BEGIN, 1))]]).unwrap();
    bring(&mut projection);
    assert_eq!(sums(&store).0, 0);
    assert_eq!(store.recover(|_| Tariff::Flat).unwrap(), 1);
    bring(&mut projection);
    assert_eq!(sums(&store).0, 1);
    assert_eq!(broken(&store), [""; 0]);
}

/// A journal that has lost its name sends all it has, and what is there already adds to no sum.
#[test]
fn what_is_there_already_is_not_counted_again() {
    let (url, azure) = (postgres::database(), region());
    let mut gateway = replica(&url, azure.addr());
    for _ in 0..3 {
        gateway.chat(CHAT).expect(200);
    }
    projected(&gateway, 3);
    gateway.settle();
    gateway.stop();
    let store = gateway.house.store.clone();
    let mut journal = sqlite::connect(store.path());
    journal.batch_execute("DELETE FROM meta WHERE name = 'replica'").unwrap();
    let mut projection = store.projection().unwrap().unwrap();
    let mut sent = 0;
    eventually(|| {
        sent += projection.step().unwrap().done;
        if sent >= 3 { Ok(()) } else { Err(format!("{sent} rows were sent")) }
    });
    assert_eq!(broken(&store), [""; 0]);
    assert_eq!(count(&mut postgres::connect(&url), "applied"), 2);
}

/// The attempts before the last one are rows of their own.
#[test]
fn what_is_there_already_is_taken_again_with_its_attempts() {
    let (url, folder) = (postgres::database(), tempfile::tempdir().unwrap());
    let store = journal(&folder, &url);
    let retried = |n| {
        let LedgerEntry::Settled(intent, mut end) = settled(intent(BEGIN, n)) else { unreachable!() };
        let refused = AttemptRecord { usage: Usage::default(), charge: Charge::None, ..end.attempts[0].clone() };
        end.attempts.insert(0, refused);
        LedgerEntry::Settled(intent, end)
    };
    store.journal().unwrap().append(&[(0..3).map(retried).collect()]).unwrap();
    bring(&mut store.projection().unwrap().unwrap());
    let mut file = sqlite::connect(store.path());
    file.batch_execute("DELETE FROM meta WHERE name = 'replica'").unwrap();
    let mut projection = store.projection().unwrap().unwrap();
    assert_eq!(projection.step().unwrap(), Step { done: 3, refused: 0 });
    assert_eq!(count(&mut postgres::connect(&url), "attempts"), 3);
    assert_eq!(broken(&store), [""; 0]);
}

/// A backup of the journal is brought back: its numbers have been used before, for other rows.
#[test]
fn a_journal_from_a_backup_loses_nothing_and_counts_nothing_twice() {
    let (server, estate) = (Server::start(), Estate::new(&Knobs::default(), ""));
    let url = server.database();
    estate.share(&url);
    let key = estate.add_key("key");
    let all_there = |gateway: &Gateway, wanted: usize| {
        eventually(|| {
            let rows = gateway.admin("/admin/v1/requests?limit=200").expect(200).json();
            let rows = rows["data"].as_array().unwrap().len();
            if rows == wanted { Ok(()) } else { Err(format!("{rows} requests are there, not {wanted}")) }
        });
    };
    let gateway = estate.start();
    for _ in 0..3 {
        gateway.chat(&key, super::CHAT).expect(200);
    }
    all_there(&gateway, 3);
    gateway.stop();
    let (journal, backup) = (estate.folder().join("journal.db"), estate.folder().join("backup.db"));
    std::fs::copy(&journal, &backup).unwrap();
    let gateway = estate.start();
    for _ in 0..5 {
        gateway.chat(&key, super::CHAT).expect(200);
    }
    all_there(&gateway, 8);
    gateway.stop();
    std::fs::copy(&backup, &journal).unwrap();
    let gateway = estate.start();
    for _ in 0..2 {
        gateway.chat(&key, super::CHAT).expect(200);
    }
    all_there(&gateway, 10);
    estate.run(&["verify"]);
    gateway.stop();
    assert_eq!(count(&mut postgres::connect(&url), "applied"), 2);
}

/// Somebody starts a gateway on a copy of a journal whose own gateway only slept. The one must not take the other's rows for
/// its own, because their numbers are the same.
#[test]
fn two_gateways_with_the_same_journal_lose_nothing() {
    let (url, folder, other) = (postgres::database(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = journal(&folder, &url);
    let mut first = store.projection().unwrap().unwrap();
    let book = |store: &Store, rows: std::ops::Range<u64>| {
        store.journal().unwrap().append(&[rows.map(|n| settled(intent(BEGIN, n))).collect()]).unwrap();
    };
    book(&store, 0..1);
    bring(&mut first);
    store.backup(&other.path().join("journal.db")).unwrap();
    let copy = journal(&other, &url);
    let mut second = copy.projection().unwrap().unwrap();
    assert_eq!(second.replica().id, first.replica().id);
    book(&copy, 1..4);
    bring(&mut second);
    book(&store, 4..6);
    assert!(matches!(first.step(), Err(StorageError::Superseded)));
    eventually(|| {
        first.step().unwrap();
        if store.has_waiting().unwrap() { Err("rows are left".to_owned()) } else { Ok(()) }
    });
    assert_ne!(second.replica().id, first.replica().id, "it goes by another name");
    book(&copy, 6..7);
    bring(&mut second);
    assert_eq!(sums(&store).0, 7);
    assert_eq!((broken(&store), broken(&copy)), (vec![], vec![]));
}

#[test]
fn what_a_file_had_before_there_was_a_server_is_brought_over() {
    let (url, azure) = (postgres::database(), region());
    let mut alone = TestGateway::with(|estate| {
        estate.azure("east", azure.addr());
    });
    for _ in 0..3 {
        alone.chat(CHAT).expect(200);
    }
    alone.stop();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    std::fs::copy(alone.database(), &path).unwrap();
    let mut settings = aoai_gateway::settings::model::Settings::default();
    settings.database.path = path;
    settings.database.server = Some(aoai_gateway::domain::secret::Secret::new(url.as_str()));
    let store = Store::open(&settings.database, Durability::Process).unwrap();
    let mut projection = store.projection().unwrap().unwrap();
    while projection.step().unwrap().done > 0 {}
    assert_eq!(count(&mut postgres::connect(&url), "requests"), 3);
    assert_eq!(broken(&store), [""; 0]);
}

#[test]
fn when_too_many_rows_wait_requests_are_refused_until_they_do_not() {
    let (server, azure) = (Server::start(), region());
    let url = server.database();
    let gateway = TestGateway::with(|estate| {
        on(estate, &url, azure.addr());
        estate.0.accounting.backlog = 10;
    });
    gateway.chat(CHAT).expect(200);
    projected(&gateway, 1);
    server.stop();
    let mut served = 0;
    eventually(|| match gateway.chat(CHAT).status {
        503 => Ok(()),
        status => {
            assert_eq!(status, 200);
            served += 1;
            Err(format!("{served} requests were served"))
        }
    });
    assert!(served > 10, "{served}");
    assert_eq!(gateway.get("/readyz").status, 503);
    server.restart();
    eventually(|| match gateway.chat(CHAT).status {
        200 => Ok(()),
        status => Err(format!("it still answers {status}")),
    });
    projected(&gateway, served + 2);
}
