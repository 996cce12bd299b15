//! Who has no key learns nothing and costs next to nothing.

use std::collections::HashMap;
use std::sync::Mutex;

use diesel::connection::{Instrumentation, InstrumentationEvent, set_default_instrumentation};

use super::*;
use crate::support::client::get;

/// Queries of this process, by the database's address.
static QUERIES: Mutex<Option<HashMap<String, u64>>> = Mutex::new(None);

/// Of one connection.
#[derive(Default)]
struct Counter {
    database: String,
}

impl Instrumentation for Counter {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        match event {
            InstrumentationEvent::StartEstablishConnection { url, .. } => url.clone_into(&mut self.database),
            InstrumentationEvent::StartQuery { .. } => {
                let mut queries = QUERIES.lock().unwrap();
                *queries.get_or_insert_default().entry(self.database.clone()).or_default() += 1;
            }
            _ => {}
        }
    }
}

fn queries(gateway: &TestGateway) -> u64 {
    let path = gateway.database().display().to_string();
    let queries = QUERIES.lock().unwrap();
    queries.iter().flatten().filter(|(database, _)| database.contains(&path)).map(|(_, count)| count).sum()
}

#[test]
fn unknown_keys_cost_no_query() {
    set_default_instrumentation(|| Some(Box::new(Counter::default()))).unwrap();
    let azure = azure();
    let gateway = TestGateway::before(azure.address());
    serves(&gateway);
    gateway.settle();
    let before = queries(&gateway);
    assert!(before > 0, "nothing is counted");
    let mut client = gateway.client();
    for n in 0..1000 {
        let line = format!("authorization: Bearer sk-gw-unknown-{n}\r\n");
        refused(&client.send(post(CHAT, &line, b"")).answer(), 401, "invalid_api_key");
    }
    // Other processes' changes of keys are looked for a few times a second, whoever calls.
    let spent = queries(&gateway) - before;
    assert!(spent < 200, "{spent} queries for 1000 requests");
    for _ in 0..5 {
        serves(&gateway);
    }
    gateway.settle();
    assert!(queries(&gateway) > before + spent, "nothing is counted any more");
}

#[test]
fn no_byte_of_a_strangers_body_is_waited_for() {
    let azure = azure();
    let gateway = TestGateway::before(azure.address());
    for framing in ["content-length: 1000000", "content-length: 99999999999", "transfer-encoding: chunked"] {
        let mut client = gateway.client();
        client.send(format!("POST {CHAT} HTTP/1.1\r\nhost: g\r\napi-key: sk-none\r\n{framing}\r\n\r\n"));
        refused(&client.answer(), 401, "invalid_api_key");
    }
    // actix answers the expectation by itself; the refusal follows at once.
    let waits = format!("POST {CHAT} HTTP/1.1\r\nhost: g\r\nexpect: 100-continue\r\ncontent-length: 9\r\n\r\n");
    let mut client = gateway.client();
    assert_eq!(client.send(waits).head().status, 100);
    refused(&client.answer(), 401, "invalid_api_key");
    serves(&gateway);
}

#[test]
fn malformed_credentials_are_no_credentials() {
    let azure = azure();
    let gateway = TestGateway::before(azure.address());
    let key = &gateway.key;
    for lines in [
        "authorization: Bearer\r\n".to_owned(),
        format!("authorization: Bearer\t{key}\r\n"),
        format!("authorization: Bearer{key}\r\n"),
        format!("authorization: Bearer {key} {key}\r\n"),
        format!("authorization: Bearer {key},\r\n"),
        format!("authorization: Bearer \"{key}\"\r\n"),
        format!("authorization: Bearer {}\r\n", key.to_uppercase()),
        format!("authorization: Bearer {}\r\n", &key[..key.len() - 1]),
        format!("authorization: Bearer {}\r\n", "k".repeat(60_000)),
        format!("x-api-key: {key}\r\n"),
        format!("cookie: api-key={key}\r\n"),
        format!("api-key: {key}%00\r\n"),
    ] {
        refused(&gateway.client().send(post(CHAT, &lines, QUESTION.as_bytes())).answer(), 401, "invalid_api_key");
    }
    // Bytes above ASCII cannot be in any key.
    let mut request = post(CHAT, "authorization: Bearer X\r\n", QUESTION.as_bytes());
    let at = request.iter().position(|byte| *byte == b'X').unwrap();
    request[at] = 0xff;
    refused(&gateway.client().send(request).answer(), 401, "invalid_api_key");
    let asked = gateway.client().send(get(&format!("/v1/models?api-key={key}"), "")).answer();
    refused(&asked, 401, "invalid_api_key");
    assert!(azure.requests().is_empty() && gateway.rows().is_empty());
    serves(&gateway);
}

#[test]
fn the_admin_plane_is_shut_to_strangers_whatever_they_send() {
    let azure = azure();
    let gateway = TestGateway::before(azure.address());
    let length = 1 << 20;
    for (method, path) in [
        ("POST", "/admin/v1/keys"),
        ("DELETE", "/admin/v1/keys/key_0"),
        ("GET", "/admin/v1/nothing"),
        ("POST", "/admin/v1/settings/reload"),
        ("BREW", "/admin/v1/keys"),
        ("GET", "//admin//v1//keys"),
        ("OPTIONS", "/admin/v1/keys"),
    ] {
        let head = format!("{method} {path} HTTP/1.1\r\nhost: g\r\n{}", gateway.bearer());
        let answer = gateway.client().send(format!("{head}content-length: {length}\r\n\r\n")).answer();
        assert_eq!(answer.status, 401, "{method} {path}: {}", answer.text());
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    }
    serves(&gateway);
}
