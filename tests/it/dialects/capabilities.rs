//! What a deployment does not take, though its version should: it is asked once more without it, and spared from then on.

use aoai_gateway::azure::endpoint::Kind;

use super::*;
use crate::support::answers::{answered, content, full_stream, streamed};
use crate::support::fake_azure::Request;

fn refusal(parameter: &str) -> Reply {
    let body = format!(
        r#"{{"error":{{"message":"Unrecognized request argument supplied: {parameter}","type":"invalid_request_error","param":null,"code":null}}}}"#
    );
    Reply::json(400, &body)
}

/// Refuses whatever names the parameter; streams without usage, because nobody could have asked for it.
fn refusing(parameter: &'static str) -> FakeAzure {
    let answer = move |request: &Request| match request.text() {
        text if text.contains(&format!("\"{parameter}\"")) => refusal(parameter),
        text if text.contains("\"stream\":true") => Reply::sse(&[&content("Teal"), "data: [DONE]\n\n"]),
        _ => answered(),
    };
    FakeAzure::start(Script::each(answer))
}

#[test]
fn usage_that_only_we_want_is_not_asked_for_where_that_is_refused() {
    let azure = refusing("stream_options");
    let gateway = TestGateway::before(azure.address());
    let asked = body(r#","stream":true"#);
    for _ in 0..3 {
        let answer = gateway.post(OPENAI, &asked).expect(200);
        assert_eq!(text_of(&chunks(&answer)), "Teal");
    }
    let sent: Vec<_> = azure.requests().iter().map(|request| request.text().contains("stream_options")).collect();
    assert_eq!(sent, [true, false, false, false], "found out once");
    gateway.settle();
    let rows = gateway.rows();
    assert!(rows.iter().all(|row| row.state == "settled" && row.estimated && row.attempts.len() == 1), "{rows:?}");
    assert!(rows.iter().all(|row| row.output_tokens == 1 || row.output_tokens == 2), "{rows:?}");
    // What the client itself asks for is the client's to hear about.
    let own = body(r#","stream":true,"stream_options":{"include_usage":true}"#);
    assert!(gateway.post(OPENAI, &own).expect(400).text().contains("stream_options"));
    assert_eq!(azure.requests().len(), 5);
}

#[test]
fn a_deployment_that_takes_it_is_always_asked_for_usage() {
    let azure = FakeAzure::start(Script::always(streamed(&full_stream())));
    let gateway = TestGateway::before(azure.address());
    for _ in 0..3 {
        gateway.post(OPENAI, &body(r#","stream":true"#)).expect(200);
    }
    assert!(azure.requests().iter().all(|request| request.text().contains("include_usage")));
}

#[test]
fn a_cap_that_an_old_version_does_not_know_is_called_as_it_was() {
    let before = |kind: Kind, version: &str| {
        let azure = refusing("max_completion_tokens");
        let gateway = TestGateway::with(|estate| {
            let east = estate.azure("east", azure.address());
            (east.kind, east.api_version) = (kind, version.parse().unwrap());
        });
        (azure, gateway)
    };
    let asked = body(r#","max_completion_tokens":7"#);
    for (kind, version) in [(Kind::Azure, "2024-06-01"), (Kind::OpenAi, "v1")] {
        let (azure, gateway) = before(kind, version);
        for _ in 0..2 {
            gateway.post(OPENAI, &asked).expect(200);
        }
        let sent: Vec<_> = azure.requests().iter().map(Request::text).collect();
        assert_eq!(sent.len(), 3);
        assert!(sent[0].contains(r#""max_completion_tokens":7"#));
        assert!(sent[1..].iter().all(|text| text.contains(r#""max_tokens":7"#)), "{sent:?}");
    }
    // Where the version has it, the refusal means something else.
    let (azure, gateway) = before(Kind::Azure, "2024-10-21");
    gateway.post(OPENAI, &asked).expect(400);
    assert_eq!(azure.requests().len(), 1);
}

#[test]
fn a_refusal_of_something_else_is_the_clients() {
    for (reply, asked) in [(refusal("temperature"), body(r#","stream":true"#)), (refusal("stream_options"), body(""))] {
        let (azure, gateway) = super::before(families()[1].clone(), reply);
        gateway.post(OPENAI, &asked).expect(400);
        assert_eq!(azure.requests().len(), 1);
    }
}
