//! Who changed what is forgotten in the shared database after a time, by whichever gateway comes first, and a row says so.

use std::sync::Barrier;
use std::time::Duration;

use aoai_gateway::domain::ids::AuditId;
use aoai_gateway::domain::time::{WallTime, wall_now};
use aoai_gateway::storage::Store;
use aoai_gateway::storage::audit::{AuditFilter, AuditRow, By};
use aoai_gateway::storage::page::PageSize;
use diesel::PgConnection;
use diesel::connection::SimpleConnection;

use super::{on, region, replica};
use crate::support::gateway::{TestGateway, eventually};
use crate::support::postgres;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A user who was made so many days ago.
fn made(store: &Store, postgres: &mut PgConnection, days: u32) -> String {
    let name = format!("{days} days ago");
    store.create_user(&name, &By::local()).unwrap();
    let at: WallTime = wall_now().before(DAY * days);
    let id = AuditId::before(at).0.simple();
    let sql = format!(
        "UPDATE audit SET at = {}, id = decode('{id}', 'hex') WHERE action = 'user.created' AND after LIKE '%\"{name}\"%'",
        at.0
    );
    postgres.batch_execute(&sql).unwrap();
    name
}

fn audit(store: &Store, action: &str) -> Vec<AuditRow> {
    let filter = AuditFilter { action: Some(action.to_owned()), ..AuditFilter::default() };
    store.audit(&filter, None, PageSize::new(200)).unwrap().data
}

fn users(store: &Store) -> Vec<String> {
    let name = |row: AuditRow| row.after.unwrap()["name"].as_str().unwrap().to_owned();
    audit(store, "user.created").into_iter().map(name).collect()
}

/// How many rows the rows of the audit say were removed, each.
fn said(store: &Store) -> Vec<u64> {
    audit(store, "audit.trimmed").into_iter().map(|row| row.after.unwrap()["removed"].as_u64().unwrap()).collect()
}

#[test]
fn two_gateways_remove_old_changes_once() {
    let (url, azure) = (postgres::database(), region());
    let (one, two) = (replica(&url, azure.addr()), replica(&url, azure.addr()));
    let (ours, theirs) = (&one.house.store, &two.house.store);
    let mut postgres = postgres::connect(&url);
    for days in [10, 40, 50, 60] {
        made(ours, &mut postgres, days);
    }
    let before = wall_now().before(DAY * 30);
    assert_eq!(ours.remove_old_changes(wall_now().before(DAY * 61)).unwrap(), 0);
    assert_eq!((users(theirs).len(), said(theirs)), (4, vec![]), "nothing was old enough");
    let together = Barrier::new(2);
    let removed: usize = std::thread::scope(|scope| {
        let both = [ours, theirs].map(|store| {
            let together = &together;
            scope.spawn(move || {
                together.wait();
                store.remove_old_changes(before).unwrap()
            })
        });
        both.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!((removed, said(ours)), (3, vec![3]));
    assert_eq!(users(theirs), ["10 days ago"]);
    assert_eq!(theirs.remove_old_changes(before).unwrap(), 0);
    assert_eq!(said(theirs), [3], "what says so is not old itself");
    // Other changes are younger, and what the old ones were about is still there.
    assert!(!audit(ours, "key.created").is_empty());
    let names = one.admin("GET", "/users?limit=200", "").expect(200);
    assert!(["10", "40", "50", "60"].iter().all(|days| names.text().contains(&format!("{days} days ago"))));
}

#[test]
fn a_gateway_that_keeps_less_trims_the_shared_audit_when_it_starts() {
    let (url, azure) = (postgres::database(), region());
    let first = replica(&url, azure.addr());
    let mut postgres = postgres::connect(&url);
    for days in [3, 4, 5] {
        made(&first.house.store, &mut postgres, days);
    }
    let _second = TestGateway::with(|estate| {
        on(estate, &url, azure.addr());
        estate.0.accounting.keep_audit = Some(DAY * 7 / 2);
    });
    eventually(|| match said(&first.house.store) {
        said if said == [2] => Ok(()),
        said => Err(format!("{said:?}")),
    });
    assert_eq!(users(&first.house.store), ["3 days ago"]);
}
