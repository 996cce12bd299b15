//! Sound and pictures: audio to text, in every format of the API, text to audio, images to images, text to images.

use std::sync::Arc;

use base64::Engine;
use serde_json::{Value, json};

use super::errors::{self, Invalid};
use super::events::Events;
use super::faults::{Fault, FaultKind};
use super::form::{self, Part};
use super::gate;
use super::headers::{self, Ids};
use super::journal::Entry;
use super::prompt;
use super::reply::{Action, Answer, Body, Head, Reply};
use super::request::Request;
use super::routes::{FormKind, Route};
use super::state::Shared;
use crate::domain::time;

const WORDS: [&str; 4] = ["Hello", " from", " a", " simulation."];

/// The reaction to a form, and its journal entry.
pub(super) fn reply(
    shared: &Arc<Shared>,
    request: &Request,
    route: &Route,
    kind: FormKind,
    deployment: Option<&str>,
) -> Reply {
    let ids = Ids::new();
    let parts = form::read(request);
    let part = |name: &str| parts.iter().flatten().find(|part| part.name == name);
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let in_json = body["model"].as_str().map(str::to_owned);
    let model = part("model").map(|part| String::from_utf8_lossy(part.content).into_owned()).or(in_json);
    let name = deployment.map(str::to_owned).or(model).unwrap_or_default();
    let entry = Entry {
        method: request.method.clone(),
        path: request.path().to_owned(),
        api_version: request.query("api-version").map(str::to_owned),
        deployment: name.clone(),
        apim_request_id: ids.apim.clone(),
        x_ms_client_request_id: request.header("x-ms-client-request-id").map(str::to_owned),
        ..Entry::default()
    };
    let mut ticket = shared.journal.enter(entry, &request.headers);
    let hit = shared.faults().hit(Some(&name), time::now(), Fault::hits_resource);
    ticket.entry.fault = hit.as_ref().map(|hit| hit.kind.name());
    let action = match (gate::refuse(shared, request, route, &ids), hit.map(|hit| hit.kind)) {
        (Some(refusal), _) => Action::Answer(Box::new(refusal)),
        (None, Some(FaultKind::Fail { status, body })) => {
            Action::Answer(Box::new(errors::failure(&ids, shared, status, body)))
        }
        (None, Some(FaultKind::Hang)) => Action::Silence,
        (None, Some(FaultKind::Reset)) => Action::Reset,
        (None, Some(FaultKind::Refuse)) => Action::Close,
        (None, Some(_) | None) => {
            let file = part("file").or_else(|| part("image")).or_else(|| part("image[]"));
            let answer = match (shared.deployments.get(&name), file) {
                (None, _) => errors::deployment_not_found(&ids, shared),
                (Some(deployment), None) if matches!(kind, FormKind::Speech | FormKind::ImageGenerations) => {
                    ticket.entry.model.clone_from(&deployment.spec.model);
                    let text = body["input"].as_str().or(body["prompt"].as_str()).unwrap_or_default();
                    let read = prompt::tokens(text);
                    ticket.charge_prompt(read, 0);
                    ticket.generated(WORDS.len() as u64);
                    let head = headers::model(Head::new(200), &ids, shared, deployment);
                    if kind == FormKind::Speech { speak(head, &body, text, read) } else { draw(head, &body, read) }
                }
                (Some(_), None) => errors::invalid(&ids, shared, &Invalid::missing("file")),
                (Some(deployment), Some(file)) => {
                    ticket.entry.model.clone_from(&deployment.spec.model);
                    let call = Call { kind, file, parts: parts.as_deref().unwrap_or_default() };
                    // A token for each kilobyte of what was sent.
                    let read = file.content.len() as u64 / 1024 + 1;
                    ticket.charge_prompt(read, 0);
                    ticket.generated(WORDS.len() as u64);
                    call.answer(headers::model(Head::new(200), &ids, shared, deployment), read)
                }
            };
            Action::Answer(Box::new(answer))
        }
    };
    Reply { action, ticket: Some(ticket) }
}

struct Call<'a> {
    kind: FormKind,
    file: &'a Part<'a>,
    parts: &'a [Part<'a>],
}

impl Call<'_> {
    fn says(&self, name: &str, value: &str) -> bool {
        self.parts.iter().any(|part| part.name == name && part.content == value.as_bytes())
    }

    fn answer(&self, head: Head, read: u64) -> Answer {
        let written = WORDS.len() as u64;
        let usage = json!({"type": "tokens", "input_tokens": read, "output_tokens": written,
            "total_tokens": read + written, "input_token_details": {"text_tokens": 0, "audio_tokens": read}});
        match self.kind {
            FormKind::ImageEdits | FormKind::ImageGenerations => self.image(head, read),
            FormKind::Transcriptions | FormKind::Translations | FormKind::Speech => {
                let text = WORDS.concat();
                let stamp = "00:00:00,000 --> 00:00:02,000";
                if self.says("stream", "true") {
                    return stream(head, &usage);
                }
                if self.says("response_format", "text") {
                    return plain(head, format!("{text}\n"));
                }
                if self.says("response_format", "srt") {
                    return plain(head, format!("1\n{stamp}\n{text}\n\n"));
                }
                if self.says("response_format", "vtt") {
                    return plain(head, format!("WEBVTT\n\n{}\n{text}\n\n", stamp.replace(',', ".")));
                }
                if self.says("response_format", "verbose_json") {
                    let words = json!({"task": "transcribe", "language": "english", "duration": 2.0, "text": text,
                        "segments": [], "words": []});
                    return Answer::json(head, words.to_string());
                }
                let name = self.file.filename.as_deref().unwrap_or_default();
                let known = name.ends_with(".wav") || name.ends_with(".mp3");
                let text = if known { text } else { format!("unknown format of {name:?}") };
                Answer::json(head, json!({"text": text, "usage": usage}).to_string())
            }
        }
    }

    fn image(&self, head: Head, read: u64) -> Answer {
        let content = &self.file.content[..self.file.content.len().min(64)];
        picture(head, content, "image_edit", self.says("stream", "true"), read)
    }
}

fn draw(head: Head, body: &Value, read: u64) -> Answer {
    let size = body["n"].as_u64().map_or(64, |n| usize::try_from(n).unwrap_or(1).min(16) * 400_000);
    picture(head, &vec![7; size], "image_generation", body["stream"] == true, read)
}

/// A second of sound for each letter, by its size.
fn speak(head: Head, body: &Value, text: &str, read: u64) -> Answer {
    let sound = vec![0x55; text.len() * 16_000];
    if body["stream_format"] != "sse" {
        return Answer::new(head.with("Content-Type", "audio/mpeg"), Body::Chunked(sound));
    }
    let mut events = Events::default();
    let audio = base64::engine::general_purpose::STANDARD.encode(&sound[..sound.len().min(300)]);
    events.push(&json!({"type": "speech.audio.delta", "audio": audio}).to_string(), 0);
    let usage = json!({"input_tokens": read, "output_tokens": WORDS.len(), "total_tokens": read + WORDS.len() as u64});
    events.push(&json!({"type": "speech.audio.done", "usage": usage}).to_string(), 0);
    events.end_lump();
    Answer::new(head.with("Content-Type", "text/event-stream"), Body::Events(events))
}

/// Whole, or as the events of `kind`.
fn picture(head: Head, content: &[u8], kind: &str, streamed: bool, read: u64) -> Answer {
    let picture = base64::engine::general_purpose::STANDARD.encode(content);
    let usage = json!({"input_tokens": read, "output_tokens": WORDS.len(), "total_tokens": read + WORDS.len() as u64,
        "input_tokens_details": {"text_tokens": 0, "image_tokens": read}});
    if !streamed {
        let picture = Value::from(picture);
        let body = format!(r#"{{"created":1790000000,"data":[{{"b64_json":{picture}}}],"usage":{usage}}}"#);
        return Answer::json(head, body);
    }
    let mut events = Events::default();
    let mut push = |name: &str, more: Value| {
        let name = format!("{kind}.{name}");
        let mut data = json!({"type": name, "b64_json": picture, "created_at": 1_790_000_000, "size": "1024x1024",
            "quality": "low", "background": "opaque", "output_format": "png"});
        if let (Some(data), Value::Object(more)) = (data.as_object_mut(), more) {
            data.extend(more);
        }
        events.push_named(&name, &data.to_string(), 0);
        events.end_lump();
    };
    push("partial_image", json!({"partial_image_index": 0}));
    push("completed", json!({ "usage": usage }));
    Answer::new(head.with("Content-Type", "text/event-stream"), Body::Events(events))
}

fn plain(head: Head, text: String) -> Answer {
    Answer::new(head.with("Content-Type", "text/plain; charset=utf-8"), Body::Sized(text.into_bytes()))
}

fn stream(head: Head, usage: &Value) -> Answer {
    let mut events = Events::default();
    for word in WORDS {
        events.push(&json!({"type": "transcript.text.delta", "delta": word}).to_string(), 0);
        events.end_lump();
    }
    let done = json!({"type": "transcript.text.done", "text": WORDS.concat(), "usage": usage});
    events.push(&done.to_string(), 0);
    events.push("[DONE]", 0);
    events.end_lump();
    Answer::new(head.with("Content-Type", "text/event-stream; charset=utf-8"), Body::Events(events))
}
