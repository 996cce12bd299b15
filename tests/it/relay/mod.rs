//! From the upstream's first content to the client's last byte: what is settled when, what a break looks like, who is
//! told that the other has left, and that nobody waits for more than is theirs to wait for.

mod drain;
mod ends;
mod flow;

use crate::support::answers::{
    ANSWER, DONE, FILTER_CHUNK, QUESTION, STREAMED_QUESTION, USAGE_CHUNK, answered, content,
};
use crate::support::client::{Answer, BodyEnd};
use crate::support::fake_azure::{Cut, FakeAzure, Reply, Script, chunk};
use crate::support::gateway::TestGateway;

const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
const LAST_CHUNK: &str = "0\r\n\r\n";

/// The head of a stream and these events, each written by itself; the stream goes on.
fn begun(events: &[&str]) -> Reply {
    events.iter().fold(Reply::raw(HEAD), |reply, event| reply.then(chunk(event.as_bytes())))
}

fn before(reply: Reply) -> (FakeAzure, TestGateway) {
    let azure = FakeAzure::start(Script::always(reply));
    let gateway = TestGateway::before(azure.address());
    (azure, gateway)
}

/// Of the only row: its state, status, whether it is an estimate, and why its only attempt ended.
#[track_caller]
fn row(gateway: &TestGateway) -> (String, Option<i32>, bool, String) {
    let row = gateway.row();
    assert_eq!(row.attempts.len(), 1, "{row:?}");
    (row.state, row.status, row.estimated, row.attempts[0].reason.clone().unwrap_or_default())
}

fn ends(state: &str, status: i32, estimated: bool, reason: &str) -> (String, Option<i32>, bool, String) {
    (state.to_owned(), Some(status), estimated, reason.to_owned())
}

/// Larger than what is held back of an answer that is not streamed.
fn vectors(size: usize) -> String {
    let numbers = "0.0123456789,".repeat(size / 13);
    format!(
        r#"{{"object":"list","data":[{{"embedding":[{numbers}0],"index":0}}],"usage":{{"prompt_tokens":8,"total_tokens":8}}}}"#
    )
}

#[test]
fn an_answer_of_6_mib_passes() {
    let body = vectors(6 << 20);
    let pieces: Vec<u8> = body.as_bytes().chunks(100_000).flat_map(chunk).collect();
    let chunked = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    for reply in [Reply::json(200, &body), Reply::raw(chunked).then(pieces).then(LAST_CHUNK)] {
        let (azure, gateway) = before(reply);
        let mut client = gateway.client();
        for _ in 0..2 {
            let answer = client.send(gateway.chat_request(QUESTION)).answer().expect(200);
            assert!(answer.body == body.as_bytes(), "{} bytes, and others", answer.body.len());
            assert_eq!(answer.header("content-type"), Some("application/json"));
            let row = &gateway.rows()[0];
            let tokens = (row.state.as_str(), row.input_tokens, row.output_tokens, row.estimated);
            assert_eq!(tokens, ("settled", 8, 0, false), "settled when the last byte is here");
        }
        assert_eq!(azure.connections(), 1, "both connections are used again");
    }
}

#[test]
fn a_large_answer_that_breaks_off_is_visibly_cut() {
    let body = vectors(6 << 20);
    let whole = Reply::json(200, &body);
    for length in [5 << 20, whole.bytes().len() - 1] {
        let (_azure, gateway) = before(whole.clone().cut_at(length, Cut::Fin));
        let answer = gateway.chat(QUESTION);
        assert_eq!((answer.status, answer.end), (200, BodyEnd::Cut));
        assert!(body.as_bytes().starts_with(&answer.body) && answer.body.len() < body.len());
        gateway.settle();
        let (state, status, estimated, reason) = row(&gateway);
        assert_eq!((state.as_str(), status, reason.as_str()), ("failed", Some(200), "truncated"));
        assert!(estimated || length > 5 << 20, "its figures come last");
    }
}

/// The names of an answer's headers.
fn names(answer: &Answer) -> Vec<&str> {
    let mut names: Vec<_> = answer.headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    names
}

/// Every header that reaches a client is one that was meant to.
#[test]
fn the_upstreams_headers_are_an_allow_list_on_every_kind_of_answer() {
    let odd = |reply: Reply| {
        let lines = [
            "apim-request-id: 4f6b",
            "x-ms-region: Sweden Central",
            "openai-model: gpt-4o-mini",
            "api-key: leaked",
            "authorization: Bearer leaked",
            "set-cookie: session=leaked; HttpOnly",
            "connection: keep-alive, x-hop",
            "keep-alive: timeout=5",
            "x-hop: 1",
            "proxy-authenticate: Basic",
            "www-authenticate: Bearer",
            "trailer: x-late",
            "alt-svc: h3=\":443\"",
            "strict-transport-security: max-age=31536000",
            "access-control-allow-origin: https://elsewhere.example",
            "x-ratelimit-remaining-requests: 1",
            "x-ratelimit-limit-tokens: 2",
            "x-ratelimit-reset-tokens: 3",
            "azureml-model-session: d1",
            "x-content-type-options: nosniff",
            "cache-control: public, max-age=600",
            "location: https://elsewhere.example",
        ];
        lines.iter().fold(reply, |reply, line| reply.with_header(line))
    };
    let stream = begun(&[FILTER_CHUNK, &content("Teal"), USAGE_CHUNK, DONE]).then(LAST_CHUNK);
    let refusal = r#"{"error":{"code":"context_length_exceeded","message":"too long"}}"#;
    let common =
        ["apim-request-id", "content-type", "date", "openai-model", "server-timing", "x-ms-region", "x-request-id"];
    for (reply, question, more) in [
        (answered(), QUESTION, ["content-length"].as_slice()),
        (stream, STREAMED_QUESTION, &["cache-control", "transfer-encoding", "x-accel-buffering"]),
        (Reply::json(400, refusal), QUESTION, &["content-length"]),
        (Reply::json(200, &vectors(5 << 20)), QUESTION, &["transfer-encoding"]),
    ] {
        let (_azure, gateway) = before(odd(reply));
        let answer = gateway.chat(question);
        let mut expected: Vec<_> = common.iter().chain(more).copied().collect();
        expected.sort_unstable();
        assert_eq!(names(&answer), expected);
        assert!(!format!("{:?}", answer.headers).contains("leaked"));
        assert_ne!(answer.header("cache-control"), Some("public, max-age=600"));
    }
}

#[test]
fn a_stream_in_a_content_length_is_a_stream() {
    let events = [FILTER_CHUNK, &content("Teal"), USAGE_CHUNK, DONE].concat();
    let head =
        format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {}\r\n\r\n", events.len());
    let (_azure, gateway) = before(Reply::raw(head + &events));
    assert_eq!(gateway.chat(STREAMED_QUESTION).expect(200).text(), [FILTER_CHUNK, &content("Teal"), DONE].concat());
}

#[test]
fn an_answer_in_json_to_a_question_for_a_stream_passes() {
    let (_azure, gateway) = before(answered());
    assert_eq!(gateway.chat(STREAMED_QUESTION).expect(200).text(), ANSWER);
}
