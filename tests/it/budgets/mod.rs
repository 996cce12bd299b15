//! What a caller may use: tokens per minute, quotas of keys and users, what they are told of it; and that no way past the
//! limits exists.

mod account;
mod admin;
mod crash;
mod leaving;
mod minutes;
mod paths;
mod periods;
mod races;

use serde_json::{Value, json};

use crate::support::client::{Answer, post};
use crate::support::gateway::{MODEL, TestGateway};

/// What one answer of `support::answers` costs.
const EACH: u64 = 17;

/// A question that names the output it wants.
fn question(max_tokens: u32) -> String {
    let messages = json!([{ "role": "user", "content": "Name a colour." }]);
    json!({ "model": MODEL, "max_tokens": max_tokens, "messages": messages }).to_string()
}

fn ask(gateway: &TestGateway, secret: &str, body: &str) -> Answer {
    gateway.client().send(chat(secret, body)).answer()
}

fn chat(secret: &str, body: &str) -> Vec<u8> {
    post("/v1/chat/completions", &bearer(secret), body.as_bytes())
}

fn bearer(secret: &str) -> String {
    format!("authorization: Bearer {secret}\r\n")
}

/// A key whose only bound is its quota.
fn key_with(gateway: &TestGateway, quota: Value) -> (String, String) {
    gateway.new_key(json!({ "quota": quota, "limits": unlimited() }))
}

fn unlimited() -> Value {
    json!({ "rpm": "unlimited", "tpm": "unlimited", "concurrency": "unlimited" })
}

fn quota(gateway: &TestGateway, key: &str) -> Value {
    gateway.admin("GET", &format!("/keys/{key}/quota"), "").expect(200).json()
}

/// The refusal of a quota that waiting a little does not refill.
#[track_caller]
fn is_used_up(answer: &Answer) {
    assert_eq!((answer.status, answer.code().as_str()), (429, "insufficient_quota"), "{}", answer.text());
    assert_eq!(answer.json()["error"]["type"], "insufficient_quota");
    assert_eq!(answer.header("x-should-retry"), Some("false"), "{}", answer.text());
    assert_eq!(answer.header("retry-after"), None);
}
