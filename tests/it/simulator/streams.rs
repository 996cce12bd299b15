//! The shape of answers: bodies, streams in every mode, completions and embeddings.

use aoai_gateway::simulator::{Knobs, LatencyCheckpoint, RoleChunk, SimulatedResource, StreamMode};
use serde_json::{Value, json};

use super::client::Client;
use super::{ask, chat, dated, resource, run, streamed};

async fn with(knobs: Knobs) -> aoai_gateway::simulator::Simulator {
    run(SimulatedResource { knobs, ..resource("streams") }).await
}

#[actix_web::test]
async fn a_plain_answer_has_azures_fields_and_the_headers_of_2026() {
    let simulator = run(resource("streams")).await;
    let answer = ask(&simulator, &chat("Tell me a joke"));
    assert_eq!((answer.status(), answer.header("content-type")), (200, Some("application/json")));
    for (name, value) in [
        ("x-ms-region", "East US 2"),
        ("x-ms-deployment-name", "gpt-4o-mini"),
        ("x-ms-served-model", "gpt-4o-mini-2024-07-18"),
        ("x-ms-rai-invoked", "true"),
        ("x-ms-is-spilled-over", "false"),
        ("x-ratelimit-key", "gpt-4o-mini"),
        ("x-ratelimit-renewalperiod-tokens", "60"),
        ("x-ratelimit-abusepenalty-active", "False"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }
    for name in ["apim-request-id", "x-request-id", "azureml-model-session", "date", "strict-transport-security"] {
        assert!(answer.header(name).is_some(), "{name}");
    }
    let body = answer.json();
    let keys: Vec<&str> = body.as_object().unwrap().keys().map(String::as_str).collect();
    let expected =
        ["choices", "created", "id", "model", "object", "prompt_filter_results", "system_fingerprint", "usage"];
    assert_eq!(keys, expected);
    assert_eq!(body["choices"][0]["finish_reason"], "stop");
    assert_eq!(body["choices"][0]["content_filter_results"]["hate"], json!({"filtered": false, "severity": "safe"}));
    let usage = &body["usage"];
    assert_eq!((&usage["prompt_tokens"], &usage["completion_tokens"]), (&json!(3 + 4 + 4), &json!(60)));
}

#[actix_web::test]
async fn a_stream_has_its_parts_in_azures_order() {
    let simulator = run(resource("streams")).await;
    let answer = ask(&simulator, &streamed("Tell me a joke"));
    assert_eq!(answer.header("content-type"), Some("text/event-stream; charset=utf-8"));
    assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
    assert_eq!(answer.events().last(), Some(&"[DONE]"));
    let frames = answer.frames();
    assert_eq!(frames.len(), 1 + 1 + 60 + 1 + 1);
    let first = &frames[0];
    assert_eq!((&first["choices"], &first["id"], &first["created"]), (&json!([]), &json!(""), &json!(0)));
    assert!(first["prompt_filter_results"][0]["content_filter_results"]["jailbreak"].is_object());
    assert!(first.get("usage").is_none());
    let role = &frames[1]["choices"][0];
    assert_eq!(role["delta"], json!({"content": "", "refusal": null, "role": "assistant"}));
    assert_eq!(role["content_filter_results"], json!({}));
    for frame in &frames[2..62] {
        assert_eq!((frame["usage"].as_object(), frame.get("usage")), (None, Some(&Value::Null)));
        assert!(
            frame["choices"][0]["content_filter_results"]["violence"].is_object() && frame["obfuscation"].is_string()
        );
    }
    assert_eq!(
        (&frames[62]["choices"][0]["delta"], &frames[62]["choices"][0]["finish_reason"]),
        (&json!({}), &json!("stop"))
    );
    assert_eq!((&frames[63]["choices"], &frames[63]["usage"]["completion_tokens"]), (&json!([]), &json!(60)));
    assert_eq!(answer.content(0), ask(&simulator, &chat("Tell me a joke")).content(0));
    // Filtered content comes in lumps: fewer transfer chunks than events.
    assert!(answer.chunks.len() < 20, "{}", answer.chunks.len());
}

#[actix_web::test]
async fn what_was_not_asked_for_is_not_sent() {
    let simulator = run(resource("streams")).await;
    let mut body = chat("hi");
    body["stream"] = true.into();
    let answer = ask(&simulator, &body);
    assert!(answer.frames().iter().all(|frame| frame.get("usage").is_none()));
    assert_eq!(answer.frames().last().unwrap()["choices"][0]["finish_reason"], "stop");
    body["stream_options"] = json!({"include_obfuscation": false});
    assert!(ask(&simulator, &body).frames().iter().all(|frame| frame.get("obfuscation").is_none()));
    body.as_object_mut().unwrap().remove("stream_options");
    let old =
        Client::to(&simulator).post("/openai/deployments/gpt-4o-mini/chat/completions?api-version=2023-05-15", &body);
    assert_eq!(old.frames()[0]["choices"][0]["delta"]["role"], "assistant");
    assert!(!old.text().contains("filter"));
}

#[actix_web::test]
async fn the_other_modes_of_the_filter() {
    let knobs = Knobs { stream: StreamMode::AsyncFilter, ..Knobs::default() };
    let answer = ask(&with(knobs).await, &streamed("hi"));
    let frames = answer.frames();
    let annotations: Vec<&Value> =
        frames.iter().filter(|frame| frame["choices"][0]["content_filter_offsets"].is_object()).collect();
    assert_eq!(annotations.len(), 3 + 1);
    assert!(annotations.iter().all(|frame| frame["choices"][0].get("delta").is_none() && frame["id"] == ""));
    assert!(answer.chunks.len() > 60);
    let place = |wanted: fn(&Value) -> bool| frames.iter().rposition(wanted).unwrap();
    let finish = place(|frame| frame["choices"][0]["finish_reason"] == "stop");
    assert!(place(|frame| frame["choices"][0]["content_filter_offsets"].is_object()) > finish);

    let knobs = Knobs {
        stream: StreamMode::NoFilter,
        role_chunk: RoleChunk::WithoutDelta,
        latency_checkpoint: LatencyCheckpoint::On,
        ..Knobs::default()
    };
    let frames = ask(&with(knobs).await, &streamed("hi")).frames();
    assert_eq!(frames[2]["choices"][0]["content_filter_results"], json!({}));
    assert!(frames[1]["choices"][0].get("delta").is_none());
    assert!(frames.last().unwrap()["latency_checkpoint"]["engine_ttft_ms"].is_u64());
}

#[actix_web::test]
async fn the_filter_stops_an_output_with_a_finish_reason() {
    let simulator = run(resource("streams")).await;
    let answer = ask(&simulator, &streamed("simulate:filter-output"));
    let frames = answer.frames();
    let finish = &frames[frames.len() - 2]["choices"][0];
    assert_eq!((&finish["finish_reason"], &finish["delta"]), (&json!("content_filter"), &json!({})));
    assert_eq!(finish["content_filter_results"]["protected_material_text"]["filtered"], true);
    assert_eq!((answer.usage()["completion_tokens"].as_u64(), answer.events().last()), (Some(20), Some(&"[DONE]")));
    let body = ask(&simulator, &chat("simulate:filter-output")).json();
    assert_eq!(body["choices"][0]["finish_reason"], "content_filter");
}

#[actix_web::test]
async fn several_choices_are_told_apart_and_counted_together() {
    let simulator = run(resource("streams")).await;
    let mut body = streamed("hi nonce:42");
    body["n"] = 3.into();
    body["max_tokens"] = 10.into();
    let answer = ask(&simulator, &body);
    assert_eq!(answer.usage()["completion_tokens"], 30);
    let contents = [answer.content(0), answer.content(1), answer.content(2)];
    assert!(contents.iter().all(|content| content.starts_with("nonce:42 ")), "{contents:?}");
    assert!(contents[0] != contents[1] && contents[1] != contents[2]);
    let finished = answer.frames().iter().filter(|frame| frame["choices"][0]["finish_reason"] == "length").count();
    assert_eq!(finished, 3);
}

#[actix_web::test]
async fn reasoning_models_spend_hidden_tokens() {
    let simulator = run(resource("streams")).await;
    let mut client = Client::to(&simulator);
    let target = dated("gpt-5-nano", "chat/completions");
    let usage = client.post(&target, &streamed("hi")).usage();
    assert_eq!(usage["completion_tokens"], 124);
    assert_eq!(usage["completion_tokens_details"]["reasoning_tokens"], 64);
    let mut body = chat("hi");
    body["reasoning_effort"] = "minimal".into();
    assert_eq!(client.post(&target, &body).usage()["completion_tokens"], 60);
}

#[actix_web::test]
async fn the_seed_and_the_prompt_decide_the_answer() {
    let (one, same) = (run(resource("one")).await, run(resource("two")).await);
    let other = run(SimulatedResource { seed: 2, ..resource("other") }).await;
    let say = |simulator| ask(simulator, &chat("hi")).content(0);
    assert_eq!(say(&one), say(&same));
    assert_ne!(say(&one), say(&other));
    assert_ne!(ask(&one, &chat("hi")).json()["id"], ask(&same, &chat("hi")).json()["id"]);
}

#[actix_web::test]
async fn completions_and_embeddings_answer_in_their_own_shapes() {
    let simulator = run(resource("streams")).await;
    let mut client = Client::to(&simulator);
    let target = dated("gpt-35-turbo-instruct", "completions");
    let answer = client.post(&target, &json!({"prompt": "nonce:7 hello", "max_tokens": 5}));
    let body = answer.json();
    assert_eq!((&body["object"], &body["choices"][0]["finish_reason"]), (&json!("text_completion"), &json!("length")));
    assert!(body["id"].as_str().unwrap().starts_with("cmpl-") && answer.content(0).starts_with("nonce:7 "));
    let stream =
        json!({"prompt": "nonce:7 hello", "max_tokens": 5, "stream": true, "stream_options": {"include_usage": true}});
    let streamed = client.post(&target, &stream);
    assert_eq!((streamed.content(0), streamed.usage()), (answer.content(0), answer.usage()));

    let target = dated("text-embedding-3-small", "embeddings");
    let answer = client.post(&target, &json!({"input": ["hello", [1, 2, 3]], "dimensions": 4}));
    let body = answer.json();
    assert_eq!((&body["object"], body["data"].as_array().unwrap().len()), (&json!("list"), 2));
    assert_eq!((body["data"][1]["embedding"].as_array().unwrap().len(), &body["data"][1]["index"]), (4, &json!(1)));
    assert_eq!(body["usage"], json!({"prompt_tokens": 5, "total_tokens": 5}));
    let again = client.post(&target, &json!({"input": "hello", "dimensions": 4, "encoding_format": "base64"}));
    assert_eq!(again.json()["data"][0]["embedding"].as_str().map(str::len), Some(24));
}

#[actix_web::test]
async fn models_are_base_models_in_each_familys_shape() {
    let simulator = run(resource("streams")).await;
    let mut client = Client::to(&simulator);
    let dated = client.get("/openai/models?api-version=2024-10-21").json();
    assert!(dated["data"][0]["created_at"].is_u64() && dated["data"][0].get("owned_by").is_none());
    let v1 = client.get("/openai/v1/models").json();
    assert!(v1["data"].as_array().unwrap().iter().any(|model| model["id"] == "gpt-4o-mini-2024-07-18"));
    assert!(v1["data"][0]["owned_by"].is_string());
    assert_eq!(client.get("/openai/v1/models/gpt-4.1-2025-04-14").json()["id"], "gpt-4.1-2025-04-14");
    assert_eq!(client.get("/openai/models").status(), 404);
}

#[actix_web::test]
async fn repeated_long_prompts_are_cached() {
    let simulator = run(resource("streams")).await;
    let long = chat(&"a long story ".repeat(1_000));
    let cached = |answer: super::client::Answer| answer.usage()["prompt_tokens_details"]["cached_tokens"].as_u64();
    assert_eq!(cached(ask(&simulator, &long)), Some(0));
    let again = cached(ask(&simulator, &streamed(&"a long story ".repeat(1_000)))).unwrap();
    assert!(again >= 1_024 && again % 128 == 0, "{again}");
}
