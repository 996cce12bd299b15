//! What a connection is told beside what upstreams say: refusals, and the answer to a turn without output.

use bytes::Bytes;
use serde_json::{Value, json};

use super::Turn;
use crate::domain::time::WallTime;
use crate::openai::error::ErrorBody;
use crate::openai::json;

/// A refusal, with the status and the headers that it has when it is posted for.
pub fn refusal(status: u16, error: &ErrorBody, headers: &[(&'static str, String)]) -> String {
    let ErrorBody { message, kind, param, code } = error;
    let error = json!({"type": kind.label(), "code": code, "message": message, "param": param});
    let mut event = json!({"type": "error", "status": status, "error": error});
    if !headers.is_empty() {
        event["headers"] =
            headers.iter().map(|(name, value)| (String::from(*name), Value::from(value.as_str()))).collect();
    }
    event.to_string()
}

/// A refusal of the upstream's, in its own words.
pub fn refusal_of_upstream(status: u16, body: &[u8]) -> Bytes {
    let members = json::members(body).unwrap_or_default();
    let error =
        members.iter().find(|member| &body[member.key.clone()] == b"error").map(|error| &body[error.value.clone()]);
    let told =
        || json!({"message": String::from_utf8_lossy(body), "type": null, "code": null, "param": null}).to_string();
    let error = error.map_or_else(|| told().into_bytes(), <[u8]>::to_vec);
    let head = format!("{{\"type\":\"error\",\"status\":{status},\"error\":");
    [head.as_bytes(), &error, b"}"].concat().into()
}

/// The end of an answer that an upstream gave whole although it was asked for events.
pub fn completed(response: &[u8]) -> Bytes {
    [&b"{\"type\":\"response.completed\",\"sequence_number\":0,\"response\":"[..], response, b"}"].concat().into()
}

/// The answer to a turn without output: it begins, and it is done. `model` as the client wrote it.
pub fn prepared(turn: &Turn, id: &str, model: &str, now: WallTime) -> [String; 2] {
    let seconds = now.0.div_euclid(1_000_000);
    let response = |status: &str, completed_at: Option<i64>, usage: Value| {
        json!({
            "id": id, "object": "response", "created_at": seconds, "status": status, "background": false,
            "completed_at": completed_at, "error": null, "incomplete_details": null, "model": model, "output": [],
            "previous_response_id": turn.thread.base, "usage": usage,
        })
    };
    let usage = json!({
        "input_tokens": 0, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 0,
        "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 0,
    });
    let begun = json!({"type": "response.created", "sequence_number": 0, "response": response("in_progress", None, Value::Null)});
    let done = json!({"type": "response.completed", "sequence_number": 1, "response": response("completed", Some(seconds), usage)});
    [begun.to_string(), done.to_string()]
}

/// What the last event of an answer says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Last {
    /// There is a response to go on from.
    Done,
    Error,
    Other,
}

pub fn last(event: &[u8]) -> Last {
    let members = json::members(event).unwrap_or_default();
    let kind = members.iter().find(|member| &event[member.key.clone()] == b"type");
    match kind.and_then(|kind| json::string_at(event, &kind.value)).as_deref() {
        Some("response.completed" | "response.incomplete") => Last::Done,
        Some("error") => Last::Error,
        Some(_) | None => Last::Other,
    }
}
