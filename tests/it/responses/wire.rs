//! Streams of the Responses API byte for byte, however they are cut up, and broken off after every event.
//!
//! One is made up in the shape of Azure's. Where `AZURE_RECORDINGS` names a folder and there is a `responses` beside it,
//! the recordings in there (`*.jsonl`, the data of an event a line) are played as well.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::streamed;
use crate::support::client::BodyEnd;
use crate::support::fake_azure::{FakeAzure, Reply, Script};
use crate::support::gateway::TestGateway;

/// A reasoning model that calls a function, as Azure streams it.
const MADE_UP: [&str; 10] = [
    r#"{"type":"response.created","sequence_number":0,"response":{"id":"resp_0a","object":"response","status":"in_progress","error":null,"instructions":"Say \"error\" — never.","output":[],"usage":null}}"#,
    r#"{"type":"response.in_progress","sequence_number":1,"response":{"id":"resp_0a","object":"response","status":"in_progress","error":null,"output":[],"usage":null}}"#,
    r#"{"type":"response.output_item.added","sequence_number":2,"output_index":0,"item":{"id":"rs_0a","type":"reasoning","summary":[]}}"#,
    r#"{"type":"response.output_item.done","sequence_number":3,"output_index":0,"item":{"id":"rs_0a","type":"reasoning","summary":[]}}"#,
    r#"{"type":"response.output_item.added","sequence_number":4,"output_index":1,"item":{"id":"fc_0a","type":"function_call","status":"in_progress","arguments":"","call_id":"call_1","name":"weather"}}"#,
    r#"{"type":"response.function_call_arguments.delta","sequence_number":5,"item_id":"fc_0a","output_index":1,"delta":"{\"place\":","obfuscation":"nW"}"#,
    r#"{"type":"response.function_call_arguments.delta","sequence_number":6,"item_id":"fc_0a","output_index":1,"delta":"\"Zürich 🌧\"}","obfuscation":"x"}"#,
    r#"{"type":"response.function_call_arguments.done","sequence_number":7,"item_id":"fc_0a","output_index":1,"arguments":"{\"place\":\"Zürich 🌧\"}"}"#,
    r#"{"type":"response.output_item.done","sequence_number":8,"output_index":1,"item":{"id":"fc_0a","type":"function_call","status":"completed","arguments":"{}","call_id":"call_1","name":"weather"}}"#,
    r#"{"type":"response.completed","sequence_number":9,"response":{"id":"resp_0a","object":"response","status":"completed","error":null,"output":[],"usage":{"input_tokens":45,"input_tokens_details":{"cached_tokens":7},"output_tokens":24,"output_tokens_details":{"reasoning_tokens":9},"total_tokens":69}}}"#,
];

/// Events as they are sent, the last one being the stream's end.
fn streams() -> Vec<(String, Vec<String>)> {
    let event = |data: &str| {
        let read: Value = serde_json::from_str(data).unwrap();
        format!("event: {}\ndata: {data}\n\n", read["type"].as_str().unwrap())
    };
    let mut all = vec![("made up".to_owned(), MADE_UP.iter().map(|data| event(data)).collect())];
    let beside = std::env::var_os("AZURE_RECORDINGS").map(|folder| PathBuf::from(folder).join("../responses"));
    let recorded = beside.and_then(|folder| std::fs::read_dir(folder).ok());
    for path in recorded.into_iter().flatten().map(|entry| entry.unwrap().path()) {
        if path.extension().is_some_and(|kind| kind == "jsonl") {
            let text = std::fs::read_to_string(&path).unwrap();
            let events: Vec<_> = text.lines().map(event).collect();
            // Others begin with a failure, and another theme is about those.
            if events.last().is_some_and(|event| event.starts_with("event: response.completed")) {
                all.push((path.file_name().unwrap().to_string_lossy().into_owned(), events));
            }
        }
    }
    println!("{} streams", all.len());
    all
}

fn sse(events: &[String]) -> Reply {
    Reply::sse(&events.iter().map(String::as_str).collect::<Vec<_>>())
}

/// As the last event says, read by another reader than the product's.
fn usage(events: &[String]) -> [i64; 4] {
    let last: Value = serde_json::from_str(events[events.len() - 1].split_once("data: ").unwrap().1).unwrap();
    let usage = &last["response"]["usage"];
    [
        &usage["input_tokens"],
        &usage["input_tokens_details"]["cached_tokens"],
        &usage["output_tokens"],
        &usage["output_tokens_details"]["reasoning_tokens"],
    ]
    .map(|tokens| tokens.as_i64().unwrap())
}

/// Where not a byte is changed.
const AZURES: &str = "/openai/responses?api-version=2025-03-01-preview";

#[test]
fn whole_streams_pass_byte_for_byte_however_they_are_cut() {
    for (name, events) in streams() {
        // What comes after the last word is nobody's business.
        let mut sent = events.clone();
        sent.push("data: [DONE]\n\n".to_owned());
        for size in [1, 2, 3, 7, 61, 1024, usize::MAX] {
            let azure = FakeAzure::start(Script::always(sse(&sent).in_pieces(size, Duration::ZERO)));
            let gateway = TestGateway::before(azure.address());
            let answer = gateway.post(AZURES, &streamed("a").to_string()).expect(200);
            assert!(answer.body == events.concat().as_bytes(), "{name} in pieces of {size}: {}", answer.text());
            gateway.settle();
            let row = gateway.row();
            let booked = [row.input_tokens, row.cached_input_tokens, row.output_tokens, row.reasoning_tokens];
            assert_eq!((booked, row.estimated, row.state.as_str()), (usage(&events), false, "settled"), "{name}");
        }
    }
}

#[test]
fn a_stream_without_its_last_word_is_visibly_cut() {
    for (name, events) in streams() {
        let stride = events.len().div_ceil(12);
        let lengths: Vec<_> = (0..events.len()).step_by(stride).collect();
        let (all, cuts) = (Arc::new(events.clone()), lengths.clone());
        // Two good answers between two broken ones, or the deployment would be left alone.
        let azure = FakeAzure::start(Script::each(move |request| match request.index % 3 {
            0 => sse(&all[..cuts[request.index / 3]]),
            _ => sse(&all),
        }));
        let gateway = TestGateway::with(|estate| {
            estate.azure("east", azure.address());
            estate.0.routing.attempts = 1;
        });
        for length in lengths {
            let answer = gateway.post(AZURES, &streamed("a").to_string());
            let place = format!("{name} after {length} events");
            if length <= 2 {
                assert_eq!((answer.status, answer.end), (502, BodyEnd::Whole), "{place}");
            } else {
                assert_eq!((answer.status, answer.end), (200, BodyEnd::Cut), "{place}");
                let told = answer.text().strip_prefix(&events[..length].concat());
                let told = told.unwrap_or_else(|| panic!("{place}: {}", answer.text()));
                assert!(told.starts_with("event: error\ndata: {\"type\":\"error\","), "{place}: {told}");
            }
            for _ in 0..2 {
                gateway.post(AZURES, &streamed("a").to_string()).expect(200);
            }
        }
        gateway.settle();
        let estimated = gateway.rows().iter().filter(|row| row.state == "failed" && row.estimated).count();
        assert!(estimated > 0, "{name}");
    }
}
