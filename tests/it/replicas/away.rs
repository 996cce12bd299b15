//! The database stops, hangs and loses connections while requests go on: none is refused for it, and when it is back it
//! has every one of them, once, as the region's own journal has it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use aoai_gateway::simulator::{Knobs, Simulator};

use super::{CHAT, projected_within, region, replica};
use crate::support::client::PATIENCE;
use crate::support::gateway::{TestGateway, eventually, eventually_within};
use crate::support::postgres::Server;
use crate::support::{process, variable};

/// How long an outage lasts at least, in seconds: `OUTAGE=120` makes it two minutes.
pub(super) fn lasting() -> Duration {
    Duration::from_secs(variable("OUTAGE", 0))
}

/// Sends requests from several clients for as long as `meanwhile` runs; gives how many were answered, all with 200.
pub(super) fn under_load(gateway: &TestGateway, meanwhile: impl FnOnce(&AtomicU64)) -> usize {
    let (done, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let (done, answered) = (&done, &answered);
            scope.spawn(move || {
                let body =
                    if worker % 2 == 0 { CHAT.to_owned() } else { CHAT.replace("\"max", "\"stream\":true,\"max") };
                let mut client = gateway.client();
                while !done.load(Relaxed) {
                    client.send(gateway.chat_request(&body)).answer().expect(200);
                    answered.fetch_add(1, Relaxed);
                    if !lasting().is_zero() {
                        // bounded: a pace of a hundred requests a second that minutes can be kept up with
                        std::thread::sleep(Duration::from_millis(40));
                    }
                }
            });
        }
        // Also when it panics, so that the others end.
        struct End<'a>(&'a AtomicBool);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.store(true, Relaxed);
            }
        }
        let _end = End(&done);
        meanwhile(&answered);
    });
    answered.into_inner() as usize
}

/// Waits for so many more answers: time measured in work.
#[track_caller]
pub(super) fn some_more(answered: &AtomicU64, count: u64) {
    let before = answered.load(Relaxed);
    eventually(|| match answered.load(Relaxed) - before {
        more if more >= count => Ok(()),
        more => Err(format!("{more} requests were answered meanwhile, not {count}")),
    });
}

/// Waits until the outage has lasted long enough, and so many more requests were answered in it.
#[track_caller]
pub(super) fn meanwhile(answered: &AtomicU64, count: u64) {
    let (before, began) = (answered.load(Relaxed), Instant::now());
    eventually_within(PATIENCE + lasting(), || match answered.load(Relaxed) - before {
        more if more >= count && began.elapsed() >= lasting() => Ok(()),
        more => Err(format!("{more} requests were answered meanwhile, not {count}")),
    });
}

/// The shared database gets all that were answered, and has what the region was asked, and nothing twice.
pub(super) fn has_them_all(gateway: &TestGateway, azure: &Simulator, answered: usize) {
    let began = Instant::now();
    projected_within(PATIENCE + lasting(), gateway, answered);
    println!("{answered} requests answered; all in the shared database {:.1?} later", began.elapsed());
    equals_the_regions_journal(gateway, azure);
}

/// The shared database has what the region was asked, and nothing twice.
fn equals_the_regions_journal(gateway: &TestGateway, azure: &Simulator) {
    let (rows, entries) = (gateway.all_rows(), azure.control().journal());
    let upstream: BTreeSet<_> = rows.iter().filter_map(|row| row.attempts.last()?.upstream_id.clone()).collect();
    let asked: BTreeSet<_> = entries.iter().map(|entry| entry.apim_request_id.clone()).collect();
    assert_eq!(upstream, asked);
    assert_eq!((rows.len(), asked.len()), (entries.len(), entries.len()));
    let tokens: i64 = rows.iter().map(|row| row.input_tokens + row.output_tokens).sum();
    let charged: u64 = entries.iter().map(|entry| entry.prompt_tokens + entry.completion_tokens).sum();
    assert_eq!(tokens.unsigned_abs(), charged);
}

#[test]
fn while_it_is_stopped_requests_are_served_and_afterwards_it_has_them_all() {
    let (server, azure) = (Server::start(), region());
    let gateway = replica(&server.database(), azure.addr());
    let answered = under_load(&gateway, |answered| {
        some_more(answered, 50);
        server.stop();
        meanwhile(answered, 200);
        assert!(gateway.get("/readyz").text().contains("\"database\":\"away"));
        server.restart();
        some_more(answered, 50);
    });
    has_them_all(&gateway, &azure, answered);
}

#[test]
fn while_it_hangs_requests_are_served_and_afterwards_it_has_them_all() {
    let (server, azure) = (Server::start(), region());
    let gateway = replica(&server.database(), azure.addr());
    let answered = under_load(&gateway, |answered| {
        some_more(answered, 50);
        server.freeze();
        meanwhile(answered, 300);
        server.thaw();
        some_more(answered, 50);
    });
    has_them_all(&gateway, &azure, answered);
}

#[test]
fn a_gateway_that_starts_without_it_knows_the_keys_of_before_and_brings_its_books_over_later() {
    let (server, estate) = (Server::start(), process::Estate::new(&Knobs::default(), ""));
    estate.share(&server.database());
    let (first, refused) = (estate.add_key("first"), estate.add_key("revoked"));
    let gateway = estate.start();
    gateway.chat(&first, CHAT).expect(200);
    estate.run(&["keys", "revoke", "revoked"]);
    eventually(|| match gateway.chat(&refused, CHAT).status {
        401 => Ok(()),
        status => Err(format!("the revoked key gets {status}")),
    });
    server.stop();
    gateway.chat(&first, CHAT).expect(200);
    gateway.kill();

    let mut gateway = estate.start();
    assert!(gateway.said().iter().any(|line| line.contains("starting with the copy of the keys")));
    gateway.chat(&first, CHAT).expect(200);
    gateway.chat(&refused, CHAT).expect(401);
    eventually(|| match gateway.metric("aoai_gateway_ledger_unprojected") {
        0.0 => Err("no row waits for the shared database".to_owned()),
        _ => Ok(()),
    });
    server.restart();
    eventually(|| match gateway.metric("aoai_gateway_ledger_unprojected") {
        0.0 => Ok(()),
        rows => Err(format!("{rows} rows are not in the shared database")),
    });
    let rows = gateway.admin("/admin/v1/requests?limit=200").expect(200).json();
    assert_eq!(rows["data"].as_array().unwrap().len(), estate.journals().len());
    estate.run(&["verify"]);
    gateway.signal("TERM");
    assert_eq!(gateway.ended().code, Some(0));
}

#[test]
fn a_database_that_hangs_keeps_nobody_from_ending() {
    let (server, estate) = (Server::start(), process::Estate::new(&Knobs::default(), ""));
    estate.share(&server.database());
    let key = estate.add_key("key");
    let gateway = estate.start();
    server.freeze();
    gateway.chat(&key, CHAT).expect(200);
    gateway.admin("/admin/v1/keys").expect(503);
    gateway.signal("TERM");
    assert_eq!(gateway.ended().code, Some(0));
    server.thaw();
    let gateway = estate.start();
    eventually(|| {
        let rows = gateway.admin("/admin/v1/requests").expect(200).json();
        let count = rows["data"].as_array().unwrap().len();
        if count == 1 { Ok(()) } else { Err(format!("{count} requests are there, not the one of before")) }
    });
}

#[test]
fn without_it_and_without_a_copy_a_start_says_what_is_wrong() {
    let (server, estate) = (Server::start(), process::Estate::new(&Knobs::default(), ""));
    estate.share(&server.database());
    estate.run(&["check", "--online"]);
    server.stop();
    estate.run(&["check"]);
    let online = estate.command(&["check", "--online"]).output().unwrap();
    let said = String::from_utf8(online.stdout).unwrap();
    assert!(online.status.code() == Some(2) && said.contains("cannot use the PostgreSQL database"), "{said}");
    let (code, said) = estate.run_to_its_end(&["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("cannot use the PostgreSQL database") && said.contains("database.url"), "{said}");
}
