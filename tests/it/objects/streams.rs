//! Runs that are streamed, and files that pass as they come.

use serde_json::{Value, json};

use super::{Estate, assistant};
use crate::support::client::{BodyEnd, get};
use crate::support::fake_azure::{Cut, FakeAzure, Reply, Script};
use crate::support::gateway::{TestGateway, eventually};

fn events(text: &str) -> Vec<(String, Value)> {
    let read = |event: &str| {
        let line = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().to_owned();
        (line("event: "), serde_json::from_str(&line("data: ")).unwrap_or_default())
    };
    text.split("\n\n").filter(|event| !event.is_empty()).map(read).collect()
}

#[test]
fn a_streamed_run_tells_its_thread_and_is_booked_once() {
    let estate = Estate::of(&["east", "west"]);
    let gateway = &estate.gateway;
    let helper = estate.create("/v1/assistants", assistant());
    let message = json!({"role": "user", "content": "Say hello."});
    let body = json!({"assistant_id": helper, "thread": {"messages": [message]}, "stream": true});
    let answer = gateway.post("/v1/threads/runs", &body.to_string()).expect(200);
    let events = events(answer.text());
    let names: Vec<_> = events.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!((names[0], *names.last().unwrap()), ("thread.created", "done"));
    let thread = events[0].1["id"].as_str().unwrap();
    // It is this key's own from the first event on.
    gateway.get(&format!("/v1/threads/{thread}/messages")).expect(200);
    let (_, run) = events.iter().find(|(name, _)| name == "thread.run.completed").unwrap();
    gateway.get(&format!("/v1/threads/{thread}/runs/{}", run["id"].as_str().unwrap())).expect(200);
    gateway.settle();
    let used: Vec<_> = gateway.rows().into_iter().filter(|row| row.output_tokens > 0).collect();
    assert_eq!(used.len(), 1, "told by the stream and by the look afterwards");
    assert_eq!(used[0].output_tokens as u64, run["usage"]["completion_tokens"].as_u64().unwrap());
    let streamed = gateway.rows().into_iter().find(|row| row.stream).unwrap();
    assert_eq!((streamed.state.as_str(), streamed.status), ("settled", Some(200)));
}

/// A gateway whose one key has a file at this upstream.
fn with_file(script: impl Fn(usize) -> Reply + Send + Sync + 'static) -> (FakeAzure, TestGateway) {
    let azure = FakeAzure::start(Script::each(move |request| match request.index {
        0 => Reply::json(200, r#"{"id":"file-1","object":"file","purpose":"batch"}"#),
        index => script(index),
    }));
    let gateway = TestGateway::before(azure.address());
    let form = super::form(&[("purpose", None, b"batch"), ("file", Some("a"), b"x")]);
    gateway.client().send(super::post_form("/v1/files", &gateway.bearer(), &form)).answer().expect(200);
    (azure, gateway)
}

#[test]
fn a_file_that_breaks_off_is_cut_visibly() {
    let body = "x".repeat(900_000);
    let whole =
        format!("HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: {}\r\n\r\n", body.len());
    let length = whole.len() + 500_000;
    let (_azure, gateway) =
        with_file(move |_| Reply::json(200, &body).with_header("x-any: thing").cut_at(length, Cut::Fin));
    let answer = gateway.client().send(get("/v1/files/file-1/content", &gateway.bearer())).answer();
    assert_eq!((answer.status, answer.end), (200, BodyEnd::Cut));
    gateway.settle();
    let row = gateway.rows().remove(0);
    assert_eq!((row.state.as_str(), row.attempts[0].reason.as_deref()), ("failed", Some("truncated")));
}

#[test]
fn a_run_that_breaks_off_says_so() {
    let (_azure, gateway) = with_file(|index| match index {
        1 => Reply::json(200, r#"{"id":"thread_1","object":"thread"}"#),
        _ => Reply::sse(&["event: thread.run.created\ndata: {\"object\":\"thread.run\"}\n\n"]),
    });
    gateway.post("/v1/threads", "{}").expect(200);
    let answer = gateway.post("/v1/threads/thread_1/runs", r#"{"stream":true}"#);
    assert_eq!((answer.status, answer.end), (200, BodyEnd::Cut));
    assert!(answer.text().contains("event: error\ndata: {\"error\""), "{}", answer.text());
}

#[test]
fn a_client_that_leaves_a_download_frees_everything() {
    let (azure, gateway) = with_file(|_| Reply::json(200, &"x".repeat(30 << 20)));
    let mut client = crate::support::client::Client::connect_narrow(gateway.address);
    let mut answer = client.send(get("/v1/files/file-1/content", &gateway.bearer())).head();
    client.read_until(&mut answer, |body| body.len() > 10_000);
    client.reset();
    azure.wait_for(|seen| seen.hang_ups > 0);
    eventually(|| match gateway.rows().into_iter().find(|row| row.state == "cancelled") {
        Some(_) => Ok(()),
        None => Err("the row is not there".to_owned()),
    });
}
