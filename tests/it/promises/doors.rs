//! Every path of the data plane is behind the same door, whatever stands at it.

use aoai_gateway::azure::endpoint::{ApiVersion, Kind};
use aoai_gateway::domain::demand::{Family, Operation};
use serde_json::json;

use crate::support::answers::answered;
use crate::support::client::{get, post};
use crate::support::fake_azure::{FakeAzure, Script};
use crate::support::gateway::{ADMIN_KEY, DEPLOYMENT, TestGateway};

/// Paths below `/v1`; families and operations come from the lists that requests are dispatched by, so that none is new
/// without being asked for here.
fn plain() -> Vec<String> {
    let mut paths: Vec<String> =
        Operation::ALL.into_iter().chain(Operation::MEDIA).map(|operation| operation.path().to_owned()).collect();
    for family in Family::ALL.map(Family::path) {
        paths.push(family.to_owned());
    }
    let below = [
        "/realtime?model=gpt-4o-mini",
        "/moderations",
        "/models",
        "/models/gpt-4o-mini",
        "/responses/resp_1",
        "/responses/resp_1/cancel",
        "/responses/resp_1/input_items",
        "/files/file-1",
        "/files/file-1/content",
        "/uploads/upload_1/parts",
        "/uploads/upload_1/complete",
        "/batches/batch_1",
        "/batches/batch_1/cancel",
        "/assistants/asst_1",
        "/vector_stores/vs_1/files",
        "/vector_stores/vs_1/files/file-1",
        "/vector_stores/vs_1/search",
        "/threads/runs",
        "/threads/thread_1/messages",
        "/threads/thread_1/runs",
        "/threads/thread_1/runs/run_1/steps",
        "/threads/thread_1/runs/run_1/submit_tool_outputs",
        "/containers/cntr_1/files/f/content",
        "/fine_tuning/jobs/ftjob-1/events",
        "/conversations/conv_1/items",
        "/engines/gpt-4o-mini/chat/completions",
    ];
    paths.extend(below.map(str::to_owned));
    paths
}

/// In every dialect, and what stands outside of them.
fn paths() -> Vec<String> {
    let mut paths = Vec::new();
    for path in plain() {
        let mark = if path.contains('?') { '&' } else { '?' };
        paths.extend([
            format!("/v1{path}"),
            format!("//v1/{path}"),
            format!("/openai/v1{path}"),
            format!("/openai{path}{mark}api-version=2025-04-01-preview"),
        ]);
    }
    for operation in Operation::ALL.into_iter().chain(Operation::MEDIA) {
        paths.push(format!("/openai/deployments/{DEPLOYMENT}{}?api-version=2024-10-21", operation.path()));
    }
    for own in ["/me", "/dashboard/billing/usage", "/dashboard/billing/subscription"] {
        paths.extend([own.to_owned(), format!("/v1{own}")]);
    }
    paths
}

/// What asks for no session is told so before anything else, to whomever.
const UPGRADE: &str = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                       sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

#[test]
fn without_a_good_key_every_path_says_the_same() {
    let azure = FakeAzure::start(Script::always(answered()));
    let gateway = TestGateway::with(|estate| {
        estate.azure("east", azure.address());
        // Without one there are no moderations, for whomever.
        let judge = estate.azure("judge", azure.address());
        (judge.kind, judge.api_version) = (Kind::OpenAi, ApiVersion::V1);
    });
    let (revoked_id, revoked) = gateway.new_key(json!({}));
    gateway.admin("DELETE", &format!("/keys/{revoked_id}"), "").expect(204);
    let (_, expired) = gateway.new_key(json!({ "expires_at": "2020-01-01T00:00:00Z" }));
    let keys = ["", "sk-unknown", &revoked, &expired, ADMIN_KEY];
    let (mut clients, mut doors) = (keys.map(|_| gateway.client()), 0);
    for path in paths() {
        let mut allowed = 0;
        for method in ["GET", "POST", "DELETE"] {
            for (key, client) in keys.iter().zip(&mut clients) {
                let mut line = if key.is_empty() { String::new() } else { format!("api-key: {key}\r\n") };
                if path.contains("/realtime") && method == "GET" {
                    line += UPGRADE;
                }
                let request = match method {
                    "POST" => post(&path, &line, b"{}"),
                    _ => String::from_utf8(get(&path, &line)).unwrap().replacen("GET", method, 1).into_bytes(),
                };
                let answer = client.send(request).answer();
                if answer.header("connection") == Some("close") {
                    *client = gateway.client();
                }
                if answer.status == 405 {
                    assert!(answer.header("allow").is_some_and(|allow| !allow.contains(method)), "{method} {path}");
                    continue;
                }
                assert_eq!((answer.status, answer.code().as_str()), (401, "invalid_api_key"), "{method} {path} {key}");
                assert!(answer.header("x-request-id").is_some());
                allowed += 1;
            }
        }
        doors += 1;
        assert!(allowed > 0, "nobody is let in at {path}, and nobody is kept out either");
    }
    assert!(doors > 150, "{doors}");
    assert!(azure.requests().is_empty() && gateway.rows().is_empty());
}
