//! What callers learn of themselves.

use serde_json::{Value, json};

use super::{EACH, ask, bearer, question};
use crate::support::answers::answered;
use crate::support::client::{Answer, get};
use crate::support::fake_azure::{FakeAzure, Script};
use crate::support::gateway::{MODEL, TestGateway};

/// A dollar a thousand tokens.
fn gateway() -> (FakeAzure, TestGateway) {
    let azure = FakeAzure::start(Script::always(answered()));
    let gateway = TestGateway::with(|estate| {
        estate.azure("east", azure.address());
        let model = estate.0.models.entry(MODEL.into()).or_default();
        model.price = aoai_gateway::domain::money::Price::of(1_000_000_000, 1_000_000_000, 1_000_000_000);
    });
    (azure, gateway)
}

fn read(gateway: &TestGateway, path: &str, secret: &str) -> Answer {
    gateway.client().send(get(path, &bearer(secret))).answer()
}

fn close(value: &Value, expected: f64) {
    assert!((value.as_f64().unwrap() - expected).abs() < 1e-9, "{value} is not {expected}");
}

#[test]
fn a_caller_asks_about_itself() {
    let (_azure, gateway) = gateway();
    let (id, secret) = gateway.new_key(json!({ "name": "alice", "user": "Ada", "models": [MODEL],
        "limits": { "rpm": 60 }, "quota": { "period": "month", "tokens": 1_000, "cost_usd": 20 } }));
    ask(&gateway, &secret, &question(5)).expect(200);
    gateway.settle();
    let me = read(&gateway, "/v1/me", &secret).expect(200).json();
    assert_eq!((&me["id"], &me["name"], &me["models"]), (&json!(id), &json!("alice"), &json!([MODEL])));
    assert_eq!(me["limits"], json!({ "rpm": 60, "tpm": 1_000_000, "concurrency": 64 }));
    assert_eq!((&me["quota"]["used_tokens"], &me["quota"]["remaining_tokens"]), (&json!(EACH), &json!(1_000 - EACH)));
    assert_eq!((&me["user_quota"], &me["user_limits"]), (&Value::Null, &Value::Null));
    assert_eq!(me["usage"]["tokens"], EACH);
    close(&me["usage"]["cost_usd"], 0.017);
    assert!(me["user_id"].as_str().unwrap().starts_with("user_"));
    assert!(!me.to_string().contains(&secret));
    assert_eq!(read(&gateway, "/v1/me", "sk-unknown").status, 401);
}

#[test]
fn nextchat_shows_a_balance() {
    let (_azure, gateway) = gateway();
    let (_, secret) = gateway.new_key(json!({ "quota": { "period": "day", "cost_usd": 1.5 } }));
    let (_, free) = gateway.new_key(json!({}));
    for secret in [&secret, &free] {
        ask(&gateway, secret, &question(5)).expect(200);
        ask(&gateway, secret, &question(5)).expect(200);
    }
    gateway.settle();
    for prefix in ["", "/v1"] {
        for (secret, limit) in [(&secret, 1.5), (&free, 100_000_000.0)] {
            let usage = read(&gateway, &format!("{prefix}/dashboard/billing/usage"), secret).expect(200).json();
            assert_eq!(usage["object"], "list");
            // Cents.
            close(&usage["total_usage"], 3.4);
            let path = format!("{prefix}/dashboard/billing/subscription");
            let subscription = read(&gateway, &path, secret).expect(200).json();
            assert_eq!(subscription["object"], "billing_subscription");
            close(&subscription["hard_limit_usd"], limit);
        }
    }
    let of = |days: &str| {
        read(&gateway, &format!("/dashboard/billing/usage?{days}"), &secret).expect(200).json()["total_usage"].clone()
    };
    close(&of("start_date=2001-01-01&end_date=2002-01-01"), 0.0);
    close(&of("start_date=2001-01-01&end_date=2999-01-01"), 3.4);
    close(&of("start_date=nonsense"), 3.4);
    assert_eq!(read(&gateway, "/dashboard/billing/usage", "sk-unknown").status, 401);
    let preflight = "OPTIONS /dashboard/billing/usage HTTP/1.1\r\nhost: g\r\norigin: https://chat.example\r\n\r\n";
    let preflight = gateway.client().send(preflight).answer().expect(204);
    assert_eq!(preflight.header("access-control-allow-origin"), Some("*"));
}
