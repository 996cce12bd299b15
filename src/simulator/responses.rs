//! The Responses API: what a request asks for, the body of an answer, and the events of its stream. What is kept of it
//! afterwards is `kept`'s part. Members are in the order of Azure's recordings of 2026.

mod writer;

use serde_json::{Map, Value, json};

use super::errors::Invalid;
use super::events::Events;
use super::generation::Generation;
use super::kept::{Kept, Shelf};
use super::knobs::{Knobs, Obfuscation};
use super::models::{Kind, Model};
use super::parameters::{Asked, Fields, Streaming, Thinking, UsageChunk, flag, integer, wrong_type};
use super::prompt::Prompt;
use super::state::Shared;
use super::tools;
use writer::Writer;

/// A request, read.
pub(super) struct Turn {
    pub(super) asked: Asked,
    /// The input as items with ids.
    items: Vec<Value>,
    /// The conversation so far, as the model reads it.
    messages: Vec<Value>,
    store: bool,
    /// The reasoning, encrypted, where it was asked for.
    seal: Option<String>,
    /// What answers repeat of the request.
    echo: Map<String, Value>,
    pub(super) background: bool,
    /// That it goes on, and adds to.
    pub(super) conversation: Option<String>,
}

impl Turn {
    pub(super) fn items(&self) -> &[Value] {
        &self.items
    }
}

/// Reads a request; the shelf knows what earlier ones were answered, and the cabinet has conversations.
pub(super) fn turn(fields: &Fields, model: &Model, knobs: &Knobs, shared: &Shared) -> Result<Turn, Invalid> {
    let shelf = &shared.shelf;
    for (old, new) in [("messages", "input"), ("max_tokens", "max_output_tokens")] {
        if fields.contains_key(old) {
            let message = format!(
                "Unsupported parameter: '{old}'. In the Responses API, this parameter has moved to '{new}'. Try again \
                 with the new parameter."
            );
            return Err(Invalid::new(message, old, "unsupported_parameter"));
        }
    }
    // They belong to the same call over another transport.
    if let Some(name) = ["type", "generate", "stream_id"].into_iter().find(|name| fields.contains_key(*name)) {
        return Err(Invalid::new(format!("Unknown parameter: '{name}'."), name, "unknown_parameter"));
    }
    let goes_on = fields.get("previous_response_id").is_some_and(|id| !id.is_null());
    let input = fields.get("input").filter(|input| !input.is_null());
    let items = if input.is_none() && goes_on { Vec::new() } else { items(input, shelf)? };
    let mut messages = match fields.get("previous_response_id") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(id)) => shelf.messages(id).ok_or_else(|| {
            let message = format!("Previous response with id '{id}' not found.");
            Invalid::new(message, "previous_response_id", "previous_response_not_found")
        })?,
        Some(other) => return Err(wrong_type("previous_response_id", "a string", other)),
    };
    let conversation = conversation(fields)?;
    if let Some(id) = &conversation {
        let said = shared.cabinet.said(id).ok_or_else(|| {
            let message = format!("Conversation with id '{id}' not found.");
            Invalid { status: 404, param: Some("conversation"), ..Invalid::bare(message) }
        })?;
        messages.extend(said.iter().map(message_of));
    }
    messages.extend(items.iter().map(message_of));
    let mut read = messages.clone();
    if let Some(text) = fields.get("instructions").and_then(Value::as_str) {
        read.insert(0, json!({"role": "system", "content": text}));
    }
    let offered = fields.get("tools").filter(|tools| tools.as_array().is_some_and(|t| !t.is_empty()));
    let prompt = Prompt { call: tools::called(fields, items.last()), ..Prompt::of_chat(&read, offered) };
    if prompt.tokens > model.context {
        let message = "Your input exceeds the context window of this model. Please adjust your input and try again.";
        return Err(Invalid::new(message, "input", "context_length_exceeded"));
    }
    let effort = fields.get("reasoning").map(|reasoning| &reasoning["effort"]);
    let lazy = effort.is_some_and(|effort| effort == "none" || effort == "minimal");
    let asked = Asked {
        prompt,
        cache_key: fields.get("prompt_cache_key").and_then(Value::as_str).unwrap_or_default().to_owned(),
        most: integer(fields, "max_output_tokens", 16)?,
        choices: 1,
        computed: 1,
        stream: streaming(fields, knobs)?,
        thinks: if lazy { Thinking::No } else { Thinking::Yes },
    };
    let include = fields.get("include").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let sealed = model.kind == Kind::Reasoning && include.iter().any(|name| name == "reasoning.encrypted_content");
    let seal = sealed.then(|| shelf.seal());
    let (store, background) = (flag(fields, "store")?.unwrap_or(true), flag(fields, "background")?.unwrap_or(false));
    if background && !store {
        return Err(Invalid::new("Background mode requires 'store' to be true.", "store", "invalid_value"));
    }
    Ok(Turn { asked, items, messages, seal, store, echo: echo(fields, model), background, conversation })
}

fn conversation(fields: &Fields) -> Result<Option<String>, Invalid> {
    let given = fields.get("conversation").filter(|given| !given.is_null());
    let Some(given) = given else { return Ok(None) };
    let id = given.as_str().or_else(|| given["id"].as_str());
    if fields.get("previous_response_id").is_some_and(|id| !id.is_null()) {
        let message = "'previous_response_id' and 'conversation' cannot both be given.";
        return Err(Invalid::new(message, "conversation", "mutually_exclusive_parameters"));
    }
    id.map(|id| Some(id.to_owned())).ok_or_else(|| wrong_type("conversation", "a string or an object", given))
}

pub(super) fn items(input: Option<&Value>, shelf: &Shelf) -> Result<Vec<Value>, Invalid> {
    let mut items = match input {
        None | Some(Value::Null) => return Err(Invalid::missing("input")),
        Some(Value::String(text)) => {
            vec![json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]})]
        }
        Some(Value::Array(items)) if items.iter().all(Value::is_object) => items.clone(),
        Some(other) => return Err(wrong_type("input", "a string or an array of objects", other)),
    };
    for item in &mut items {
        if item["type"] == "item_reference" {
            let id = item["id"].as_str().unwrap_or_default();
            *item = shelf.item(id).ok_or_else(|| {
                let message = format!(
                    "Item with id '{id}' not found. Items are not persisted when `store` is set to false. Try again with \
                     `store` set to true, or remove this item from your input."
                );
                Invalid { status: 404, param: Some("input"), ..Invalid::bare(message) }
            })?;
        }
        if let Some(sealed) = item["encrypted_content"].as_str().filter(|sealed| !shelf.can_read(sealed)) {
            let message = format!(
                "The encrypted content {sealed} could not be verified. Reason: Encrypted content could not be decrypted or \
                 parsed."
            );
            return Err(Invalid { code: Some("invalid_encrypted_content"), ..Invalid::bare(message) });
        }
        if item.get("type").is_none() {
            item["type"] = "message".into();
        }
        if let Some(text) = item["content"].as_str() {
            item["content"] = json!([{"type": "input_text", "text": text}]);
        }
        if item.get("id").is_none() {
            item["id"] = id("msg").into();
        }
    }
    Ok(items)
}

/// An item as a message of a chat, which prompts are counted from.
fn message_of(item: &Value) -> Value {
    let content = if item["content"].is_null() { &item["output"] } else { &item["content"] };
    json!({"role": item["role"].as_str().unwrap_or("user"), "content": content})
}

fn streaming(fields: &Fields, knobs: &Knobs) -> Result<Option<Streaming>, Invalid> {
    let options = fields.get("stream_options").filter(|options| !options.is_null());
    if options.is_some_and(|options| options.get("include_usage").is_some()) {
        let message = "Unknown parameter: 'stream_options.include_usage'.";
        return Err(Invalid::new(message, "stream_options.include_usage", "unknown_parameter"));
    }
    let declined = options.is_some_and(|options| options["include_obfuscation"] == false);
    let obfuscation = if declined { Obfuscation::Off } else { knobs.obfuscation };
    let stream = flag(fields, "stream")?.unwrap_or(false);
    Ok(stream.then_some(Streaming { usage: UsageChunk::Unwanted, obfuscation }))
}

fn echo(fields: &Fields, model: &Model) -> Map<String, Value> {
    let otherwise = [
        ("instructions", Value::Null),
        ("max_output_tokens", Value::Null),
        ("metadata", json!({})),
        ("parallel_tool_calls", true.into()),
        ("previous_response_id", Value::Null),
        ("prompt_cache_key", Value::Null),
        (
            "reasoning",
            json!({"effort": if model.kind == Kind::Reasoning { json!("medium") } else { Value::Null }, "summary": null}),
        ),
        ("store", true.into()),
        ("temperature", 1.into()),
        ("tool_choice", "auto".into()),
        ("tools", json!([])),
        ("top_p", 1.into()),
        ("user", Value::Null),
    ];
    otherwise
        .map(|(name, value)| (name.to_owned(), fields.get(name).filter(|v| !v.is_null()).cloned().unwrap_or(value)))
        .into_iter()
        .collect()
}

/// A new id: `resp_…`, `msg_…`
pub(super) fn id(kind: &str) -> String {
    format!("{kind}_{:032x}{:016x}", fastrand::u128(..), fastrand::u64(..))
}

/// The body of an answer that is not streamed.
pub(super) fn body(generation: &Generation<'_>, turn: &Turn) -> String {
    Writer::new(generation, turn).ended()
}

/// What a resource keeps of an answer, unless it was asked not to.
pub(super) fn kept(generation: &Generation<'_>, turn: &Turn, body: String) -> Option<Kept> {
    let mut messages = turn.messages.clone();
    messages.push(json!({"role": "assistant", "content": Writer::new(generation, turn).text()}));
    turn.store.then(|| Kept { body, items: turn.items.clone(), messages, task: None })
}

/// What is said of one that is made in the background before it is done.
pub(super) fn pending(generation: &Generation<'_>, turn: &Turn) -> String {
    Writer::new(generation, turn).response("queued", "", "null")
}

/// Adds what was asked and answered to the conversation that it belongs to.
pub(super) fn converse(shared: &Shared, turn: &Turn, body: &str) {
    let Some(conversation) = &turn.conversation else { return };
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    shared.cabinet.say(conversation, &turn.items);
    shared.cabinet.say(conversation, body["output"].as_array().map(Vec::as_slice).unwrap_or_default());
}

/// The stream of an answer, and the response that it ends with.
pub(super) fn events(generation: &Generation<'_>, turn: &Turn, streaming: Streaming) -> (Events, String) {
    let mut writer = Writer::new(generation, turn);
    let mut events = Events::default();
    writer.begin(&mut events);
    if generation.usage.reasoning > 0 {
        let item = writer.reasoning_item();
        writer.push(&mut events, "response.output_item.added", &format!(r#""output_index":0,"item":{item}"#), 0);
        writer.push(&mut events, "response.output_item.done", &format!(r#""output_index":0,"item":{item}"#), 0);
        events.end_lump();
    }
    match generation.choices.first().and_then(|choice| choice.call.as_ref()) {
        Some(call) => writer.function_call(&mut events, call, streaming),
        None => writer.message(&mut events, streaming),
    }
    let (ended, name) = (writer.ended(), format!("response.{}", writer.status()));
    writer.push(&mut events, &name, &format!(r#""response":{ended}"#), 0);
    events.end_lump();
    (events, ended)
}

/// A stream that begins as any other and then says that there is no room: the head has said 200 by then.
pub(super) fn refused(generation: &Generation<'_>, turn: &Turn) -> Events {
    let mut writer = Writer::new(generation, turn);
    let mut events = Events::default();
    writer.begin(&mut events);
    let failed = writer.response("failed", "", "null");
    writer.push(&mut events, "response.failed", &format!(r#""response":{failed}"#), 0);
    let error = r#""error":{"type":"too_many_requests","code":"rate_limit_exceeded","headers":{"x-ms-fe-error":"true"},"message":"Your requests have exceeded the token rate limit.","param":null}"#;
    writer.push(&mut events, "error", error, 0);
    events.end_lump();
    events
}
