//! A quota's figure survives whatever ends the process, because it is made from the ledger.

use aoai_gateway::simulator::Knobs;
use serde_json::{Value, json};

use crate::support::client::{Client, post};
use crate::support::process::{ADMIN_KEY, CHAT, Estate, Gateway};

const KILLS: usize = 5;

fn admin(gateway: &Gateway, method: &str, path: &str, body: &Value) -> Value {
    let body = body.to_string();
    let length = body.len();
    let head = format!("{method} /admin/v1{path} HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {ADMIN_KEY}\r\n");
    let request = format!("{head}content-length: {length}\r\n\r\n{body}");
    let answer = gateway.client().send(request).answer();
    assert!(answer.status < 300, "{path}: {}", answer.text());
    answer.json()
}

fn question(stream: bool, max_tokens: u32) -> String {
    let messages = json!([{ "role": "user", "content": "Tell me a story." }]);
    json!({ "model": CHAT, "stream": stream, "max_tokens": max_tokens, "messages": messages }).to_string()
}

/// A stream that has begun and is read no further.
fn begin(gateway: &Gateway, secret: &str) -> Client {
    let bearer = format!("authorization: Bearer {secret}\r\n");
    let mut client = gateway.client();
    client.send(post("/v1/chat/completions", &bearer, question(true, 2_000).as_bytes()));
    let mut answer = client.head();
    client.read_until(&mut answer, |body| body.len() > 500);
    client
}

#[test]
fn a_kill_loses_nothing_of_a_quotas_use() {
    let knobs = Knobs { ttft_ms: 1, token_ms: 2, output_tokens: 2_000, ..Knobs::default() };
    // A zone whose months do not begin on the hour.
    let estate = Estate::of(&["eastus2"], &knobs, "[defaults]\ntime_zone = \"Asia/Kathmandu\"\n");
    let mut gateway = estate.start();
    let quota = json!({ "period": "month", "tokens": 1_000_000, "cost_usd": 5 });
    let made = admin(&gateway, "POST", "/keys", &json!({ "name": "counted", "user": "Ada", "quota": quota }));
    let (id, secret) = (made["id"].as_str().unwrap(), made["secret"].as_str().unwrap());
    let of_key = format!("/keys/{id}/quota");
    let of_user = format!("/users/{}/quota", made["user"]["id"].as_str().unwrap());
    admin(&gateway, "PUT", &of_user, &json!({ "period": "week", "tokens": 900_000, "time_zone": "UTC" }));
    for _ in 0..KILLS {
        for _ in 0..3 {
            gateway.chat(secret, &question(false, 5)).expect(200);
        }
        let before = admin(&gateway, "GET", &of_key, &Value::Null)["used_tokens"].as_u64().unwrap();
        let streams = [begin(&gateway, secret), begin(&gateway, secret)];
        let reserved = admin(&gateway, "GET", &of_key, &Value::Null)["reserved_tokens"].as_u64().unwrap();
        assert!(reserved > 4_000, "{reserved}");
        gateway.kill();
        drop(streams);
        gateway = estate.start();
        // What the ledger has, and nothing reserved by requests that are no more.
        let ledger: i64 = rows(&gateway).iter().map(tokens).sum();
        for path in [&of_key, &of_user] {
            let quota = admin(&gateway, "GET", path, &Value::Null);
            assert_eq!((quota["used_tokens"].as_i64(), &quota["reserved_tokens"]), (Some(ledger), &json!(0)), "{path}");
            assert!(quota["used_tokens"].as_u64().unwrap() > before);
        }
    }
    let recovered = rows(&gateway).iter().filter(|row| row["state"] == "recovered").count();
    assert_eq!(recovered, 2 * KILLS);
    let row = &rows(&gateway)[0];
    assert_eq!(row["price_version"].as_str().map(str::len), Some(16), "{row}");
    gateway.stop();
}

fn rows(gateway: &Gateway) -> Vec<Value> {
    admin(gateway, "GET", "/requests?limit=200", &Value::Null)["data"].as_array().unwrap().clone()
}

fn tokens(row: &Value) -> i64 {
    row["input_tokens"].as_i64().unwrap() + row["output_tokens"].as_i64().unwrap()
}
