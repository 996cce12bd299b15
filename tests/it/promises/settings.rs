//! Settings that another test's gateway leaves at their default.

use std::time::Duration;

use serde_json::json;

use crate::support::answers::{QUESTION, STREAMED_QUESTION, answered, full_stream, streamed};
use crate::support::client::post;
use crate::support::fake_azure::{FakeAzure, Reply, Script};
use crate::support::gateway::{Estate, MODEL, TestGateway};

fn model(estate: &mut Estate) -> &mut aoai_gateway::settings::model::Model {
    estate.0.models.entry(MODEL.into()).or_default()
}

/// Only pages from there may read; others get their answer, which their browser keeps from them.
#[test]
fn browsers_may_call_from_the_origins_that_are_named() {
    let azure = FakeAzure::start(Script::always(answered()));
    let gateway = TestGateway::with(|estate| {
        estate.azure("east", azure.address());
        estate.0.server.cors_origins = vec!["https://chat.contoso.com".to_owned()];
    });
    let asking = |origin: &str| {
        let lines = format!("origin: {origin}\r\naccess-control-request-method: POST\r\n");
        let preflight = format!(
            "OPTIONS /v1/chat/completions HTTP/1.1\r\nhost: g\r\n{lines}access-control-request-headers: authorization\r\n\r\n"
        );
        let mut client = gateway.client();
        let preflight = client.send(preflight).answer().expect(204);
        let lines = format!("{}origin: {origin}\r\n", gateway.bearer());
        let answer = client.send(post("/v1/chat/completions", &lines, QUESTION.as_bytes())).answer().expect(200);
        [preflight, answer].map(|answer| answer.header("access-control-allow-origin").map(str::to_owned))
    };
    let own = Some("https://chat.contoso.com".to_owned());
    assert_eq!(asking("https://chat.contoso.com"), [own.clone(), own]);
    for other in ["https://chat.contoso.com.evil.example", "http://chat.contoso.com", "null"] {
        assert_eq!(asking(other), [None, None], "{other}");
    }
}

/// Reasoning models think before they speak.
#[test]
fn a_model_has_its_own_patience_for_the_first_byte() {
    let slow = || FakeAzure::start(Script::always(streamed(&full_stream()).after(Duration::from_millis(900))));
    let quick = || FakeAzure::start(Script::always(streamed(&full_stream())));
    let attempts = |usual: Duration, own: Duration| {
        let azures = [slow(), quick()];
        let gateway = TestGateway::with(|estate| {
            for (tier, azure) in azures.iter().enumerate() {
                estate.tier(tier as u32, &format!("r{tier}"), azure.address());
            }
            estate.0.routing.first_byte_timeout = usual;
            model(estate).first_byte_timeout = Some(own);
        });
        gateway.chat(STREAMED_QUESTION).expect(200);
        gateway.settle();
        gateway.row().attempts.into_iter().map(|attempt| attempt.reason.unwrap()).collect::<Vec<_>>()
    };
    let (short, long) = (Duration::from_millis(200), Duration::from_secs(30));
    assert_eq!(attempts(short, long), ["served"]);
    assert_eq!(attempts(long, short), ["first_byte_timeout", "served"]);
}

/// What a request may cost that does not say how much it wants.
#[test]
fn a_request_that_names_no_output_is_taken_for_the_models() {
    let azure = FakeAzure::start(Script::always(answered()));
    let left = |max_output: u32, body: &str| {
        let gateway = TestGateway::with(|estate| {
            estate.azure("east", azure.address());
            model(estate).max_output = max_output;
        });
        let (_, secret) = gateway.new_key(json!({ "limits": { "tpm": 10_000 } }));
        let line = format!("authorization: Bearer {secret}\r\n");
        let answer = gateway.client().send(post("/v1/chat/completions", &line, body.as_bytes())).answer().expect(200);
        answer.header("x-ratelimit-remaining-tokens").unwrap().parse::<u64>().unwrap()
    };
    let prompt = 10_000 - left(500, QUESTION) - 500;
    assert!((10..200).contains(&prompt), "{prompt}");
    assert_eq!(left(7_000, QUESTION), 10_000 - prompt - 7_000);
    let named = QUESTION.replacen('{', "{\"max_tokens\":50,", 1);
    let with_cap = left(7_000, &named);
    assert!((10_000 - 50 - prompt - 30..=10_000 - 50 - prompt).contains(&with_cap), "{with_cap}: its own word counts");
}

#[test]
fn an_answer_that_is_not_streamed_has_a_patience_of_its_own() {
    let slow = FakeAzure::start(Script::always(answered().after(Duration::from_millis(900))));
    let never = FakeAzure::start(Script::always(Reply::silence()));
    let gateway = TestGateway::with(|estate| {
        estate.tier(0, "never", never.address());
        estate.tier(1, "slow", slow.address());
        estate.0.routing.first_byte_timeout = Duration::from_millis(100);
        estate.0.routing.response_timeout = Duration::from_secs(3);
    });
    gateway.chat(QUESTION).expect(200);
    gateway.settle();
    let attempts: Vec<_> = gateway.row().attempts.into_iter().map(|one| (one.resource, one.reason.unwrap())).collect();
    assert_eq!(attempts, [("never".into(), "first_byte_timeout".into()), ("slow".into(), "served".into())]);
}
