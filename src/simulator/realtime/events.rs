//! The events of the realtime API as Azure words them, in both generations.

use serde_json::{Value, json};

use super::super::generation::quoted;
use super::super::routes::Family;

/// Names that changed from the preview to the general API.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names {
    pub(super) audio: &'static str,
    pub(super) transcript: &'static str,
    pub(super) text: &'static str,
    pub(super) item: &'static str,
    pub(super) writing_session: &'static str,
}

impl Names {
    pub(super) fn of(family: &Family) -> Self {
        match family {
            Family::V1 => Self {
                audio: "response.output_audio",
                transcript: "response.output_audio_transcript",
                text: "response.output_text",
                item: "conversation.item.added",
                writing_session: "session",
            },
            Family::Dated(_) => Self {
                audio: "response.audio",
                transcript: "response.audio_transcript",
                text: "response.text",
                item: "conversation.item.created",
                writing_session: "transcription_session",
            },
        }
    }
}

/// Tokens of one response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tokens {
    pub(super) input_text: u64,
    pub(super) input_audio: u64,
    pub(super) cached: u64,
    pub(super) output_text: u64,
    pub(super) output_audio: u64,
}

impl Tokens {
    pub(super) fn input(self) -> u64 {
        self.input_text + self.input_audio
    }

    pub(super) fn output(self) -> u64 {
        self.output_text + self.output_audio
    }
}

pub(super) fn id(prefix: &str) -> String {
    let tail: String = std::iter::repeat_with(fastrand::alphanumeric).take(21).collect();
    format!("{prefix}_{tail}")
}

/// Any event, with an id of its own.
pub(super) fn event(kind: &str, members: Value) -> String {
    let mut event = json!({"type": kind, "event_id": id("event")});
    if let (Some(event), Value::Object(members)) = (event.as_object_mut(), members) {
        event.extend(members);
    }
    event.to_string()
}

/// A piece of a response; written by hand, as there are many of them and they are large.
pub(super) fn delta(kind: &str, response: &str, item: &str, delta: &str) -> String {
    let (event, delta) = (id("event"), quoted(delta));
    format!(
        r#"{{"type":"{kind}.delta","event_id":"{event}","response_id":"{response}","item_id":"{item}","output_index":0,"content_index":0,"delta":{delta}}}"#
    )
}

pub(super) fn response(id: &str, status: &str, tokens: Option<Tokens>) -> Value {
    let usage = tokens.map(|tokens| {
        // What is cached is a beginning of the conversation, and as mixed as that.
        let cached_audio = tokens.cached * tokens.input_audio / tokens.input().max(1);
        json!({
            "total_tokens": tokens.input() + tokens.output(),
            "input_tokens": tokens.input(),
            "output_tokens": tokens.output(),
            "input_token_details": {
                "text_tokens": tokens.input_text,
                "audio_tokens": tokens.input_audio,
                "cached_tokens": tokens.cached,
                "cached_tokens_details": {"text_tokens": tokens.cached - cached_audio, "audio_tokens": cached_audio},
            },
            "output_token_details": {"text_tokens": tokens.output_text, "audio_tokens": tokens.output_audio},
        })
    });
    json!({"response": {
        "object": "realtime.response", "id": id, "status": status, "status_details": null, "output": [], "usage": usage,
    }})
}

/// A response that a limit of the deployment's stopped before it began.
pub(super) fn limited(id: &str, error: &Value) -> Value {
    let details = json!({"type": "failed", "error": error});
    json!({"response": {
        "object": "realtime.response", "id": id, "status": "failed", "status_details": details, "output": [], "usage": null,
    }})
}

pub(super) fn error(code: &str, message: &str, about: Option<&Value>) -> String {
    let error =
        json!({"type": "invalid_request_error", "code": code, "message": message, "param": null, "event_id": about});
    event("error", json!({"error": error}))
}
