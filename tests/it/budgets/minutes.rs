//! Tokens per minute: what is told of them, what can never fit, and whose they are.

use serde_json::json;

use super::{EACH, ask, question, unlimited};
use crate::support::answers::answered;
use crate::support::client::{get, post};
use crate::support::fake_azure::{FakeAzure, Gate, Script};
use crate::support::gateway::{MODEL, TestGateway};

#[test]
fn every_answer_tells_the_callers_own_figures() {
    let azure = FakeAzure::start(Script::always(answered()));
    let gateway = TestGateway::before(azure.address());
    let (_, secret) = gateway.new_key(json!({ "limits": { "rpm": 60, "tpm": 10_000 } }));
    let first = ask(&gateway, &secret, &question(100)).expect(200);
    assert_eq!(first.header("x-ratelimit-limit-tokens"), Some("10000"));
    let remaining: u64 = first.header("x-ratelimit-remaining-tokens").unwrap().parse().unwrap();
    assert!((9_800..9_900).contains(&remaining), "{remaining} with the request's own claim");
    let reset = first.header("x-ratelimit-reset-tokens").unwrap();
    assert!(reset.strip_suffix("ms").unwrap().parse::<u64>().unwrap() <= 61_000, "{reset}");
    assert_eq!(first.header("x-ratelimit-limit-requests"), Some("60"));
    // A refusal tells them too, and by now the rest of the claim is back.
    let refused = ask(&gateway, &secret, "{}").expect(400);
    assert_eq!(refused.header("x-ratelimit-remaining-tokens").unwrap(), (10_000 - EACH).to_string());
    // Without a limit there is nothing to tell.
    let free = gateway.chat(&question(5)).expect(200);
    assert!(free.header("x-ratelimit-limit-tokens").is_none() && free.header("x-ratelimit-limit-requests").is_none());
}

#[test]
fn what_is_refused_for_its_rate_is_told_the_figures_too() {
    let azure = FakeAzure::start(Script::always(answered()));
    let gateway = TestGateway::before(azure.address());
    let (_, secret) = gateway.new_key(json!({ "limits": { "rpm": 1, "tpm": 10_000 } }));
    let refused = (0..6).map(|_| ask(&gateway, &secret, &question(5))).find(|answer| answer.status == 429).unwrap();
    assert_eq!(refused.header("x-ratelimit-limit-requests"), Some("1"));
    assert_eq!(refused.header("x-ratelimit-remaining-requests"), Some("0"));
    assert_eq!(refused.header("x-ratelimit-remaining-tokens").unwrap(), (10_000 - 4 * EACH).to_string());
}

#[test]
fn a_request_that_can_never_fit_is_told_so_whatever_the_minute_looks_like() {
    let azure = FakeAzure::start(Script::always(answered()));
    let gateway = TestGateway::before(azure.address());
    let (_, secret) = gateway.new_key(json!({ "limits": { "tpm": 40 } }));
    let refused = |body: &str| {
        let answer = ask(&gateway, &secret, body).expect(400);
        assert_eq!(answer.code(), "request_too_large_for_limit");
        assert_eq!(answer.json()["error"]["type"], "invalid_request_error");
    };
    refused(&question(100));
    // More bytes than the limit has tokens, and yet it fits.
    assert!(question(20).len() / 2 > 40);
    ask(&gateway, &secret, &question(20)).expect(200);
    refused(&question(100));
    // One that would fit an empty minute comes back later.
    let later = ask(&gateway, &secret, &question(20)).expect(429);
    assert_eq!(later.code(), "rate_limit_exceeded");
    let long = json!({ "model": MODEL, "messages": [{ "role": "user", "content": "word ".repeat(100) }] });
    refused(&long.to_string());
    assert_eq!(gateway.house.metrics.limit_rejections.with_label_values(&["request_size"]).get(), 3);
    assert_eq!(gateway.house.metrics.limit_rejections.with_label_values(&["tpm"]).get(), 1);
}

#[test]
fn an_image_is_not_counted_by_its_letters() {
    let azure = FakeAzure::start(Script::always(answered()));
    let gateway = TestGateway::before(azure.address());
    let (_, secret) = gateway.new_key(json!({ "limits": { "tpm": 10_000 } }));
    let url = format!("data:image/png;base64,{}", "iVBORw0K".repeat(50_000));
    let content =
        json!([{ "type": "text", "text": "What is it?" }, { "type": "image_url", "image_url": { "url": url } }]);
    let body = json!({ "model": MODEL, "max_tokens": 50, "messages": [{ "role": "user", "content": content }] });
    ask(&gateway, &secret, &body.to_string()).expect(200);
}

#[test]
fn a_users_limits_are_shared_by_their_keys() {
    let gate = Gate::default();
    let azure = FakeAzure::start(Script::always(answered().after_gate(&gate)));
    let gateway = TestGateway::before(azure.address());
    let make = || {
        let made = json!({ "name": "one of two", "user": "Ada", "limits": unlimited() }).to_string();
        let made = gateway.admin("POST", "/keys", &made).expect(201).json();
        (made["user"]["id"].as_str().unwrap().to_owned(), made["secret"].as_str().unwrap().to_owned())
    };
    let ((user, phone), (_, laptop)) = (make(), make());
    let limits = format!("/users/{user}/limits");
    let put = |body: serde_json::Value| gateway.admin("PUT", &limits, &body.to_string()).expect(200).json();
    assert_eq!(put(json!({ "tpm": 60, "concurrency": 1 })), json!({ "rpm": null, "tpm": 60, "concurrency": 1 }));
    assert_eq!(gateway.admin("GET", &limits, "").expect(200).json()["tpm"], 60);

    let mut first = gateway.client();
    first.send(super::chat(&phone, &question(20)));
    azure.wait_for(|seen| seen.requests.len() == 1);
    let refused = ask(&gateway, &laptop, &question(20)).expect(429);
    assert!(
        refused.text().contains("Your user's (all keys together) limit of 1 requests at once"),
        "{}",
        refused.text()
    );
    put(json!({ "tpm": 60 }));
    let refused = ask(&gateway, &laptop, &question(40)).expect(429);
    assert!(refused.text().contains("(all keys together) limit of 60 tokens per minute"), "{}", refused.text());
    gate.open();
    first.answer().expect(200);
    gateway.settle();
    ask(&gateway, &laptop, &question(20)).expect(200);
    ask(&gateway, &phone, &question(40)).expect(429);
    let wrong = gateway.admin("PUT", &limits, r#"{"concurency":1,"rpm":"many"}"#).expect(422).json();
    assert_eq!(wrong["errors"][0]["detail"], "unknown field; did you mean `concurrency`?");
    assert_eq!(wrong["errors"][1]["pointer"], "/rpm");
}

#[test]
fn browsers_may_read_the_figures() {
    let azure = FakeAzure::start(Script::always(answered()));
    let gateway = TestGateway::before(azure.address());
    let (_, secret) = gateway.new_key(json!({}));
    let lines = format!("{}origin: https://chat.example\r\n", super::bearer(&secret));
    let answer = gateway.client().send(post("/v1/chat/completions", &lines, question(5).as_bytes())).answer();
    // The default limit of every key.
    assert_eq!(answer.header("x-ratelimit-limit-tokens"), Some("1000000"));
    for name in ["limit", "remaining", "reset"] {
        assert!(
            answer.header("access-control-expose-headers").unwrap().contains(&format!("x-ratelimit-{name}-tokens"))
        );
    }
    gateway.client().send(get("/v1/models", &lines)).answer().expect(200);
}
