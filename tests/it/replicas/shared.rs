//! What one gateway does, the others see: keys within a second, requests and sums, and where responses are kept.

use serde_json::json;

use super::{CHAT, SECOND, projected, region, replica, took};
use crate::support::client::{get, post};
use crate::support::gateway::{TestGateway, eventually};
use crate::support::postgres;

fn status(gateway: &TestGateway, secret: &str) -> u16 {
    let line = format!("authorization: Bearer {secret}\r\n");
    gateway.client().send(post("/v1/chat/completions", &line, CHAT.as_bytes())).answer().status
}

#[track_caller]
fn answers(gateway: &TestGateway, secret: &str, wanted: u16) {
    let took = took(|| match status(gateway, secret) {
        status if status == wanted => Ok(()),
        status => Err(format!("it answers {status}, not {wanted}")),
    });
    assert!(took < SECOND, "it took {took:?}");
}

#[test]
fn a_key_counts_everywhere_within_a_second_and_so_does_its_end() {
    let (url, azure) = (postgres::database(), region());
    let (one, other) = (replica(&url, azure.addr()), replica(&url, azure.addr()));
    let (id, secret) = one.new_key(json!({ "user": "anna" }));
    assert_eq!(status(&one, &secret), 200);
    answers(&other, &secret, 200);
    other.admin("DELETE", &format!("/keys/{id}"), "").expect(204);
    assert_eq!(status(&other, &secret), 401);
    answers(&one, &secret, 401);
}

#[test]
fn requests_and_sums_are_those_of_all() {
    let (url, azure) = (postgres::database(), region());
    let (one, other) = (replica(&url, azure.addr()), replica(&url, azure.addr()));
    for _ in 0..3 {
        one.chat(CHAT).expect(200);
        other.chat(&CHAT.replace("\"max", "\"stream\":true,\"max")).expect(200);
    }
    projected(&one, 6);
    assert_eq!(one.all_rows(), other.all_rows());
    let row = &one.all_rows()[0];
    let told = other.admin("GET", &format!("/requests/{}", row.id), "").expect(200).json();
    assert_eq!((&told["state"], told["attempts"].as_array().unwrap().len()), (&json!("settled"), 1));
    for bucket in ["1h", "1d", "1mo"] {
        let usage = |gateway: &TestGateway| {
            gateway.admin("GET", &format!("/usage?bucket={bucket}&group_by=model,key"), "").expect(200).json()
        };
        assert_eq!(usage(&one), usage(&other));
        let sums = usage(&one);
        let requests: Vec<_> = sums["data"].as_array().unwrap().iter().map(|line| line["requests"].clone()).collect();
        assert_eq!(requests, [3, 3], "{sums}");
        assert_eq!(sums["data"][0]["key_name"], "test");
    }
    let tokens: i64 = one.all_rows().iter().map(|row| row.input_tokens + row.output_tokens).sum();
    let charged: u64 = azure.control().sums().values().map(|sums| sums.prompt_tokens + sums.completion_tokens).sum();
    assert_eq!(tokens.unsigned_abs(), charged);
}

/// Its place is brought to the other gateway with the ledger's rows.
#[test]
fn a_response_that_one_gateway_made_is_found_by_the_other() {
    let (url, azure) = (postgres::database(), region());
    let (one, two) = (replica(&url, azure.addr()), replica(&url, azure.addr()));
    let body = r#"{"model":"gpt-4o-mini","input":"Name a colour."}"#;
    let made = one.post("/v1/responses", body).expect(200).json();
    let id = made["id"].as_str().unwrap();
    let read = get(&format!("/v1/responses/{id}"), &one.bearer());
    eventually(|| match two.client().send(&read).answer().status {
        200 => Ok(()),
        status => Err(format!("{id} gets {status}")),
    });
}
