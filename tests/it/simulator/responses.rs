//! The Responses API of a simulated region: its stream, its memory, its refusals.

use aoai_gateway::simulator::{Fault, FaultKind, Simulator};
use serde_json::{Value, json};

use super::client::{Answer, Client};
use super::{idle, resource, run};

const V1: &str = "/openai/v1/responses";
const DATED: &str = "/openai/responses?api-version=2025-04-01-preview";

fn asked(text: &str) -> Value {
    json!({"model": "gpt-4o-mini", "input": text})
}

fn get(simulator: &Simulator, method: &str, path: &str) -> Answer {
    Client::to(simulator).method(method, path)
}

#[actix_web::test]
async fn a_stream_ends_with_the_response_that_is_kept() {
    let simulator = run(resource("responses")).await;
    let whole = Client::to(&simulator).post(V1, &asked("Tell me a joke")).json();
    let mut body = asked("Tell me a joke");
    body["stream"] = true.into();
    let answer = Client::to(&simulator).post(DATED, &body);
    let frames = answer.frames();
    let types: Vec<_> = frames.iter().map(|frame| frame["type"].as_str().unwrap()).collect();
    assert_eq!(
        types[..4],
        ["response.created", "response.in_progress", "response.output_item.added", "response.content_part.added"]
    );
    let ends =
        ["response.output_text.done", "response.content_part.done", "response.output_item.done", "response.completed"];
    assert_eq!(types[types.len() - 4..], ends);
    let numbers: Vec<_> = frames.iter().map(|frame| frame["sequence_number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..types.len() as u64).collect::<Vec<_>>());
    let deltas = frames.iter().filter(|frame| frame["type"] == "response.output_text.delta");
    let text: String = deltas.map(|frame| frame["delta"].as_str().unwrap()).collect();
    let last = &frames[frames.len() - 1]["response"];
    assert_eq!(last["output"][0]["content"][0]["text"], text.as_str());
    assert_eq!(whole["output"][0]["content"], last["output"][0]["content"], "the same question, the same answer");
    let kept = get(&simulator, "GET", &format!("{V1}/{}", last["id"].as_str().unwrap()));
    assert_eq!(&kept.json(), last);
    idle(&simulator).await;
    let entry = simulator.control().journal()[1].clone();
    assert_eq!(
        (entry.completion_tokens, entry.tokens_sent, entry.completion_id.as_deref()),
        (60, 60, last["id"].as_str())
    );
    assert_eq!(last["usage"]["input_tokens"], json!(entry.prompt_tokens));
}

#[actix_web::test]
async fn only_the_region_that_made_it_goes_on_from_a_response() {
    let (one, other) = (run(resource("one")).await, run(resource("other")).await);
    let first = Client::to(&one).post(V1, &asked("Tell me a joke")).json();
    let id = first["id"].as_str().unwrap();
    let mut body = asked("Another one");
    body["previous_response_id"] = id.into();
    let second = Client::to(&one).post(V1, &body).json();
    assert!(second["usage"]["input_tokens"].as_u64() > first["usage"]["input_tokens"].as_u64());
    let refusal = Client::to(&other).post(V1, &body);
    assert_eq!((refusal.status(), &refusal.json()["error"]["code"]), (400, &json!("previous_response_not_found")));
    assert_eq!(get(&other, "GET", &format!("{V1}/{id}")).status(), 404);
    let items = get(&one, "GET", &format!("{V1}/{id}/input_items")).json();
    assert_eq!(items["data"][0]["content"][0]["text"], "Tell me a joke");
    assert_eq!(get(&one, "POST", &format!("{V1}/{id}/cancel")).status(), 400);
    assert_eq!(get(&one, "DELETE", &format!("{V1}/{id}")).json()["object"], "response.deleted");
    assert_eq!(get(&one, "GET", &format!("{V1}/{id}")).status(), 404);
    let mut unkept = asked("Tell me a joke");
    unkept["store"] = false.into();
    let unkept = Client::to(&one).post(V1, &unkept).json();
    assert_eq!(get(&one, "GET", &format!("{V1}/{}", unkept["id"].as_str().unwrap())).status(), 404);
}

#[actix_web::test]
async fn what_belongs_to_other_operations_is_refused_by_name() {
    let simulator = run(resource("responses")).await;
    for (member, value) in [
        ("messages", json!([])),
        ("max_tokens", json!(9)),
        ("max_output_tokens", json!(5)),
        ("stream_options", json!({"include_usage": true})),
    ] {
        let mut body = asked("hi");
        body[member] = value;
        let refusal = Client::to(&simulator).post(V1, &body);
        assert_eq!(refusal.status(), 400, "{member}");
        assert!(refusal.json()["error"]["param"].as_str().unwrap().starts_with(member), "{}", refusal.json());
    }
    let old = Client::to(&simulator).post("/openai/responses?api-version=2024-10-21", &asked("hi"));
    assert_eq!((old.status(), &old.json()["error"]["message"]), (404, &json!("Resource not found")));
}

#[actix_web::test]
async fn a_limit_comes_inside_the_stream_or_as_a_429() {
    let simulator = run(resource("responses")).await;
    simulator.control().inject(Fault::new(FaultKind::ThrottleInBand { retry_after_ms: Some(5_000) }));
    let mut body = asked("hi");
    assert_eq!(Client::to(&simulator).post(V1, &body).status(), 429);
    body["stream"] = true.into();
    let answer = Client::to(&simulator).post(V1, &body);
    let types: Vec<_> = answer.frames().iter().map(|frame| frame["type"].clone()).collect();
    assert_eq!(types, ["response.created", "response.in_progress", "response.failed", "error"]);
    assert_eq!((answer.status(), answer.header("retry-after-ms")), (200, Some("5000")));
    idle(&simulator).await;
    assert!(simulator.control().journal().iter().all(|entry| !entry.charged));
}
