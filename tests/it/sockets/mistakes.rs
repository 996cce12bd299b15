//! What a client may get wrong inside a session: it is told, and goes on; only what cannot be read any further ends it.

use super::*;
use crate::support::websocket::{BINARY, Frame, TEXT};

#[test]
fn a_wrong_event_is_told_and_the_session_goes_on() {
    let (azure, gateway) = world();
    let mut session = open(&gateway);
    for (text, code, param) in [
        ("{", "invalid_json", None),
        ("[]", "invalid_json", None),
        ("", "invalid_json", None),
        (r#"{"type":"response.cancel"}"#, "unknown_event", Some("type")),
        (r#"{"model":"gpt-4o-mini","input":"a"}"#, "unknown_event", Some("type")),
        (r#"{"type":7}"#, "invalid_type", Some("type")),
        (r#"{"type":"response.create","model":"gpt-4o-mini","model":"x"}"#, "duplicate_field", Some("model")),
        (r#"{"type":"response.create","type":"x"}"#, "duplicate_field", Some("type")),
        (
            r#"{"type":"response.create","background":true,"model":"gpt-4o-mini"}"#,
            "unsupported_parameter",
            Some("background"),
        ),
        (
            r#"{"type":"response.create","stream_id":"a","model":"gpt-4o-mini"}"#,
            "unsupported_parameter",
            Some("stream_id"),
        ),
        (r#"{"type":"response.create","input":"a"}"#, "missing_model", Some("model")),
        (r#"{"type":"response.create","model":"none","input":"a"}"#, "model_not_found", Some("model")),
    ] {
        session.frame(TEXT, text.as_bytes());
        let told = session.event();
        assert_eq!((&told["type"], &told["error"]["code"]), (&json!("error"), &json!(code)), "{text}");
        assert_eq!(told["error"]["param"].as_str(), param, "{text}: {told}");
        assert!(told["status"].as_u64().is_some_and(|status| (400..500).contains(&status)), "{told}");
        assert!(told["error"]["message"].as_str().unwrap().ends_with('.'), "{told}");
    }
    session.frame(BINARY, b"{}");
    assert_eq!(session.event()["error"]["code"], "invalid_json");
    assert!(journal(&azure).is_empty() && gateway.rows().is_empty());
    answered(&mut session, &create("a"));
    session.close();
    let refused = gateway.house.metrics.requests.with_label_values(&["responses", "", "404", "refused"]).get();
    assert_eq!(refused, 1);
}

#[test]
fn what_is_too_large_or_no_frame_ends_the_session_with_a_word() {
    let azure = region("east");
    let gateway = TestGateway::with(|estate| {
        estate.azure("east", azure.addr());
        estate.0.server.body_limit = 100_000;
    });
    let mut session = open(&gateway);
    let long = create(&"a ".repeat(45_000));
    answered(&mut session, &long);
    let _ = session
        .try_write(&crate::support::websocket::masked(TEXT, create(&"a".repeat(100_001)).to_string().as_bytes()));
    let (events, end) = session.end();
    assert_eq!(events[0]["error"]["code"], "request_too_large");
    assert_eq!(end, Frame::Close(Some(1009)));
    for (first, payload, code) in [(0xf1, &b"{}"[..], 1002), (TEXT, b"\xff", 1007)] {
        let mut session = open(&gateway);
        session.frame(first, payload);
        assert_eq!(session.end().1, Frame::Close(Some(code)));
    }
}

#[test]
fn a_long_event_is_read_like_a_short_one() {
    let (azure, gateway) = world();
    let mut session = open(&gateway);
    let first = answered(&mut session, &unstored(&"word ".repeat(60_000)));
    answered(&mut session, &after(&first, unstored("And?")));
    session.close();
    gateway.settle();
    let rows = rows(&gateway);
    assert!(rows[0].input_tokens > 60_000 && rows[1].input_tokens > rows[0].input_tokens, "{rows:?}");
    assert_eq!(booked(&rows), charged(&journal(&azure)));
}

#[test]
fn only_so_many_events_wait() {
    let azure = crate::support::fake_azure::FakeAzure::start(crate::support::fake_azure::Script::always(
        crate::support::fake_azure::Reply::silence(),
    ));
    let gateway = TestGateway::before(azure.address());
    let mut session = open(&gateway);
    for number in 0..40 {
        session.say(&create(&number.to_string()));
    }
    for _ in 0..40 - 17 {
        assert_eq!(session.event()["error"]["code"], "too_many_events_waiting");
    }
    session.leave();
    gateway.settle();
    assert_eq!(rows(&gateway).len(), 1, "what waited was never let in");
}
