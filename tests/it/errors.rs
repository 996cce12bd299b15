//! Refusals of the gateway's own: status, code, type, and a message that says what to do next.

use std::process::Command;
use std::time::{Duration, Instant};

use aoai_gateway::domain::ids::{DeploymentName, ModelName};
use aoai_gateway::settings::model::Deployment;
use diesel::RunQueryDsl;
use serde_json::json;

use crate::support::answers::{QUESTION, STREAMED_QUESTION, answered};
use crate::support::client::{Answer, get, post};
use crate::support::fake_azure::{FakeAzure, Gate, Script};
use crate::support::gateway::{MODEL, TestGateway, eventually, eventually_within};
use crate::support::sqlite;

const CHAT: &str = "/v1/chat/completions";

fn azure() -> FakeAzure {
    FakeAzure::start(Script::always(answered()))
}

/// A refusal in OpenAI's envelope, with nothing else in it.
#[track_caller]
fn refused(answer: Answer, status: u16, kind: &str, code: &str, next_step: &str) -> Answer {
    let answer = answer.expect(status);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert!(answer.header("x-request-id").is_some());
    let body = answer.json();
    assert_eq!(body.as_object().unwrap().len(), 1);
    let error = body["error"].as_object().unwrap();
    assert_eq!(error.keys().collect::<Vec<_>>(), ["code", "message", "param", "type"]);
    assert_eq!((error["type"].as_str(), error["code"].as_str()), (Some(kind), Some(code)));
    let message = error["message"].as_str().unwrap();
    assert!(message.contains(next_step) && message.ends_with('.'), "{message:?} should say {next_step:?}");
    answer
}

fn with_key(gateway: &TestGateway, key: &str) -> Answer {
    gateway.client().send(post(CHAT, &format!("authorization: Bearer {key}\r\n"), QUESTION.as_bytes())).answer()
}

#[track_caller]
fn unauthorised(answer: Answer) {
    let answer = refused(answer, 401, "invalid_request_error", "invalid_api_key", "ask your admin");
    let text = answer.text().to_lowercase();
    assert!(!text.contains("database") && !text.contains("expired") && !text.contains("revoked"), "{text}");
}

#[test]
fn requests_without_a_good_key_all_look_alike() {
    let azure = azure();
    let gateway = TestGateway::before(azure.address());
    for lines in [
        String::new(),
        "authorization: Bearer \r\n".into(),
        "authorization: Bearer sk-wrong\r\n".into(),
        format!("authorization: Basic {}\r\n", gateway.key),
        format!("authorization: {}\r\n", gateway.key),
        format!("authorization: Bearer {}x\r\n", gateway.key),
        format!("authorization: Bearer {}\r\n", "k".repeat(4000)),
        "api-key: ' OR 1=1 --\r\n".into(),
        "api-key: \u{e9}\r\n".into(),
        // The first credential counts: a wrong one is not made good by another.
        format!("authorization: Bearer sk-wrong\r\napi-key: {}\r\n", gateway.key),
    ] {
        for request in [post(CHAT, &lines, QUESTION.as_bytes()), get("/v1/models", &lines)] {
            unauthorised(gateway.client().send(request).answer());
        }
    }
    unauthorised(gateway.client().send(post(CHAT, "", b"{ not json")).answer());
    assert!(azure.requests().is_empty());
    assert!(gateway.rows().is_empty(), "what is not admitted leaves no row");
}

#[test]
fn an_unknown_key_costs_no_query() {
    let azure = azure();
    let gateway = TestGateway::before(azure.address());
    let mut database = sqlite::connect(&gateway.database());
    diesel::sql_query("ALTER TABLE keys RENAME TO elsewhere").execute(&mut database).unwrap();
    assert_eq!(gateway.admin("GET", "/keys", "").status, 503, "a question about keys fails now");
    let errors = gateway.house.metrics.database_errors.get();
    let began = Instant::now();
    for n in 0..200 {
        unauthorised(with_key(&gateway, &format!("sk-wrong-{n}")));
    }
    assert_eq!(with_key(&gateway, &gateway.key).status, 200, "known keys are in memory");
    let more = gateway.house.metrics.database_errors.get() - errors;
    // The gateway itself looks for changed keys twice a second; that is not what a stranger costs.
    let own = began.elapsed().as_millis() as u64 / 500 + 2;
    assert!(own < 100 && more <= own, "{more} failed queries for 200 strangers, {own} of the gateway's own");
    diesel::sql_query("ALTER TABLE elsewhere RENAME TO keys").execute(&mut database).unwrap();
}

#[test]
fn a_revoked_key_is_refused_within_a_second() {
    let azure = azure();
    let gateway = TestGateway::before(azure.address());
    let (id, secret) = gateway.new_key(json!({}));
    assert_eq!(with_key(&gateway, &secret).status, 200);
    assert_eq!(gateway.admin("DELETE", &format!("/keys/{id}"), "").status, 204);
    unauthorised(with_key(&gateway, &secret));

    let (_, secret) = gateway.new_key(json!({ "name": "by another process" }));
    assert_eq!(with_key(&gateway, &secret).status, 200);
    let elsewhere = tempfile::tempdir().unwrap();
    let revoked = Command::new(env!("CARGO_BIN_EXE_aoai-gateway"))
        .args(["keys", "revoke", "by another process", "--settings"])
        .arg(elsewhere.path())
        .env("GATEWAY__DATABASE__URL", format!("sqlite:{}", gateway.database().display()))
        .output()
        .unwrap();
    assert!(revoked.status.success(), "{}", String::from_utf8_lossy(&revoked.stderr));
    let last = eventually_within(Duration::from_secs(1), || {
        let answer = with_key(&gateway, &secret);
        if answer.status == 401 { Ok(answer) } else { Err("a revoked key still counts".to_owned()) }
    });
    unauthorised(last);
}

#[test]
fn a_key_expires_by_itself() {
    let azure = azure();
    let gateway = TestGateway::before(azure.address());
    let soon = jiff::Timestamp::now() + Duration::from_millis(1500);
    let (_, secret) = gateway.new_key(json!({ "expires_at": soon.to_string(), "limits": { "rpm": "unlimited" } }));
    assert_eq!(with_key(&gateway, &secret).status, 200);
    let last = eventually(|| {
        let asked = jiff::Timestamp::now();
        let answer = with_key(&gateway, &secret);
        match answer.status {
            200 if asked < soon => Err("not expired yet".to_owned()),
            200 => panic!("an expired key still counts"),
            _ => Ok(answer),
        }
    });
    assert!(jiff::Timestamp::now() >= soon);
    unauthorised(last);
}

#[test]
fn bodies_that_cannot_be_read() {
    let azure = azure();
    let gateway = TestGateway::before(azure.address());
    let invalid = "invalid_request_error";
    let long = format!("{{\"model\":\"gpt-4o-mini\"{}", "]".repeat(10));
    for (body, code, next_step) in [
        ("", "invalid_json", "expected a JSON object at byte 0"),
        ("nonsense", "invalid_json", "expected a JSON object at byte 0"),
        ("[]", "invalid_json", "expected a JSON object at byte 0"),
        (r#"{"model":"gpt-4o-mini""#, "invalid_json", "at byte 22"),
        (r#"{"model":"gpt-4o-mini",}"#, "invalid_json", "at byte 23"),
        (r#"{"model":"gpt-4o-mini"}{}"#, "invalid_json", "expected the end of the JSON object"),
        (&long, "invalid_json", "at byte 22"),
        (r#"{"model":"gpt-4o-mini","model":"gpt-4.1"}"#, "duplicate_field", "send it once"),
        (r#"{"model":"gpt-4o-mini","mod\u0065l":"gpt-4.1"}"#, "duplicate_field", "send it once"),
        (r#"{"model":"gpt-4o-mini","stream":true,"stream":false}"#, "duplicate_field", "send it once"),
        (r#"{"model":"gpt-4o-mini","n":1,"n":128}"#, "duplicate_field", "send it once"),
        (r#"{"messages":[]}"#, "missing_model", "Add one"),
        (r#"{"model":null}"#, "missing_model", "Add one"),
        (r#"{"model":7}"#, "invalid_type", "must be a string"),
        (r#"{"model":"gpt-4o-mini","stream":"yes"}"#, "invalid_type", "must be true or false"),
        (r#"{"model":"gpt-4o-mini","stream_options":[]}"#, "invalid_type", "must be an object"),
    ] {
        refused(gateway.post(CHAT, body), 400, invalid, code, next_step);
    }
    assert!(azure.requests().is_empty() && gateway.rows().is_empty());
}

#[test]
fn models_that_do_not_exist_or_are_not_allowed() {
    let azure = azure();
    let gateway = TestGateway::with(|estate| {
        let large = Deployment::of(ModelName::from("gpt-4.1"));
        estate.azure("east", azure.address()).deployments.insert(DeploymentName::from("large"), large);
    });
    let invalid = "invalid_request_error";
    let usable = "This key may use: gpt-4.1, gpt-4o-mini";
    refused(gateway.chat(r#"{"model":"gpt-9"}"#), 404, invalid, "model_not_found", usable);
    refused(gateway.chat(r#"{"model":""}"#), 404, invalid, "model_not_found", usable);
    refused(gateway.chat(r#"{"model":"mini-one"}"#), 404, invalid, "model_not_found", usable);
    let path = "/openai/deployments/none/chat/completions?api-version=2024-10-21";
    refused(gateway.post(path, "{}"), 404, invalid, "model_not_found", usable);
    let (_, secret) = gateway.new_key(json!({ "models": ["gpt-4.1"] }));
    refused(with_key(&gateway, &secret), 403, invalid, "model_not_allowed", "It may use: gpt-4.1");
    let line = format!("api-key: {secret}\r\n");
    let path = path.replace("none", "mini-one");
    let answer = gateway.client().send(post(&path, &line, b"{}")).answer();
    refused(answer, 403, invalid, "model_not_allowed", "It may use: gpt-4.1");
    let answer = gateway.client().send(get(&format!("/v1/models/{MODEL}"), &line)).answer();
    refused(answer, 404, invalid, "model_not_found", "gpt-4.1");
    assert!(azure.requests().is_empty());
}

#[test]
fn limits_say_when_to_come_back() {
    let gate = Gate::default();
    let azure = FakeAzure::start(Script::always(answered().after_gate(&gate)));
    let gateway = TestGateway::before(azure.address());
    let (_, secret) = gateway.new_key(json!({ "limits": { "concurrency": 1 } }));
    let line = format!("authorization: Bearer {secret}\r\n");
    let mut first = gateway.client();
    first.send(post(CHAT, &line, QUESTION.as_bytes()));
    azure.wait_for(|seen| seen.requests.len() == 1);
    let answer = refused(with_key(&gateway, &secret), 429, "requests", "rate_limit_exceeded", "Wait for one to end");
    assert_eq!((answer.header("retry-after"), answer.header("retry-after-ms")), (Some("1"), Some("1000")));
    gate.open();
    first.answer().expect(200);
    eventually(|| match with_key(&gateway, &secret).status {
        200 => Ok(()),
        status => Err(format!("the place is not free again: {status}")),
    });

    let (_, secret) = gateway.new_key(json!({ "limits": { "rpm": 2 } }));
    let answers: Vec<_> = (0..5).map(|_| with_key(&gateway, &secret)).collect();
    assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [200, 200, 200, 200, 429]);
    let last = refused(answers[4].clone(), 429, "requests", "rate_limit_exceeded", "try again");
    let wait: u64 = last.header("retry-after-ms").unwrap().parse().unwrap();
    assert!((25_000..=30_000).contains(&wait), "two a minute is one in 30 s, not in {wait} ms");
    assert_eq!(last.header("retry-after"), Some(wait.div_ceil(1000).to_string().as_str()));
    assert_eq!(gateway.house.metrics.limit_rejections.with_label_values(&["rpm"]).get(), 1);
}

#[test]
fn paths_that_do_not_exist() {
    let azure = azure();
    let gateway = TestGateway::before(azure.address());
    let invalid = "invalid_request_error";
    for (path, tip) in [
        ("/v1/v1/chat/completions", "take `/v1` off your client's base URL"),
        ("/v1/audio/songs", "GET /v1/models answers if the base URL is right"),
        ("/chat/completions", "begin with /v1"),
        ("/v1/chat/completions/extra", "GET /v1/models answers if the base URL is right"),
    ] {
        refused(gateway.post(path, QUESTION), 404, invalid, "unknown_path", tip);
    }
    gateway.post("//v1/chat/completions", QUESTION).expect(200);
    gateway.post("/v1/chat//completions", QUESTION).expect(200);
}

#[test]
fn methods_that_do_not_exist() {
    let azure = azure();
    let gateway = TestGateway::before(azure.address());
    for (method, path, allowed) in [
        ("GET", CHAT, "POST"),
        ("PUT", CHAT, "POST"),
        ("DELETE", "/v1/models", "GET"),
        ("BREW", "/v1/embeddings", "POST"),
        ("POST", "/healthz", "GET"),
    ] {
        let head =
            format!("{method} {path} HTTP/1.1\r\nhost: gateway\r\n{}content-length: 0\r\n\r\n", gateway.bearer());
        let answer = gateway.client().send(head).answer();
        let answer = refused(answer, 405, "invalid_request_error", "method_not_allowed", allowed);
        assert!(answer.header("allow").is_some_and(|allow| allow.contains(allowed)), "{method} {path}");
    }
    assert_eq!(gateway.admin("PATCH", "/keys", "").expect(405).header("allow"), Some("GET, POST"));
}

#[test]
fn browsers_may_ask_and_read() {
    let azure = azure();
    let gateway = TestGateway::before(azure.address());
    let preflight = format!(
        "OPTIONS {CHAT} HTTP/1.1\r\nhost: gateway\r\norigin: https://chat.example\r\n\
         access-control-request-method: POST\r\naccess-control-request-headers: authorization,content-type\r\n\r\n"
    );
    let answer = gateway.client().send(&preflight).answer().expect(204);
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    assert_eq!(answer.header("access-control-allow-headers"), Some("authorization,content-type"));
    assert!(answer.header("access-control-allow-methods").unwrap().contains("POST"));
    let origin = "origin: https://chat.example\r\n";
    for (lines, body) in [(gateway.bearer(), QUESTION), (String::new(), QUESTION), (gateway.bearer(), "{")] {
        let answer = gateway.client().send(post(CHAT, &(lines + origin), body.as_bytes())).answer();
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"), "also refusals can be read");
        assert!(answer.header("access-control-expose-headers").unwrap().contains("retry-after-ms"));
    }
    let answer = gateway.client().send(preflight.replace(CHAT, "/admin/v1/keys")).answer();
    assert_eq!(answer.header("access-control-allow-origin"), None, "the admin plane is no browser's business");
    assert!(answer.status >= 400);
}

#[test]
fn the_admin_plane_wants_its_own_key() {
    let azure = azure();
    let gateway = TestGateway::before(azure.address());
    for lines in [String::new(), gateway.bearer(), "authorization: Bearer wrong\r\n".into()] {
        let answer = gateway.client().send(get("/admin/v1/keys", &lines)).answer().expect(401);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    }
    let answer = gateway.admin("POST", "/keys", r#"{"name":"x","modles":[]}"#).expect(422).json();
    assert_eq!(answer["errors"][0]["pointer"], "/modles");
    assert!(answer["errors"][0]["detail"].as_str().unwrap().contains("did you mean `models`"), "{answer}");
}

#[test]
fn a_refused_stream_is_refused_in_json() {
    let azure = azure();
    let gateway = TestGateway::before(azure.address());
    let answer = gateway.chat(&STREAMED_QUESTION.replace(MODEL, "gpt-9"));
    refused(answer, 404, "invalid_request_error", "model_not_found", "may use");
}
