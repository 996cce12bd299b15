//! The journal against what clients received: to the token.

use std::collections::HashMap;
use std::thread;

use aoai_gateway::simulator::{Cut, Fault, SimulatedResource};
use serde_json::{Value, json};

use super::client::{Client, End};
use super::{chat, dated, idle, paced, resource, run, streamed};

/// Prompt, completion, cached and reasoning tokens of a usage object.
fn figures(usage: &Value) -> [u64; 4] {
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    [
        number(&usage["prompt_tokens"]),
        number(&usage["completion_tokens"]),
        number(&usage["prompt_tokens_details"]["cached_tokens"]),
        number(&usage["completion_tokens_details"]["reasoning_tokens"]),
    ]
}

#[actix_web::test]
async fn sums_equal_the_usage_that_many_clients_were_told() {
    let simulator = run(resource("accounting")).await;
    let told = thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|number| {
                let simulator = &simulator;
                scope.spawn(move || mixed_traffic(simulator, number))
            })
            .collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).fold(
            HashMap::<&str, [u64; 4]>::new(),
            |mut told, (deployment, figures)| {
                let sum = told.entry(deployment).or_default();
                sum.iter_mut().zip(figures).for_each(|(sum, figure)| *sum += figure);
                told
            },
        )
    });
    idle(&simulator).await;
    let sums = simulator.control().sums();
    assert_eq!(sums.len(), 4);
    for (deployment, told) in told {
        let sum = sums[deployment];
        let charged = [sum.prompt_tokens, sum.completion_tokens, sum.cached_tokens, sum.reasoning_tokens];
        assert_eq!(charged, told, "{deployment}");
        assert_eq!((sum.requests, sum.charged), (80, 80));
    }
    let journal = simulator.control().journal();
    assert!(journal.iter().all(|entry| entry.completed && entry.finished && entry.status == 200));
    assert!(journal.windows(2).all(|two| two[0].sequence + 1 == two[1].sequence));
}

fn mixed_traffic(simulator: &aoai_gateway::simulator::Simulator, number: usize) -> Vec<(&'static str, [u64; 4])> {
    let mut client = Client::to(simulator);
    let mut told = Vec::new();
    for round in 0..10 {
        let text = format!("nonce:{number}-{round} {}", "word ".repeat(number * 150));
        let completion = json!({"prompt": text, "max_tokens": 1 + round});
        for (deployment, operation, body) in [
            ("gpt-4o-mini", "chat/completions", streamed(&text)),
            ("gpt-5-nano", "chat/completions", chat(&text)),
            ("gpt-35-turbo-instruct", "completions", completion),
            ("text-embedding-3-small", "embeddings", json!({"input": text, "dimensions": 2})),
        ] {
            let answer = client.post(&dated(deployment, operation), &body);
            assert_eq!(answer.status(), 200, "{}", answer.text());
            if operation != "embeddings" {
                assert!(answer.content(0).starts_with(&format!("nonce:{number}-{round}")));
            }
            told.push((deployment, figures(&answer.usage())));
        }
    }
    told
}

#[actix_web::test]
async fn a_client_that_leaves_is_noticed_and_billed_for_what_was_generated() {
    let simulator = paced(5).await;
    let control = simulator.control();
    let mut client = Client::to(&simulator);
    client.send(&dated("gpt-4o-mini", "chat/completions"), &[], &streamed("hi"));
    client.read_some(6_000);
    drop(client);
    idle(&simulator).await;
    let entry = control.journal().remove(0);
    assert_eq!((entry.status, entry.completed, entry.charged, entry.stream), (200, false, true, true));
    assert!((8..60).contains(&entry.tokens_sent), "{entry:?}");
    assert!((entry.tokens_sent..60).contains(&entry.completion_tokens), "{entry:?}");
    // Before the first byte: the prompt, and for a plain answer all of it, because it is being generated anyway.
    for (body, completion) in [(streamed("hi"), 0), (chat("hi"), 60)] {
        control.clear_journal();
        control.set_knobs(aoai_gateway::simulator::Knobs { ttft_ms: 600_000, ..Default::default() });
        let mut client = Client::to(&simulator);
        client.send(&dated("gpt-4o-mini", "chat/completions"), &[], &body);
        while control.journal().is_empty() {
            thread::yield_now();
        }
        drop(client);
        idle(&simulator).await;
        let entry = control.journal().remove(0);
        assert_eq!((entry.status, entry.charged, entry.prompt_tokens), (0, true, 8));
        assert_eq!((entry.completion_tokens, entry.tokens_sent, entry.completed), (completion, 0, false));
    }
}

#[actix_web::test]
async fn an_entry_says_who_asked_for_what() {
    let simulator = run(resource("accounting")).await;
    let mut client = Client::to(&simulator);
    let key = format!("Api-Key: {}", super::KEY);
    let headers = [key.as_str(), "x-ms-client-request-id: mine", "X-Request-Id: ours"];
    let answer = client.post_with(&dated("gpt-4o-mini", "chat/completions"), &headers, &streamed("hi"));
    idle(&simulator).await;
    let entry = simulator.control().journal().remove(0);
    assert_eq!(entry.path, "/openai/deployments/gpt-4o-mini/chat/completions");
    assert_eq!((entry.api_version.as_deref(), entry.model.as_str()), (Some("2024-10-21"), "gpt-4o-mini"));
    assert_eq!(entry.x_ms_client_request_id.as_deref(), Some("mine"));
    assert_eq!(entry.x_request_id.as_deref(), Some("ours"));
    let names = ["Host", "Api-Key", "x-ms-client-request-id", "X-Request-Id", "Content-Length"];
    assert_eq!(*entry.headers, names.map(str::to_owned));
    assert_eq!(answer.header("apim-request-id"), Some(entry.apim_request_id.as_str()));
    assert_eq!(answer.frames()[1]["id"].as_str(), entry.completion_id.as_deref());
    assert!(entry.arrived_us > 1_600_000_000_000_000);
}

#[actix_web::test]
async fn the_journal_file_has_what_the_journal_has() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("journal.jsonl");
    let resource = SimulatedResource { journal_file: Some(file.clone()), ..resource("accounting") };
    let simulator = run(resource).await;
    let control = simulator.control();
    super::ask(&simulator, &chat("hi"));
    control.inject(Fault::cut(Cut::AfterChunks(5)).times(1));
    assert_eq!(super::ask(&simulator, &streamed("hi")).end, End::Closed);
    idle(&simulator).await;
    let lines = std::fs::read_to_string(file).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(Value::from(lines), serde_json::to_value(control.journal()).unwrap());
}
