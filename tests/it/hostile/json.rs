//! JSON that is meant to hurt: refused with a place, or passed on byte for byte for Azure to judge.

use super::*;

fn nested(open: &str, close: &str, levels: usize) -> String {
    format!("{{\"model\":\"gpt-4o-mini\",\"x\":{}1{}}}", open.repeat(levels), close.repeat(levels))
}

/// A member of this text, beside the model.
fn with(member: &str) -> Vec<u8> {
    format!("{{\"model\":\"gpt-4o-mini\",{member}}}").into_bytes()
}

#[test]
fn what_is_no_json_is_400_and_goes_nowhere() {
    let azure = azure();
    let gateway = TestGateway::before(azure.address());
    let bom = [b"\xef\xbb\xbf", QUESTION.as_bytes()].concat();
    let utf16: Vec<u8> = QUESTION.encode_utf16().flat_map(u16::to_le_bytes).collect();
    for body in [
        nested("[", "]", 100_000).into_bytes(),
        nested("{\"a\":", "}", 100_000).into_bytes(),
        "[".repeat(1_000_000).into_bytes(),
        "{\"a\":".repeat(200_000).into_bytes(),
        nested("[", "]", 129).into_bytes(),
        " ".repeat(1_000_000).into_bytes(),
        bom,
        utf16,
        with("\"x\":\"\u{0}\""),
        with("\"x\":\u{0}1"),
        [QUESTION.as_bytes(), b"\0"].concat(),
        [QUESTION.as_bytes(), QUESTION.as_bytes()].concat(),
        with("\"x\":1e"),
        with("\"x\":01"),
        with("\"x\":+1"),
        with("\"x\":.5"),
        with("\"x\":0x10"),
        with("\"x\":NaN"),
        with("\"x\":-Infinity"),
        with("\"x\":\"\\ud8\""),
        with("\"x\":\"\\x41\""),
        with("\"x\":'a'"),
        with("/* x */\"x\":1"),
        with("\"x\":1,"),
        with("x:1"),
        with("\"x\":\"a\nb\""),
        with("\"x\":\u{a0}1"),
        vec![0xff; 100_000],
    ] {
        refused(&gateway.client().send(chat_bytes(&gateway, &body)).answer(), 400, "invalid_json");
    }
    assert!(azure.requests().is_empty() && gateway.rows().is_empty());
    serves(&gateway);
}

#[test]
fn what_is_odd_but_json_is_passed_on_byte_for_byte() {
    let azure = azure();
    let gateway = TestGateway::before(azure.address());
    let spaces = " \t\r\n".repeat(250_000);
    let bodies = [
        nested("[", "]", 128).into_bytes(),
        format!("{spaces}{{{spaces}\"model\"{spaces}:{spaces}\"gpt-4o-mini\"{spaces}}}{spaces}").into_bytes(),
        with(&format!("\"x\":\"{}\"", "a".repeat(1 << 20))),
        with(&format!("\"x\":\"{}\"", "\\u0000".repeat(100_000))),
        with(&format!("\"{}\":1", "k".repeat(1 << 20))),
        with(&format!("\"{}\":1", "\\u006b".repeat(100_000))),
        with(&format!("\"x\":{}", "9".repeat(100_000))),
        with("\"x\":1e999999,\"max_tokens\":1e999999,\"n\":-1e-999999"),
        with("\"x\":\"\\ud800\",\"\\udfff\":\"\\ud800\\ud800\""),
        with("\"x\":1,\"x\":2,\"messages\":1,\"messages\":2"),
        with("\"\":0,\"\":1"),
        with("\"max_tokens\":99999999999999999999,\"n\":99999999999999999999"),
        with("\"max_tokens\":\"a lot\",\"n\":[]"),
        // Not UTF-8 inside a string: the text is Azure's to refuse.
        [b"{\"model\":\"gpt-4o-mini\",\"x\":\"\xff\xfe\xc0\x80\"}".as_slice()].concat(),
        format!("{{\"\\u006d\\u006fdel\":\"gpt\\u002d4o-mini\",{}\"a\":1}}", "\"b\":{},".repeat(50_000)).into_bytes(),
    ];
    for body in &bodies {
        let answer = gateway.client().send(chat_bytes(&gateway, body)).answer();
        assert_eq!(answer.status, 200, "{} for {:?}", answer.text(), String::from_utf8_lossy(&body[..60]));
    }
    let arrived = azure.requests();
    assert_eq!(arrived.len(), bodies.len());
    for (sent, request) in bodies.iter().zip(&arrived) {
        assert!(*sent == request.body, "changed: {:?}", String::from_utf8_lossy(&sent[..60]));
    }
}

#[test]
fn members_that_are_read_have_one_meaning_or_none() {
    let azure = azure();
    let gateway = TestGateway::before(azure.address());
    for (body, code) in [
        (r#"{"model":["gpt-4o-mini"]}"#, "invalid_type"),
        (r#"{"model":{"gpt-4o-mini":1}}"#, "invalid_type"),
        (r#"{"model":true}"#, "invalid_type"),
        (r#"{"model":1e999999}"#, "invalid_type"),
        (r#"{"model":"gpt-4o-mini","stream":"true"}"#, "invalid_type"),
        (r#"{"model":"gpt-4o-mini","stream":1}"#, "invalid_type"),
        (r#"{"model":"gpt-4o-mini","stream":[true]}"#, "invalid_type"),
        (r#"{"model":"gpt-4o-mini","stream_options":"include_usage"}"#, "invalid_type"),
        (r#"{"model":"gpt-4o-mini","stream_options":{"include_usage":1}}"#, "invalid_type"),
        (r#"{"Model":"gpt-4o-mini","MODEL":"gpt-4o-mini"}"#, "missing_model"),
        (r#"{"mod\u0000el":"gpt-4o-mini"}"#, "missing_model"),
        (r#"{"x":{"model":"gpt-4o-mini"}}"#, "missing_model"),
        (r#"{"model":"gpt-4o-mini","\u006d\u006f\u0064\u0065\u006c":"gpt-4.1"}"#, "duplicate_field"),
        (r#"{"model":null,"model":"gpt-4o-mini"}"#, "duplicate_field"),
        (r#"{"model":"gpt-4o-mini","max_tokens":1,"max_tokens":100000}"#, "duplicate_field"),
        (
            r#"{"model":"gpt-4o-mini","stream_options":{"include_usage":true,"include\u005fusage":false}}"#,
            "duplicate_field",
        ),
        (r#"{"model":"gpt-4o-mini","stream_options":{},"stream_options":null}"#, "duplicate_field"),
    ] {
        refused(&gateway.chat(body), 400, code);
    }
    // Many duplicates are refused like two, and none of them is kept.
    let many = format!("{{{}\"model\":\"gpt-4o-mini\"}}", "\"model\":\"gpt-4o-mini\",".repeat(50_000));
    refused(&gateway.chat(&many), 400, "duplicate_field");
    assert!(azure.requests().is_empty() && gateway.rows().is_empty());
    serves(&gateway);
}

#[test]
fn names_of_models_are_looked_up_and_nothing_else() {
    let azure = azure();
    let gateway = TestGateway::before(azure.address());
    let long = "m".repeat(1 << 20);
    for name in [
        &long,
        "gpt-4o-mini ",
        " gpt-4o-mini",
        "GPT-4O-MINI",
        "gpt-4o-mini\\u0000",
        "gpt-4o-mini\\ud800",
        "../../gpt-4o-mini",
        "gpt-4o-mini?x=1",
        "gpt-4o-mini\\r\\nx-injected: 1",
        "\\u001b[31m",
        "' OR 1=1 --",
        "\u{202e}inim-o4-tpg",
        "",
    ] {
        let answer = gateway.chat(&format!("{{\"model\":\"{name}\"}}"));
        refused(&answer, 404, "model_not_found");
        assert_eq!(answer.header("x-injected"), None);
    }
    let path = format!("/openai/deployments/{long}/chat/completions?api-version=2024-10-21");
    let answer = gateway.post(&path[..50_000.min(path.len())], QUESTION);
    refused(&answer, 404, "unknown_path");
    let lossy = gateway.client().send(chat_bytes(&gateway, b"{\"model\":\"gpt-4o-mini\xff\"}")).answer();
    refused(&lossy, 404, "model_not_found");
    assert!(azure.requests().is_empty() && gateway.rows().is_empty());
    serves(&gateway);
}

#[test]
fn a_stream_is_asked_for_usage_without_a_change_elsewhere() {
    let events = crate::support::answers::full_stream();
    let azure = FakeAzure::start(Script::always(crate::support::answers::streamed(&events)));
    let gateway = TestGateway::before(azure.address());
    let spaces = " ".repeat(1_000_000);
    let tail =
        format!("{spaces}\"model\" : \"gpt-4o-mini\",\"x\":1e999999,\"y\":\"\\ud800\",\"stream\":true{spaces}}}");
    gateway.client().send(chat_bytes(&gateway, format!("{{{tail}").as_bytes())).answer().expect(200);
    let body = azure.requests()[0].body.clone();
    assert!(body == format!("{{\"stream_options\":{{\"include_usage\":true}},{tail}").as_bytes());
}
