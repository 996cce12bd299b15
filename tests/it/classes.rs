//! Batch jobs: they leave a part of each deployment to chats, and wait after them.

use std::time::Duration;

use aoai_gateway::domain::sku::Sku;
use serde_json::{Value, json};

use crate::support::answers::{QUESTION, answered};
use crate::support::client::{Answer, Client, post};
use crate::support::fake_azure::{FakeAzure, Gate, Script};
use crate::support::gateway::{TestGateway, eventually};
use crate::support::process::Estate;

fn batch_key(gateway: &TestGateway) -> String {
    gateway.new_key(json!({ "class": "batch" })).1
}

/// Sends a question of the key's owner, marked so that its arrival upstream can be told.
fn send(gateway: &TestGateway, key: &str, mark: &str, question: &str) -> Client {
    let lines = format!("authorization: Bearer {key}\r\nx-request-id: {mark}\r\n");
    let mut client = gateway.client();
    client.send(post("/v1/chat/completions", &lines, question.as_bytes()));
    client
}

fn ask(gateway: &TestGateway, key: &str, question: &str) -> Answer {
    send(gateway, key, "asked", question).answer()
}

/// A deployment of four places.
fn four_places(estate: &mut crate::support::gateway::Estate, azure: &FakeAzure) {
    let resource = estate.tier(0, "first", azure.address());
    resource.deployments.values_mut().for_each(|deployment| deployment.max_in_flight = Some(4));
}

/// Fills two of them with chats.
fn two_chats(gateway: &TestGateway, azure: &FakeAzure) -> Vec<Client> {
    let chats = ["one", "two"].map(|mark| send(gateway, &gateway.key, mark, QUESTION));
    azure.wait_for(|seen| seen.requests.len() == 2);
    chats.into()
}

/// Of about 10 tokens of prompt and so many of output.
fn question(max_tokens: u32) -> String {
    QUESTION.replacen('{', &format!("{{\"max_tokens\":{max_tokens},"), 1)
}

#[test]
fn what_a_batch_job_leaves_free_is_there_for_chats() {
    let gate = Gate::default();
    let first = FakeAzure::start(Script::always(answered().after_gate(&gate)));
    let second = FakeAzure::start(Script::always(answered()));
    let gateway = TestGateway::with(|estate| {
        four_places(estate, &first);
        estate.tier(1, "second", second.address());
    });
    let key = batch_key(&gateway);
    let mut held = two_chats(&gateway, &first);
    ask(&gateway, &key, QUESTION).expect(200);
    assert_eq!((first.requests().len(), second.requests().len()), (2, 1), "half of it is in use");
    let row = eventually(|| {
        let rows = gateway.rows();
        rows.into_iter().find(|row| row.state == "settled").ok_or_else(|| "not settled".to_owned())
    });
    let request = gateway.admin("GET", &format!("/requests/{}", row.id), "").expect(200).json();
    let passed = &request["attempts"][0]["decision"]["passed_over"][0];
    assert_eq!((&passed["reason"], &passed["batch_share"]), (&json!("batch_share"), &json!(0.5)), "{request}");
    held.extend(["three", "four"].map(|mark| send(&gateway, &gateway.key, mark, QUESTION)));
    first.wait_for(|seen| seen.requests.len() == 4);
    gate.open();
    held.iter_mut().for_each(|client| drop(client.answer().expect(200)));
    gateway.settle();
    ask(&gateway, &key, QUESTION).expect(200);
    assert_eq!((first.requests().len(), second.requests().len()), (5, 1), "idle, it serves whoever comes");
}

#[test]
fn batch_jobs_wait_after_chats_and_hold_none_up() {
    let gates = [Gate::default(), Gate::default()];
    let azure = FakeAzure::start(Script::each({
        let gates = gates.clone();
        move |request| match mark(request).as_str() {
            "one" | "two" | "three" | "four" => answered().after_gate(&gates[0]),
            _ => answered().after_gate(&gates[1]),
        }
    }));
    let gateway = TestGateway::with(|estate| {
        estate.0.routing.max_wait = Duration::from_secs(30);
        four_places(estate, &azure);
    });
    let key = batch_key(&gateway);
    let in_line = |count| {
        eventually(|| match gateway.house.waiting.taken() {
            taken if taken == count => Ok(()),
            taken => Err(format!("{taken} wait")),
        });
    };
    let mut clients = two_chats(&gateway, &azure);
    clients.push(send(&gateway, &key, "job", QUESTION));
    in_line(1);
    for mark in ["three", "four"] {
        clients.push(send(&gateway, &gateway.key, mark, QUESTION));
    }
    azure.wait_for(|seen| seen.requests.len() == 4);
    for (count, mark) in (2..).zip(["five", "six", "seven"]) {
        clients.push(send(&gateway, &gateway.key, mark, QUESTION));
        in_line(count);
    }
    gates[0].open();
    azure.wait_for(|seen| seen.requests.len() == 7);
    // Three of four places are taken, and the fourth is not for a batch job.
    in_line(1);
    assert!(azure.requests().iter().all(|request| mark(request) != "job"));
    gates[1].open();
    clients.iter_mut().for_each(|client| drop(client.answer().expect(200)));
    assert_eq!(azure.requests().iter().map(mark).next_back().as_deref(), Some("job"));
}

fn mark(request: &crate::support::fake_azure::Request) -> String {
    request.header("x-ms-client-request-id").unwrap_or_default().to_owned()
}

#[test]
fn of_tokens_per_minute_a_batch_job_leaves_a_part_too() {
    let azure = FakeAzure::start(Script::always(answered()));
    let gateway = TestGateway::with(|estate| {
        let resource = estate.azure("first", azure.address());
        resource.deployments.values_mut().for_each(|deployment| deployment.tpm = Some(1_000));
        estate.0.routing.batch_share = 0.6;
    });
    let key = batch_key(&gateway);
    ask(&gateway, &key, &question(200)).expect(200);
    gateway.chat(&question(200)).expect(200);
    let refused = ask(&gateway, &key, &question(200)).expect(429);
    assert_eq!(refused.code(), "upstream_exhausted");
    let told: u64 = refused.header("retry-after-ms").unwrap().parse().unwrap();
    assert!((40_000..=62_000).contains(&told), "not before the minute has passed: {told}");
    gateway.chat(&question(200)).expect(200);
    assert_eq!(azure.requests().len(), 3);
}

#[test]
fn provisioned_capacity_that_is_more_than_half_full_is_kept_for_chats() {
    let full = answered().with_header("azure-openai-deployment-utilization: 80.0%");
    let (first, second) = (FakeAzure::start(Script::always(full)), FakeAzure::start(Script::always(answered())));
    let gateway = TestGateway::with(|estate| {
        let resource = estate.tier(0, "first", first.address());
        resource.deployments.values_mut().for_each(|deployment| deployment.sku = Sku::Provisioned);
        estate.tier(1, "second", second.address());
    });
    let key = batch_key(&gateway);
    gateway.chat(QUESTION).expect(200);
    ask(&gateway, &key, QUESTION).expect(200);
    assert_eq!((first.requests().len(), second.requests().len()), (1, 1));
    gateway.chat(QUESTION).expect(200);
    assert_eq!((first.requests().len(), second.requests().len()), (2, 1));
}

#[test]
fn a_keys_class_is_given_when_it_is_made() {
    let estate = Estate::of(&["eastus2"], &Default::default(), "[routing]\nbatch_share = 0.25\n");
    let made: Value =
        serde_json::from_slice(&estate.run(&["keys", "add", "nightly", "--class", "batch", "--json"]).stdout).unwrap();
    assert_eq!(made["class"], "batch");
    let list = String::from_utf8(estate.run(&["keys", "ls"]).stdout).unwrap();
    assert!(list.contains("CLASS") && list.contains("\tbatch\t") && list.contains("\tinteractive\t"), "{list}");
    let wrong = estate.command(&["keys", "add", "x", "--class", "urgent"]).output().unwrap();
    let said = String::from_utf8(wrong.stderr).unwrap();
    assert!(wrong.status.code() == Some(2) && said.contains("expected `interactive` or `batch`"), "{said}");
    let shown = String::from_utf8(estate.run(&["config", "show"]).stdout).unwrap();
    assert!(shown.contains("batch_share = 0.25"), "{shown}");

    let gateway = TestGateway::with(|_| ());
    let show = |id: &str| gateway.admin("GET", &format!("/keys/{id}"), "").expect(200).json()["class"].take();
    assert_eq!(show(&gateway.new_key(json!({ "class": "batch" })).0), "batch");
    assert_eq!(show(&gateway.new_key(json!({ "class": null })).0), "interactive");
    let problem = gateway.admin("POST", "/keys", r#"{"name":"x","class":"urgent"}"#).expect(422).json();
    assert_eq!(problem["errors"][0], json!({ "pointer": "/class", "detail": "expected `interactive` or `batch`" }));
}
