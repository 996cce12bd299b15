//! Secrets that pass through the admin plane, and prompts beside it, are looked for wherever something is kept or said.

use aoai_gateway::simulator::Knobs;
use serde_json::{Value, json};

use super::text;
use crate::support::client::{Answer, find, get, post};
use crate::support::process::{ADMIN_KEY, CHAT, Estate, Gateway, key_of};

const CHOSEN: &str = "canary-of-a-chosen-secret-8675309";
const REPLACED: &str = "canary-of-a-second-secret-8675309";
const WRONG: &str = "canary-of-a-wrong-admin-key-8675309";
const IDEMPOTENCY: &str = "canary-of-an-idempotency-key";
const PROMPT: &str = "canary-of-a-prompt";

fn ask(gateway: &Gateway, key: &str, method: &str, path: &str, body: &str) -> Answer {
    let length = body.len();
    let head = format!("{method} /admin/v1{path} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {key}\r\n");
    let lines = format!("idempotency-key: {IDEMPOTENCY}{length}\r\n");
    gateway.client().send(format!("{head}{lines}content-length: {length}\r\n\r\n{body}")).answer()
}

#[test]
fn no_secret_is_kept_or_said() {
    let estate = Estate::of(&["eastus2"], &Knobs::default(), "");
    let gateway = estate.start_with(|command| {
        command.env("RUST_LOG", "trace");
    });
    let mut watcher = gateway.client();
    watcher.send(get("/admin/v1/events", &format!("authorization: Bearer {ADMIN_KEY}\r\n")));
    let mut news = watcher.head();
    let admin = |method: &str, path: &str, body: Value| ask(&gateway, ADMIN_KEY, method, path, &body.to_string());

    let made = admin("POST", "/keys", json!({ "name": "chosen", "secret": CHOSEN, "user": "Ada" })).expect(201).json();
    let generated = text(&admin("POST", "/keys", json!({ "name": "generated" })).expect(201).json()["secret"]);
    let path = format!("/keys/{}", text(&made["id"]));
    admin("POST", &format!("{path}/rotate"), json!({ "grace": "1h", "secret": REPLACED })).expect(200);
    let rotated =
        text(&admin("POST", &format!("{path}/rotate"), json!({ "grace": "2h" })).expect(200).json()["secret"]);
    let second = admin("POST", "/admin-keys", json!({ "name": "second", "scopes": ["admin"] })).expect(201).json();
    let second = text(&second["secret"]);
    let question = format!("{{\"model\":\"{CHAT}\",\"messages\":[{{\"role\":\"user\",\"content\":\"{PROMPT}\"}}]}}");
    for key in [CHOSEN, REPLACED, &rotated, &generated] {
        gateway.chat(key, &question).expect(200);
    }
    // Refusals of all kinds, each with a secret where it does not belong.
    let mut said = Vec::new();
    said.push(ask(&gateway, WRONG, "GET", "/keys", "").expect(401));
    said.push(admin("POST", "/keys", json!({ "name": "again", "secret": CHOSEN })).expect(409));
    said.push(admin("PATCH", &path, json!({ "secret": CHOSEN })).expect(422));
    said.push(admin("PATCH", &path, json!({ "expires_at": CHOSEN })).expect(422));
    said.push(admin("POST", "/keys", json!({ "name": { "secret": CHOSEN } })).expect(422));
    said.push(ask(&gateway, &second, "POST", "/keys", &format!("{{\"secret\":\"{CHOSEN}")).expect(400));
    said.push(gateway.client().send(post("/v1/chat/completions", "api-key: none\r\n", question.as_bytes())).answer());
    for path in
        ["/keys", "/users", "/admin-keys", "/audit", "/settings", "/requests", "/usage", "/resources", "/models"]
    {
        said.push(ask(&gateway, &second, "GET", path, "").expect(200));
    }
    let audit = said.iter().find(|answer| answer.text().contains("key.rotated")).expect("no audit");
    assert!(audit.text().contains("admin_key.created"));
    admin("DELETE", &path, json!({})).expect(204);
    watcher.read_until(&mut news, |body| find(body, b"key.revoked").is_some());
    said.push(gateway.get("/metrics", ""));
    said.push(gateway.get("/readyz", ""));
    said.push(news);

    let upstream = key_of("eastus2");
    let canaries = [
        CHOSEN,
        REPLACED,
        WRONG,
        IDEMPOTENCY,
        PROMPT,
        ADMIN_KEY,
        &generated,
        &rotated,
        &second,
        &upstream,
        &estate.key,
    ];
    for answer in &said {
        for canary in canaries {
            assert!(find(&answer.body, canary.as_bytes()).is_none(), "{canary} in {}", answer.text());
        }
    }
    gateway.signal("TERM");
    let (ended, lines) = gateway.last_words();
    assert_eq!(ended.code, Some(0));
    assert!(lines.len() > 100, "it was to say all it can: {} lines", lines.len());
    let mut files = 0;
    for file in std::fs::read_dir(estate.folder()).unwrap().map(|file| file.unwrap().path()) {
        if !file.is_file() || !file.to_string_lossy().contains("gateway.db") {
            continue;
        }
        files += 1;
        let bytes = std::fs::read(&file).unwrap();
        for canary in canaries {
            assert!(find(&bytes, canary.as_bytes()).is_none(), "{canary} in {}", file.display());
        }
    }
    assert!(files > 0);
    for canary in canaries {
        let told: Vec<_> = lines.iter().filter(|line| line.contains(canary)).take(3).collect();
        assert!(told.is_empty(), "{canary} was logged: {told:#?}");
    }
}

#[test]
fn what_the_database_keeps_of_a_key_opens_nothing() {
    let gateway = super::gateway();
    let (_, secret) = gateway.new_key(json!({}));
    let (_, second) = super::credential(&gateway, "admin");
    for secret in [secret, second] {
        let stored = hex::encode(aoai_gateway::storage::secret_key::hash(&secret));
        assert_eq!(super::models(&gateway, &stored), 401);
        super::ask(&gateway, &stored, "GET", "/keys", "", "").expect(401);
    }
}
