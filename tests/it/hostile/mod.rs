//! Requests that mean harm, through a real gateway on a real socket: each gets the answer of the table, costs little,
//! and the next request is served as if nothing had been.
//!
//! What the edge does by itself (slow heads, framing, pipelining) is shown in `edge`; refusals of well-meant requests in
//! `errors`.

mod bodies;
mod cost;
mod json;
mod strangers;
mod wire;

use crate::support::answers::{QUESTION, answered};
use crate::support::client::{Answer, post};
use crate::support::fake_azure::{FakeAzure, Script};
use crate::support::gateway::TestGateway;

const CHAT: &str = "/v1/chat/completions";

fn azure() -> FakeAzure {
    FakeAzure::start(Script::always(answered()))
}

/// The gateway's own refusal: status, code, envelope, a sentence, an id.
#[track_caller]
fn refused(answer: &Answer, status: u16, code: &str) {
    let text = String::from_utf8_lossy(&answer.body);
    assert_eq!(answer.status, status, "{text}");
    assert_eq!(answer.header("content-type"), Some("application/json"), "{text}");
    assert!(answer.header("x-request-id").is_some());
    let error = &answer.json()["error"];
    assert_eq!((error["code"].as_str(), error["type"].as_str()), (Some(code), Some("invalid_request_error")), "{text}");
    let message = error["message"].as_str().unwrap();
    assert!(message.ends_with('.') && message.len() < 1000, "{message:?}");
    assert!(!message.chars().any(char::is_control), "{message:?}");
}

/// The next client notices nothing.
#[track_caller]
fn serves(gateway: &TestGateway) {
    gateway.chat(QUESTION).expect(200);
}

/// A chat request with any bytes as its body.
fn chat_bytes(gateway: &TestGateway, body: &[u8]) -> Vec<u8> {
    post(CHAT, &gateway.bearer(), body)
}
