//! How streams end: settled before their last byte, visibly broken, or left by the client.

use std::time::Duration;

use aoai_gateway::storage::requests::RequestView;
use diesel::SqliteConnection;
use diesel::connection::SimpleConnection;
use serde_json::Value;

use super::*;
use crate::support::answers::full_stream;
use crate::support::client::{Client, find};
use crate::support::fake_azure::Gate;
use crate::support::sqlite;

/// What must not come is waited for this long.
const A_WHILE: Duration = Duration::from_millis(250);

/// Nobody else writes to the gateway's database while this is held.
struct Locked(SqliteConnection);

impl Locked {
    fn take(gateway: &TestGateway) -> Self {
        let mut connection = sqlite::connect(&gateway.database());
        connection.batch_execute("BEGIN IMMEDIATE").unwrap();
        Self(connection)
    }

    fn release(mut self) {
        self.0.batch_execute("ROLLBACK").unwrap();
    }
}

fn tokens(row: &RequestView) -> (&str, i64, i64, bool) {
    (row.state.as_str(), row.input_tokens, row.output_tokens, row.estimated)
}

#[test]
fn what_a_client_has_whole_is_settled() {
    let azure = FakeAzure::start(Script::each(|request| match request.text().contains("\"stream\":true") {
        true => begun(&[FILTER_CHUNK, &content("Teal"), USAGE_CHUNK, DONE]).then(LAST_CHUNK),
        false => answered(),
    }));
    let gateway = TestGateway::before(azure.address());
    let mut client = gateway.client();
    for _ in 0..40 {
        client.send(gateway.chat_request(STREAMED_QUESTION));
        let mut answer = client.head();
        client.read_until(&mut answer, |body| body.ends_with(DONE.as_bytes()));
        assert_eq!(tokens(&gateway.rows()[0]), ("settled", 12, 4, false));
        client.finish(&mut answer);
        client.send(gateway.chat_request(QUESTION)).answer().expect(200);
        assert_eq!(tokens(&gateway.rows()[0]), ("settled", 12, 5, false));
    }
}

#[test]
fn the_last_word_waits_for_the_ledger_and_the_rest_does_not() {
    let gate = Gate::default();
    let reply = begun(&[&content("Teal")])
        .then_wait(&gate)
        .then(chunk(content(" it is").as_bytes()))
        .then(chunk(USAGE_CHUNK.as_bytes()))
        .then(chunk(DONE.as_bytes()))
        .then(LAST_CHUNK);
    let (_azure, gateway) = before(reply);
    let mut client = gateway.client();
    client.send(gateway.chat_request(STREAMED_QUESTION));
    let mut answer = client.head();
    client.read_until(&mut answer, |body| find(body, b"Teal").is_some());
    assert_eq!(gateway.row().state, "open", "the intent is there before the first byte is");
    let lock = Locked::take(&gateway);
    gate.open();
    client.read_until(&mut answer, |body| find(body, b" it is").is_some());
    assert!(client.is_quiet_for(A_WHILE), "the last word came before the settlement was committed");
    lock.release();
    client.finish(&mut answer);
    assert_eq!(answer.expect(200).text(), [&content("Teal"), &content(" it is"), DONE].concat());
    assert_eq!(tokens(&gateway.row()), ("settled", 12, 4, false));
}

#[test]
fn an_answer_waits_for_the_ledger() {
    let (azure, gateway) = before(answered());
    let lock = Locked::take(&gateway);
    let mut client = gateway.client();
    client.send(gateway.chat_request(QUESTION));
    azure.wait_for(|seen| seen.written > ANSWER.len());
    assert!(client.is_quiet_for(A_WHILE), "an answer came before its settlement was committed");
    lock.release();
    assert_eq!(client.answer().expect(200).text(), ANSWER);
    assert_eq!(gateway.row().state, "settled");
}

/// The answer is `events`, the gateway's own error event, and no end.
#[track_caller]
fn is_cut_after(answer: &Answer, events: &str) {
    assert_eq!((answer.status, answer.end), (200, BodyEnd::Cut), "{}", answer.text());
    let own = answer.text().strip_prefix(events).unwrap_or_else(|| panic!("not what was sent: {}", answer.text()));
    let error: Value = serde_json::from_str(own.strip_prefix("data: ").unwrap_or_default()).unwrap_or_default();
    assert_eq!(error["error"]["code"], "upstream_stream_cut", "{own}");
    assert_eq!(error["error"]["type"], "server_error", "{own}");
    assert!(own.ends_with("\n\n"), "a whole event: {own}");
}

#[test]
fn a_stream_that_breaks_off_ends_with_an_error_and_no_end() {
    let words = [content("Teal"), content(" is a"), content(" colour")];
    let reply = || begun(&[&words[0], &words[1], &words[2]]);
    let half = || reply().then(b"40\r\ndata: {\"choices\":[{\"del".to_vec());
    for (reply, reason) in [
        (half().then_end(Cut::Fin), "truncated"),
        (reply().then(LAST_CHUNK), "truncated"),
        (reply().then("zz\r\nno chunk\r\n").then_end(Cut::Fin), "invalid_response"),
        (half().then_hold(), "stalled"),
    ] {
        let azure = FakeAzure::start(Script::always(reply));
        let gateway = TestGateway::with(|estate| {
            estate.azure("east", azure.address());
            estate.0.routing.stream_idle_timeout = Duration::from_millis(200);
        });
        is_cut_after(&gateway.chat(STREAMED_QUESTION), &words.concat());
        assert_eq!(row(&gateway), ends("failed", 200, true, reason), "settled before the error was sent");
        let row = gateway.row();
        assert!(row.input_tokens > 5 && (4..=6).contains(&row.output_tokens), "{row:?}");
    }
}

/// What was on its way when it happened need not arrive, but what does is in order, and there is no end.
#[test]
fn a_stream_that_is_reset_ends_without_an_end() {
    let gate = Gate::default();
    let (_azure, gateway) = before(begun(&[&content("Teal")]).then_wait(&gate).then_end(Cut::Reset));
    let mut client = gateway.client();
    client.send(gateway.chat_request(STREAMED_QUESTION));
    let mut answer = client.head();
    client.read_until(&mut answer, |body| find(body, b"Teal").is_some());
    gate.open();
    client.finish(&mut answer);
    is_cut_after(&answer, &content("Teal"));
    assert_eq!(row(&gateway), ends("failed", 200, true, "truncated"));
}

/// Figures that Azure had sent before it broke off are kept, and still called an estimate.
#[test]
fn a_stream_that_breaks_off_after_its_usage_keeps_the_figures() {
    let events = [content("Teal"), USAGE_CHUNK.to_owned()];
    let (_azure, gateway) = before(begun(&[&events[0], &events[1]]).then_end(Cut::Fin));
    is_cut_after(&gateway.chat(STREAMED_QUESTION), &events[0]);
    assert_eq!(tokens(&gateway.row()), ("failed", 12, 4, true));
}

/// A stream of which the client has read the beginning and from which nothing more comes.
fn held(gateway: &TestGateway) -> Client {
    let mut client = gateway.client();
    client.send(gateway.chat_request(STREAMED_QUESTION));
    let mut answer = client.head();
    client.read_until(&mut answer, |body| find(body, b"Teal").is_some());
    client
}

#[test]
fn a_client_that_leaves_a_stream_frees_its_upstream_and_is_noted() {
    for leave in [Client::leave, Client::reset] {
        let (azure, gateway) = before(begun(&[FILTER_CHUNK, &content("Teal")]).then_hold());
        leave(held(&gateway));
        azure.wait_for(|seen| seen.hang_ups == 1);
        gateway.settle();
        assert_eq!(row(&gateway), ends("cancelled", 499, true, "abandoned"));
        let row = gateway.row();
        assert!(row.input_tokens > 5 && (1..=2).contains(&row.output_tokens), "{row:?}");
    }
}

#[test]
fn a_client_that_leaves_before_an_answer_frees_its_upstream_and_is_noted() {
    for question in [QUESTION, STREAMED_QUESTION] {
        for leave in [Client::leave, Client::reset] {
            let (azure, gateway) = before(Reply::silence());
            let mut client = gateway.client();
            client.send(gateway.chat_request(question));
            azure.wait_for(|seen| seen.requests.len() == 1);
            leave(client);
            azure.wait_for(|seen| seen.hang_ups == 1);
            gateway.settle();
            assert_eq!(row(&gateway), ends("cancelled", 499, true, "abandoned"));
            assert!(gateway.row().input_tokens > 5, "Azure may have read the prompt");
        }
    }
}

/// Whoever leaves while the last word waits for the ledger has cost what Azure said.
#[test]
fn a_client_that_leaves_at_the_very_end_is_settled_with_the_figures() {
    let gate = Gate::default();
    let rest = full_stream()[2..].concat();
    let (azure, gateway) =
        before(begun(&[&content("Teal")]).then_wait(&gate).then(chunk(rest.as_bytes())).then(LAST_CHUNK));
    let client = held(&gateway);
    let lock = Locked::take(&gateway);
    let before = azure.seen().written;
    gate.open();
    azure.wait_for(|seen| seen.written >= before + rest.len());
    client.leave();
    lock.release();
    gateway.settle();
    let row = gateway.row();
    assert!(["settled", "cancelled"].contains(&row.state.as_str()), "{row:?}");
    assert_eq!(row.state == "settled", (row.output_tokens, row.estimated) == (4, false), "{row:?}");
}
