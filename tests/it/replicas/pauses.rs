//! A deployment that asks one gateway for a pause is left alone by all of them.

use std::time::Duration;

use aoai_gateway::balance::health::State;
use aoai_gateway::domain::time;

use super::{CHAT, SECOND, replica, took};
use crate::support::answers::answered;
use crate::support::client::Answer;
use crate::support::fake_azure::{FakeAzure, Reply, Script};
use crate::support::gateway::{MODEL, TestGateway, eventually};
use crate::support::postgres::Server;

/// What is left of the pause of the one deployment that there is.
fn left(gateway: &TestGateway) -> Duration {
    let table = gateway.table();
    let deployment = table.model(MODEL).unwrap().deployments().next().unwrap().clone();
    deployment.gauges.ready_at().since(time::now())
}

fn cools(gateway: &TestGateway) -> Result<(), String> {
    let table = gateway.table();
    match table.model(MODEL).unwrap().deployments().next().unwrap().gauges.state() {
        State::Cooling => Ok(()),
        state => Err(format!("{state:?}")),
    }
}

fn wait_ms(answer: &Answer) -> u64 {
    answer.header("retry-after-ms").unwrap().parse().unwrap()
}

/// The first to ask is told to come back in 40 seconds; who asks nevertheless, in ten.
fn busy() -> FakeAzure {
    FakeAzure::start(Script::each(|request| {
        let seconds = if request.index == 0 { 40 } else { 10 };
        Reply::json(429, "{}").with_header(&format!("retry-after: {seconds}"))
    }))
}

#[test]
fn a_pause_that_one_is_asked_for_is_kept_by_all_within_a_second() {
    let (server, azure) = (Server::start(), busy());
    let url = server.database();
    let (one, other) = (replica(&url, azure.address()), replica(&url, azure.address()));
    assert!(wait_ms(&one.chat(CHAT).expect(429)) > 38_000);
    let heard = took(|| match left(&other) {
        left if left > Duration::from_secs(30) => Ok(()),
        left => Err(format!("the other would ask in {left:?}")),
    });
    assert!(heard < SECOND, "it took {heard:?}");
    eventually(|| cools(&other));
    let refused = other.chat(CHAT).expect(429);
    assert!((30_000..=42_300).contains(&wait_ms(&refused)), "and the truth is told: {}", wait_ms(&refused));
    assert_eq!(azure.requests().len(), 1, "nobody had to ask to find out");

    // Who starts later hears of it too, and told to and fro it grows no longer.
    let third = replica(&url, azure.address());
    eventually(|| cools(&third));
    let before = left(&one);
    let asked = time::now();
    eventually(|| if time::now().since(asked) > Duration::from_secs(2) { Ok(()) } else { Err("early".to_owned()) });
    let gone = time::now().since(asked);
    for gateway in [&one, &other, &third] {
        assert!(left(gateway) + gone <= before + Duration::from_millis(600), "{:?} of {before:?}", left(gateway));
    }
    // While nobody can be told, the pause is kept.
    server.stop();
    other.chat(CHAT).expect(429);
    assert_eq!(azure.requests().len(), 1);
    server.restart();
}

#[test]
fn who_works_is_asked_by_everybody_and_a_short_pause_is_ones_own_affair() {
    let azure = FakeAzure::start(Script::each(|request| match request.index {
        0 => Reply::json(429, "{}").with_header("retry-after-ms: 600"),
        _ => answered(),
    }));
    let url = crate::support::postgres::database();
    let (one, other) = (replica(&url, azure.address()), replica(&url, azure.address()));
    one.chat(CHAT).expect(429);
    other.chat(CHAT).expect(200);
    assert_eq!(left(&other), Duration::ZERO);
    assert_eq!(azure.requests().len(), 2);
}
