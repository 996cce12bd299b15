//! Requests that find every deployment busy: who waits, for how long, in which order, and who is refused at once.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::answers::{ANSWER, QUESTION, answered};
use crate::support::client::{Client, post};
use crate::support::fake_azure::{FakeAzure, Gate, Reply, Script};
use crate::support::gateway::{TestGateway, eventually};

/// One deployment that takes one request at a time, and a line before it.
fn narrow(azure: &FakeAzure, max_wait: Duration, max_waiting: u32) -> TestGateway {
    TestGateway::with(|estate| {
        estate.0.routing.max_wait = max_wait;
        estate.0.routing.max_waiting = max_waiting;
        let east = estate.azure("east", azure.address());
        east.deployments.values_mut().for_each(|deployment| deployment.max_in_flight = Some(1));
    })
}

fn throttled(milliseconds: u32) -> Reply {
    Reply::json(429, "{}").with_header(&format!("retry-after-ms: {milliseconds}"))
}

/// Returns when so many stand in line.
fn in_line(gateway: &TestGateway, count: u32) {
    eventually(|| match gateway.house.waiting.taken() {
        taken if taken == count => Ok(()),
        taken => Err(format!("{taken} wait")),
    });
}

/// Sends a question of the key's owner, marked so that its arrival upstream can be told.
fn ask(gateway: &TestGateway, key: &str, mark: &str) -> Client {
    let lines = format!("authorization: Bearer {key}\r\nx-request-id: {mark}\r\n");
    let mut client = gateway.client();
    client.send(post("/v1/chat/completions", &lines, QUESTION.as_bytes()));
    client
}

#[test]
fn a_short_pause_is_waited_out_and_the_same_deployment_asked_again() {
    let azure = FakeAzure::start(Script::in_order(vec![throttled(300), answered()]));
    let gateway = narrow(&azure, Duration::from_secs(10), 8);
    let began = Instant::now();
    let answer = gateway.chat(QUESTION).expect(200);
    assert!(began.elapsed() >= Duration::from_millis(300), "not before the time that was asked for");
    assert_eq!(answer.text(), ANSWER);
    gateway.settle();
    let row = gateway.row();
    let reasons: Vec<_> = row.attempts.iter().map(|attempt| attempt.reason.as_deref()).collect();
    assert_eq!((row.state.as_str(), reasons), ("settled", vec![Some("throttled"), Some("served")]));
    let metrics = gateway.get("/metrics");
    assert!(metrics.text().contains("\naoai_gateway_waited_seconds_count 1\n"), "{}", metrics.text());
    assert_eq!(gateway.house.waiting.taken(), 0);
}

#[test]
fn a_pause_longer_than_the_wait_is_refused_at_once_with_its_length() {
    let azure = FakeAzure::start(Script::always(throttled(60_000)));
    let gateway = narrow(&azure, Duration::from_secs(30), 8);
    let began = Instant::now();
    for _ in 0..2 {
        let answer = gateway.chat(QUESTION).expect(429);
        assert_eq!((answer.code().as_str(), answer.header("x-should-retry")), ("upstream_exhausted", Some("true")));
        let told: u64 = answer.header("retry-after-ms").unwrap().parse().unwrap();
        // The deployment is given a little more than it asked for, so that not all come back at the same moment.
        assert!((50_000..=66_000).contains(&told), "{told}");
    }
    assert!(began.elapsed() < Duration::from_secs(20), "nobody waits in vain");
    assert_eq!(azure.requests().len(), 1, "a deployment that asked for a pause is not asked");
}

#[test]
fn who_waits_too_long_is_refused() {
    let gate = Gate::default();
    let azure = FakeAzure::start(Script::always(answered().after_gate(&gate)));
    let gateway = narrow(&azure, Duration::from_millis(200), 8);
    let mut first = ask(&gateway, &gateway.key, "first");
    azure.wait_for(|seen| seen.requests.len() == 1);
    let began = Instant::now();
    let answer = gateway.chat(QUESTION).expect(429);
    assert_eq!(answer.code(), "upstream_exhausted");
    assert!(began.elapsed() >= Duration::from_millis(190));
    gate.open();
    first.answer().expect(200);
}

#[test]
fn the_waiting_room_is_bounded_and_shown() {
    let gate = Gate::default();
    let azure = FakeAzure::start(Script::always(answered().after_gate(&gate)));
    let gateway = narrow(&azure, Duration::from_secs(30), 1);
    let mut first = ask(&gateway, &gateway.key, "first");
    azure.wait_for(|seen| seen.requests.len() == 1);
    let mut second = ask(&gateway, &gateway.key, "second");
    in_line(&gateway, 1);
    let metrics = gateway.get("/metrics");
    assert!(metrics.text().contains("\naoai_gateway_waiting_requests 1\n"), "{}", metrics.text());
    assert_eq!(gateway.chat(QUESTION).expect(429).code(), "upstream_exhausted");
    gate.open();
    first.answer().expect(200);
    second.answer().expect(200);
}

#[test]
fn callers_take_turns() {
    let gate = Gate::default();
    let azure = FakeAzure::start(Script::always(answered().after_gate(&gate)));
    let gateway = narrow(&azure, Duration::from_secs(30), 16);
    let (_, other) = gateway.new_key(json!({}));
    let mut clients = vec![ask(&gateway, &gateway.key, "a1")];
    azure.wait_for(|seen| seen.requests.len() == 1);
    for (count, (key, mark)) in
        (1..).zip([(&gateway.key, "a2"), (&gateway.key, "a3"), (&gateway.key, "a4"), (&other, "b1"), (&other, "b2")])
    {
        clients.push(ask(&gateway, key, mark));
        in_line(&gateway, count);
    }
    gate.open();
    for mut client in clients {
        client.answer().expect(200);
    }
    let order: Vec<_> = azure
        .requests()
        .iter()
        .map(|request| request.header("x-ms-client-request-id").unwrap_or_default().to_owned())
        .collect();
    assert_eq!(order, ["a1", "a2", "b1", "a3", "b2", "a4"]);
}

#[test]
fn a_client_who_leaves_the_line_gives_its_place_up_and_pays_nothing() {
    let gate = Gate::default();
    let azure = FakeAzure::start(Script::always(answered().after_gate(&gate)));
    let gateway = narrow(&azure, Duration::from_secs(30), 8);
    let mut first = ask(&gateway, &gateway.key, "first");
    azure.wait_for(|seen| seen.requests.len() == 1);
    let second = ask(&gateway, &gateway.key, "second");
    in_line(&gateway, 1);
    second.leave();
    in_line(&gateway, 0);
    gate.open();
    first.answer().expect(200);
    gateway.settle();
    let row = gateway.rows().into_iter().find(|row| row.request_id == "second").unwrap();
    assert_eq!((row.state.as_str(), row.status, row.estimated), ("cancelled", Some(499), false));
    assert_eq!((row.input_tokens, row.attempts.len()), (0, 0));
    assert_eq!(azure.requests().len(), 1);
}

#[test]
fn of_several_that_asked_for_a_pause_the_soonest_serves() {
    let slow = FakeAzure::start(Script::in_order(vec![throttled(20_000), answered()]));
    let quick = FakeAzure::start(Script::in_order(vec![throttled(500), answered()]));
    let gateway = TestGateway::with(|estate| {
        estate.0.routing.max_wait = Duration::from_secs(15);
        estate.tier(0, "slow", slow.address());
        estate.tier(1, "quick", quick.address());
    });
    let began = Instant::now();
    gateway.chat(QUESTION).expect(200);
    let took = began.elapsed();
    assert!((Duration::from_millis(500)..Duration::from_secs(10)).contains(&took), "{took:?}");
    assert_eq!((slow.requests().len(), quick.requests().len()), (1, 2));
}
