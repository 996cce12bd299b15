//! When an upstream fails before anything was sent to the client, another is asked; the client learns the truth only
//! when there is no other.

mod policy;

use std::net::TcpListener;
use std::time::Duration;

use crate::support::answers::{
    ANSWER, DONE, FILTER_CHUNK, QUESTION, STREAMED_QUESTION, answered, full_stream, stream_without_usage, streamed,
};
use crate::support::client::Answer;
use crate::support::fake_azure::{Cut, FakeAzure, Reply, Script};
use crate::support::gateway::TestGateway;

/// Two resources: `first` is asked before `second`, which serves.
struct Pair {
    first: FakeAzure,
    second: FakeAzure,
    gateway: TestGateway,
}

impl Pair {
    fn new(reply: Reply) -> Self {
        let first = FakeAzure::start(Script::always(reply));
        let second = FakeAzure::start(Script::each(|request| match request.text().contains("\"stream\":true") {
            true => streamed(&full_stream()),
            false => answered(),
        }));
        let gateway = TestGateway::with(|estate| {
            estate.tier(0, "first", first.address());
            estate.tier(1, "second", second.address());
            estate.0.routing.first_byte_timeout = Duration::from_millis(400);
            estate.0.routing.response_timeout = Duration::from_millis(400);
        });
        Self { first, second, gateway }
    }

    /// Asks once, with and without a stream; both must be whole, by the second's hand. Gives the reasons and statuses
    /// of the first attempts.
    #[track_caller]
    fn both_are_served(self) -> [(String, Option<i32>); 2] {
        let answer = self.gateway.chat(QUESTION).expect(200);
        assert_eq!(answer.text(), ANSWER);
        assert!(answer.header("server-timing").unwrap().ends_with("attempts;desc=2"));
        self.gateway.settle();
        let plain = self.gateway.row();
        assert_eq!((plain.state.as_str(), plain.attempts.len()), ("settled", 2), "{plain:?}");
        assert_eq!((plain.input_tokens, plain.output_tokens), (12, 5), "the failed attempt is not booked twice");
        let first = &plain.attempts[0];
        assert_eq!((first.resource.as_str(), plain.attempts[1].resource.as_str()), ("first", "second"));
        let reason = |row: &aoai_gateway::storage::requests::RequestView| {
            (row.attempts[0].reason.clone().unwrap_or_default(), row.attempts[0].status)
        };
        let answer = self.gateway.chat(STREAMED_QUESTION).expect(200);
        assert_eq!(answer.text(), stream_without_usage().concat());
        self.gateway.settle();
        let streamed = self.gateway.rows().remove(0);
        assert_eq!(self.second.requests().len(), 2);
        [reason(&plain), reason(&streamed)]
    }
}

/// One fault and the reason it is noted under.
#[track_caller]
fn is_retried(reply: Reply, reason: &str, status: Option<i32>) {
    let [plain, streamed] = Pair::new(reply).both_are_served();
    assert_eq!(plain, (reason.to_owned(), status));
    // A 429 or a quarantine keeps the second request away from it.
    assert!(streamed == plain || streamed.0 == "served", "{streamed:?}");
}

#[test]
fn statuses_that_another_may_do_better() {
    for status in [408, 409, 423, 424, 500, 501, 502, 503, 504, 529] {
        let body = r#"{"error":{"code":"InternalServerError","message":"The service is unavailable."}}"#;
        is_retried(Reply::json(status, body), "status", Some(i32::from(status)));
    }
    is_retried(Reply::json(429, "{}").with_header("retry-after-ms: 5000"), "throttled", Some(429));
}

#[test]
fn heads_that_are_no_answer() {
    for redirect in [301, 302, 307, 308] {
        let reply = Reply::json(redirect, "{}").with_header("location: http://127.0.0.1:1/stolen");
        is_retried(reply, "invalid_response", Some(redirect.into()));
    }
    is_retried(Reply::raw("SSH-2.0-OpenSSH_9.2\r\n\r\n").then_end(Cut::Fin), "invalid_response", None);
    is_retried(Reply::end(Cut::Fin), "truncated", None);
    is_retried(Reply::end(Cut::Reset), "truncated", None);
}

#[test]
fn bodies_that_are_no_answer() {
    let ok = |kind: &str, body: &str| {
        Reply::raw(format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}", body.len()))
    };
    let html = "<html><body>We'll be back soon.</body></html>";
    is_retried(ok("text/html", html), "invalid_response", Some(200));
    is_retried(ok("application/json", ""), "invalid_response", Some(200));
    is_retried(ok("application/json", r#"{"error":{"code":"x","message":"y"}}"#), "invalid_response", Some(200));
    is_retried(ok("application/json", &ANSWER[..ANSWER.len() - 1]), "invalid_response", Some(200));
    is_retried(answered().cut_at(200, Cut::Fin), "truncated", Some(200));
    is_retried(answered().cut_at(200, Cut::Reset), "truncated", Some(200));
    is_retried(answered().cut_at(30, Cut::Fin), "truncated", None);
}

#[test]
fn streams_that_end_before_their_first_content() {
    let error = "data: {\"error\":{\"code\":\"InternalServerError\",\"message\":\"sorry\"}}\n\n";
    for (events, reason) in [
        (vec![], "truncated"),
        (vec![FILTER_CHUNK], "truncated"),
        (vec![": ping\n\n", FILTER_CHUNK], "truncated"),
        (vec![FILTER_CHUNK, error], "invalid_response"),
        (vec![error, DONE], "invalid_response"),
    ] {
        let pair = Pair::new(Reply::sse(&events));
        assert_eq!(pair.gateway.chat(STREAMED_QUESTION).expect(200).text(), stream_without_usage().concat());
        pair.gateway.settle();
        let first = &pair.gateway.row().attempts[0];
        assert_eq!((first.reason.as_deref(), first.status), (Some(reason), Some(200)), "{events:?}");
    }
    // At every byte of what comes before the first content.
    let whole = streamed(&full_stream()).bytes();
    let held_back = crate::support::client::find(&whole, b"Teal").unwrap();
    for offset in (0..held_back).step_by(31) {
        let pair = Pair::new(streamed(&full_stream()).cut_at(offset, Cut::Fin));
        assert_eq!(pair.gateway.chat(STREAMED_QUESTION).expect(200).text(), stream_without_usage().concat());
        assert_eq!(pair.second.requests().len(), 1, "cut at {offset}");
    }
}

#[test]
fn an_in_band_rate_limit_is_a_rate_limit() {
    let event =
        "data: {\"error\":{\"code\":\"rate_limit_exceeded\",\"message\":\"Please retry after 7 seconds.\"}}\n\n";
    let pair = Pair::new(Reply::sse(&[FILTER_CHUNK, event]));
    pair.gateway.chat(STREAMED_QUESTION).expect(200);
    pair.gateway.settle();
    assert_eq!(pair.gateway.row().attempts[0].reason.as_deref(), Some("throttled"));
    pair.gateway.chat(STREAMED_QUESTION).expect(200);
    assert_eq!(pair.first.requests().len(), 1, "it asked for seven seconds");
}

#[test]
fn nobody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = listener.local_addr().unwrap();
    drop(listener);
    let second = FakeAzure::start(Script::always(answered()));
    let gateway = TestGateway::with(|estate| {
        estate.tier(0, "first", closed);
        estate.tier(1, "second", second.address());
    });
    gateway.chat(QUESTION).expect(200);
    gateway.settle();
    let first = &gateway.row().attempts[0];
    assert_eq!(
        (first.reason.as_deref(), first.status, first.charged.as_deref()),
        (Some("connect"), None, Some("none"))
    );
}

#[test]
fn silence_ends_at_the_first_byte_timeout() {
    is_retried(Reply::silence(), "first_byte_timeout", None);
    // A head alone is no first byte of a stream, and comments are none either.
    let stream = Reply::sse(&[FILTER_CHUNK, ": ping\n\n"]);
    let mut bytes = stream.bytes();
    bytes.truncate(bytes.len() - 5);
    let pair = Pair::new(Reply::raw(bytes).then_hold());
    assert_eq!(pair.gateway.chat(STREAMED_QUESTION).expect(200).text(), stream_without_usage().concat());
    pair.gateway.settle();
    assert_eq!(pair.gateway.row().attempts[0].reason.as_deref(), Some("first_byte_timeout"));
    // It was hung up on, not left hanging.
    pair.first.wait_for(|seen| seen.hang_ups == 1);
}

/// What a client of Azure is told is what Azure said, to the byte, and nobody else is asked. `billed`: the tokens noted for it.
#[track_caller]
fn is_passed_on(status: u16, body: &str, billed: i64) {
    let pair = Pair::new(Reply::json(status, body).with_header("apim-request-id: 77"));
    for question in [QUESTION, STREAMED_QUESTION] {
        let answer: Answer = pair.gateway.post("/openai/v1/chat/completions", question).expect(status);
        assert_eq!(answer.text(), body);
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("apim-request-id"), Some("77"));
    }
    assert!(pair.second.requests().is_empty());
    pair.gateway.settle();
    for row in pair.gateway.rows() {
        assert_eq!((row.state.as_str(), row.status, row.attempts.len()), ("settled", Some(i32::from(status)), 1));
        assert_eq!((row.input_tokens, row.output_tokens, row.estimated), (billed, 0, billed > 0), "{row:?}");
    }
}

#[test]
fn the_clients_own_mistakes_are_passed_on() {
    let filtered = concat!(
        r#"{"error":{"code":"content_filter","innererror":{"code":"ResponsibleAIPolicyViolation","#,
        r#""content_filter_result":{"violence":{"filtered":true,"severity":"medium"}}},"message":"Blöcked.","#,
        r#""param":"prompt","status":400,"type":null}}"#
    );
    // The filter has read the prompt, and Azure bills that.
    is_passed_on(400, filtered, 11);
    is_passed_on(400, r#"{"error":{"code":"context_length_exceeded","message":"too long","param":"messages"}}"#, 0);
    is_passed_on(413, r#"{"error":{"code":"413","message":"Payload too large"}}"#, 0);
    is_passed_on(422, r#"{"detail":"odd"}"#, 0);
}
