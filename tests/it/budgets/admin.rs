//! The documents of quotas, as the admin plane takes and gives them.

use serde_json::{Value, json};

use super::{EACH, ask, question};
use crate::support::answers::answered;
use crate::support::fake_azure::{FakeAzure, Script};
use crate::support::gateway::{MODEL, TestGateway};

fn gateway() -> (FakeAzure, TestGateway) {
    let azure = FakeAzure::start(Script::always(answered()));
    let gateway = TestGateway::before(azure.address());
    (azure, gateway)
}

#[test]
fn a_key_is_made_with_its_quota() {
    let (_azure, gateway) = gateway();
    let body = json!({ "name": "alice", "limits": { "rpm": 60, "tpm": 60_000, "concurrency": 4 },
        "quota": { "period": "month", "tokens": 5_000_000, "cost_usd": 20 } });
    let made = gateway.admin("POST", "/keys", &body.to_string()).expect(201).json();
    assert_eq!(made["limits"], json!({ "rpm": 60, "tpm": 60_000, "concurrency": 4 }));
    let quota = &made["quota"];
    assert_eq!(
        (&quota["period"], &quota["tokens"], &quota["cost_usd"]),
        (&json!("month"), &json!(5_000_000), &json!(20.0))
    );
    assert_eq!((&quota["used_tokens"], &quota["remaining_cost_usd"]), (&json!(0), &json!(20.0)));
    let path = format!("/keys/{}", made["id"].as_str().unwrap());
    assert_eq!(&gateway.admin("GET", &format!("{path}/quota"), "").expect(200).json(), quota);
    let changes = gateway.admin("GET", "/audit?action=key.created", "").expect(200).json();
    assert_eq!(changes["data"].as_array().map(Vec::len), Some(1));
}

#[test]
fn mistakes_are_named_where_they_are() {
    let (_azure, gateway) = gateway();
    let (id, _) = gateway.new_key(json!({}));
    let problem = |method: &str, path: &str, body: Value| {
        let problem = gateway.admin(method, path, &body.to_string()).expect(422).json();
        problem["errors"][0].clone()
    };
    for (quota, at, says) in [
        (json!("much"), "", "an object"),
        (json!({ "period": "monthly", "tokens": 5 }), "/period", "day, week, month, none"),
        (json!({ "tokens": 5 }), "/period", "day, week, month, none"),
        (json!({ "period": "day", "tokens": -5 }), "/tokens", "whole number"),
        (json!({ "period": "day", "tokens": 1.5 }), "/tokens", "whole number"),
        (json!({ "period": "day", "cost_usd": "20" }), "/cost_usd", "US dollars"),
        (json!({ "period": "day", "cost_usd": 1e30 }), "/cost_usd", "US dollars"),
        (json!({ "period": "day", "tokens": 5, "time_zone": "Berlin" }), "/time_zone", "Europe/Berlin"),
        (json!({ "period": "day", "tokns": 5 }), "/tokns", "did you mean `tokens`?"),
    ] {
        let error = problem("PUT", &format!("/keys/{id}/quota"), quota.clone());
        assert_eq!(error["pointer"], at, "{quota}");
        assert!(error["detail"].as_str().unwrap().contains(says), "{quota}: {error}");
        let error = problem("POST", "/keys", json!({ "name": "x", "quota": quota }));
        assert_eq!(error["pointer"], format!("/quota{at}"), "{quota}");
    }
    gateway.admin("PUT", &format!("/keys/{id}/quota"), "{").expect(400);
    for (method, path) in [
        ("GET", "/keys/key_1/quota"),
        ("PUT", "/keys/key_01920000000070008000000000000000/quota"),
        ("GET", "/users/key_01920000000070008000000000000000/quota"),
        ("DELETE", "/keys/key_01920000000070008000000000000000/grants/grant_1"),
    ] {
        gateway.admin(method, path, "{}").expect(404);
    }
    let refused = gateway.admin("DELETE", &format!("/keys/{id}/quota"), "").expect(405);
    assert_eq!(refused.header("allow"), Some("GET, PUT"));
}

#[test]
fn a_keys_usage_is_its_own() {
    let (_azure, gateway) = gateway();
    let ((id, secret), (_, other)) = (gateway.new_key(json!({})), gateway.new_key(json!({})));
    for secret in [&secret, &secret, &other] {
        ask(&gateway, secret, &question(5)).expect(200);
    }
    gateway.settle();
    let usage = gateway.admin("GET", &format!("/keys/{id}/usage?group_by=model"), "").expect(200).json();
    let data = usage["data"].as_array().unwrap();
    assert_eq!(data.len(), 1);
    assert_eq!((&data[0]["model"], &data[0]["requests"]), (&json!(MODEL), &json!(2)));
    assert_eq!(data[0]["input_tokens"].as_u64().unwrap() + data[0]["output_tokens"].as_u64().unwrap(), 2 * EACH);
    gateway.admin("GET", &format!("/keys/{id}/usage?bucket=2d"), "").expect(422);
}
