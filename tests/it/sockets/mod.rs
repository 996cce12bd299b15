//! The Responses API over WebSocket through a real gateway: how sessions are opened, what their turns are answered, what
//! those cost, and how sessions end.

mod callers;
mod ends;
mod failing;
mod handshake;
mod limits;
mod mistakes;
mod sdk;
mod turns;
mod unstored;

use aoai_gateway::simulator::{Entry, Simulator};
use aoai_gateway::storage::requests::RequestView;
use serde_json::{Value, json};

use crate::responses::{journal, region};
use crate::support::client::Answer;
use crate::support::gateway::{MODEL, TestGateway};
use crate::support::websocket::{WebSocket, knock};

const PATH: &str = "/v1/responses";

/// A region and a gateway before it.
fn world() -> (Simulator, TestGateway) {
    let azure = region("east");
    let gateway = TestGateway::before(azure.addr());
    (azure, gateway)
}

/// Two regions, asked in their order.
fn tiers() -> (Simulator, Simulator, TestGateway) {
    let (first, second) = (region("east"), region("west"));
    let gateway = TestGateway::with(|estate| {
        estate.tier(0, "east", first.addr());
        estate.tier(1, "west", second.addr());
    });
    (first, second, gateway)
}

fn try_open(gateway: &TestGateway, path: &str, lines: &str) -> Result<WebSocket, Answer> {
    knock(gateway.address, path, lines)
}

#[track_caller]
fn open_as(gateway: &TestGateway, key: &str) -> WebSocket {
    let opened = try_open(gateway, PATH, &format!("authorization: Bearer {key}\r\n"));
    opened.unwrap_or_else(|refusal| panic!("{refusal:?} {}", refusal.text()))
}

#[track_caller]
fn open(gateway: &TestGateway) -> WebSocket {
    open_as(gateway, &gateway.key)
}

fn create(text: &str) -> Value {
    json!({"type": "response.create", "model": MODEL, "input": text})
}

fn unstored(text: &str) -> Value {
    json!({"type": "response.create", "model": MODEL, "input": text, "store": false})
}

/// The same, going on from a response.
fn after(previous: &str, event: Value) -> Value {
    let mut event = event;
    event["previous_response_id"] = json!(previous);
    event
}

/// The events of a turn, up to the one that ends it.
#[track_caller]
fn turn(session: &mut WebSocket, event: &Value) -> Vec<Value> {
    session.say(event).until("response.completed")
}

/// The id of the response that a turn is answered with.
#[track_caller]
fn answered(session: &mut WebSocket, event: &Value) -> String {
    let events = turn(session, event);
    events[events.len() - 1]["response"]["id"].as_str().unwrap().to_owned()
}

/// The code and the status of the refusal that an event meets at once.
#[track_caller]
fn refused(session: &mut WebSocket, event: &Value) -> (String, u64) {
    let told = session.say(event).event();
    assert_eq!(told["type"], "error", "{told}");
    (told["error"]["code"].as_str().unwrap_or_default().to_owned(), told["status"].as_u64().unwrap_or_default())
}

/// Rows, oldest first.
fn rows(gateway: &TestGateway) -> Vec<RequestView> {
    let mut rows = gateway.all_rows();
    rows.reverse();
    rows
}

fn booked(rows: &[RequestView]) -> [u64; 4] {
    let sum = |figure: fn(&RequestView) -> i64| rows.iter().map(|row| figure(row).unsigned_abs()).sum();
    [
        sum(|row| row.input_tokens),
        sum(|row| row.cached_input_tokens),
        sum(|row| row.output_tokens),
        sum(|row| row.reasoning_tokens),
    ]
}

/// As the regions have charged it.
fn charged(entries: &[Entry]) -> [u64; 4] {
    let sum = |figure: fn(&Entry) -> u64| entries.iter().map(figure).sum();
    [
        sum(|entry| entry.prompt_tokens),
        sum(|entry| entry.cached_tokens),
        sum(|entry| entry.completion_tokens),
        sum(|entry| entry.reasoning_tokens),
    ]
}

fn resources(row: &RequestView) -> Vec<&str> {
    row.attempts.iter().map(|attempt| attempt.resource.as_str()).collect()
}
