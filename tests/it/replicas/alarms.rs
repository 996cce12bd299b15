//! A quota of several gateways reaches a level: by what all of them have used, and one of them says so, once.

use std::sync::Arc;
use std::time::Duration;

use aoai_gateway::balance::budget::{Allowance, Level};
use aoai_gateway::domain::ids::KeyId;
use aoai_gateway::domain::time::{WallTime, wall_now};
use aoai_gateway::storage::ledger::Intent;
use aoai_gateway::storage::quotas::Owner;
use diesel::connection::SimpleConnection;
use serde_json::{Value, json};

use super::reading::{bring, intent, journal, settled};
use super::replica;
use crate::support::answers::answered;
use crate::support::client::post;
use crate::support::fake_azure::{FakeAzure, Script};
use crate::support::gateway::{MODEL, TestGateway, eventually};
use crate::support::postgres;

/// What one answer of `support::answers` costs.
const EACH: u64 = 17;

fn ask(gateway: &TestGateway, secret: &str) -> u16 {
    ask_for(gateway, secret, 5)
}

pub(super) fn ask_for(gateway: &TestGateway, secret: &str, max_tokens: u32) -> u16 {
    let messages = json!([{ "role": "user", "content": "Name a colour." }]);
    let body = json!({ "model": MODEL, "max_tokens": max_tokens, "messages": messages }).to_string();
    let line = format!("authorization: Bearer {secret}\r\n");
    gateway.client().send(post("/v1/chat/completions", &line, body.as_bytes())).answer().status
}

/// Waits until so many requests of the key were served by this gateway.
fn served(gateway: &TestGateway, secret: &str, requests: usize) {
    let mut done = 0;
    eventually(|| {
        done += usize::from(ask(gateway, secret) == 200);
        if done == requests { Ok(()) } else { Err(format!("{done} of {requests} were served")) }
    });
}

/// How often each level was told by all of them together.
fn told(gateways: &[&TestGateway]) -> (u64, u64) {
    let count = |level| gateways.iter().map(|gateway| gateway.house.callers.alarms().count(level)).sum();
    (count(Level::High), count(Level::Full))
}

#[track_caller]
fn tell(gateways: &[&TestGateway], expected: (u64, u64)) {
    eventually(|| match told(gateways) {
        now if now == expected => Ok(()),
        now => Err(format!("told {now:?} times, not {expected:?}")),
    });
}

/// Id and secret of a key whose quota is ten answers, and which has no other limit.
fn key_for_ten(gateway: &TestGateway) -> (String, String) {
    let limits = json!({ "rpm": "unlimited", "tpm": "unlimited", "concurrency": "unlimited" });
    let quota = json!({ "period": "month", "tokens": 10 * EACH });
    gateway.new_key(json!({ "quota": quota, "limits": limits }))
}

/// Every gateway has looked when all that was used is in the shared database.
fn all_look(gateways: &[&TestGateway], rows: usize) {
    for gateway in gateways {
        super::projected(gateway, rows);
        gateway.house.callers.watch_quotas(&gateway.house.store).unwrap();
    }
}

#[test]
fn a_level_of_a_shared_quota_is_told_once_by_what_all_have_used() {
    let (url, azure) = (postgres::database(), FakeAzure::start(Script::always(answered())));
    let (one, two) = (replica(&url, azure.address()), replica(&url, azure.address()));
    let (id, secret) = key_for_ten(&one);
    let mut alarms = [&one, &two].map(|gateway| gateway.house.callers.alarms().listen());

    served(&one, &secret, 4);
    served(&two, &secret, 3);
    all_look(&[&one, &two], 7);
    assert_eq!(told(&[&one, &two]), (0, 0), "70 % are no news");
    // Each of them has used half of it.
    served(&two, &secret, 1);
    tell(&[&one, &two], (1, 0));
    all_look(&[&one, &two], 8);
    served(&one, &secret, 2);
    tell(&[&one, &two], (1, 1));
    all_look(&[&one, &two], 10);
    assert_eq!(told(&[&one, &two]), (1, 1));
    let mut heard: Vec<_> =
        alarms.iter_mut().flat_map(|alarms| std::iter::from_fn(|| alarms.try_recv().ok())).collect();
    heard.sort_by_key(|alarm| alarm.level);
    let figures = |alarm: &aoai_gateway::limits::QuotaAlarm| {
        (alarm.owner.to_string(), alarm.level, alarm.standing.used.tokens, alarm.standing.allowed.tokens)
    };
    let allowed = Some(10 * EACH);
    let expected = [(id.clone(), Level::High, 8 * EACH, allowed), (id.clone(), Level::Full, 10 * EACH, allowed)];
    assert_eq!(heard.iter().map(figures).collect::<Vec<_>>(), expected);

    // One that starts later has nothing new to say; more is allowed, and that is used up too.
    let three = replica(&url, azure.address());
    all_look(&[&three], 10);
    let all = [&one, &two, &three];
    assert_eq!(told(&all), (1, 1));
    let more = json!({ "period": "month", "tokens": 20 * EACH });
    let changed: Value = one.admin("PUT", &format!("/keys/{id}/quota"), &more.to_string()).expect(200).json();
    assert_eq!(changed["tokens"], 20 * EACH);
    served(&three, &secret, 6);
    tell(&all, (2, 1));
    served(&two, &secret, 4);
    tell(&all, (2, 2));
    all_look(&all, 20);
    assert_eq!(told(&all), (2, 2));
}

/// Somebody holds a lock, and what was used stays in the journal for longer than it usually takes to be brought over.
#[test]
fn a_level_that_is_reached_while_rows_are_held_up_is_told_once_they_are_there() {
    let (url, azure) = (postgres::database(), FakeAzure::start(Script::always(answered())));
    let (one, two) = (replica(&url, azure.address()), replica(&url, azure.address()));
    let (_, secret) = key_for_ten(&one);
    served(&one, &secret, 4);
    super::projected(&one, 4);
    let mut holder = postgres::connect(&url);
    holder.batch_execute("BEGIN; LOCK TABLE usage_hourly IN EXCLUSIVE MODE").unwrap();
    served(&two, &secret, 4);
    // bounded: until it was used so long ago that it would be in the shared database on other days
    std::thread::sleep(Duration::from_millis(2_200));
    for gateway in [&one, &two] {
        gateway.house.callers.watch_quotas(&gateway.house.store).unwrap();
    }
    assert_eq!(told(&[&one, &two]), (0, 0), "nobody knows of it yet");
    holder.batch_execute("COMMIT").unwrap();
    tell(&[&one, &two], (1, 0));
}

/// Whoever used it has ended before anybody looked.
#[test]
fn a_level_that_was_reached_meanwhile_is_told_by_who_starts_next() {
    let (url, azure) = (postgres::database(), FakeAzure::start(Script::always(answered())));
    let mut one = replica(&url, azure.address());
    let (id, _) = one.new_key(json!({ "quota": { "period": "month", "tokens": 70 } }));
    one.stop();
    let folder = tempfile::tempdir().unwrap();
    let store = journal(&folder, &url);
    let (key_id, now) = (id.parse().unwrap(), wall_now().0);
    let ended = |n| settled(Arc::new(Intent { key_id, ..(*intent(now, n)).clone() }));
    store.journal().unwrap().append(&[(0..8).map(ended).collect()]).unwrap();
    bring(&mut store.projection().unwrap().unwrap());
    let two = replica(&url, azure.address());
    tell(&[&two], (1, 0));
}

/// One has borrowed much and used little; what it does not use is there for the other.
#[test]
fn what_one_gateway_does_not_use_of_a_quota_another_can() {
    let (url, azure) = (postgres::database(), FakeAzure::start(Script::always(answered())));
    let (one, two) = (replica(&url, azure.address()), replica(&url, azure.address()));
    let limits = json!({ "rpm": "unlimited", "tpm": "unlimited", "concurrency": "unlimited" });
    let quota = json!({ "period": "month", "tokens": 1_000 });
    let (_, secret) = one.new_key(json!({ "quota": quota, "limits": limits }));
    let get = |gateway: &TestGateway, max_tokens| {
        eventually(|| match ask_for(gateway, &secret, max_tokens) {
            200 => Ok(()),
            status => Err(format!("{status} for {max_tokens} tokens")),
        });
    };
    for _ in 0..3 {
        get(&one, 800);
        get(&two, 800);
    }
}

#[test]
fn who_tells_that_all_is_used_need_not_hear_that_most_of_it_is() {
    let (url, folder) = (postgres::database(), tempfile::tempdir().unwrap());
    let store = journal(&folder, &url);
    let claim = |level, tokens| {
        let (owner, allowed) =
            (Owner::Key(KeyId(uuid::Uuid::from_u128(1))), Allowance { tokens: Some(tokens), cost: None });
        store.claim_alarm(owner, WallTime(0), level, allowed).unwrap()
    };
    assert_eq!([claim(Level::Full, 100), claim(Level::High, 100), claim(Level::Full, 100)], [true, false, false]);
    // Of another allowance, both are news again.
    assert_eq!([claim(Level::High, 200), claim(Level::High, 200), claim(Level::Full, 200)], [true, false, true]);
}
