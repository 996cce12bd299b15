//! Reads the few members of a request that the gateway acts on, and changes the two that it must.
//!
//! The body is scanned once; `model` and `stream_options` may be replaced span by span, and every other byte is the
//! client's own. A member that is read may appear only once: two readers that disagree about duplicates would let a
//! request be checked as one model and served as another.

mod found;

use std::ops::Range;

use bytes::Bytes;
use smallvec::{SmallVec, smallvec};

use self::found::Found;
use super::json::{self, JsonError};
use super::kept::{self, Referred};
use super::prefix::{self, Prefix};
use super::tokens;

/// What a request body says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peek {
    pub model: Option<String>,
    pub stream: bool,
    /// The client's own `stream_options.include_usage`.
    pub include_usage: bool,
    /// `max_completion_tokens`, else `max_tokens`; `max_output_tokens` of the Responses API.
    pub max_tokens: Option<u32>,
    /// Completions that are generated: `n`, or `best_of` where more are made than sent; at least 1.
    pub choices: u32,
    /// Of the Responses API only.
    pub state: State,
    /// Of a prompt that is long enough to be cached.
    pub prefix: Option<Prefix>,
    /// Whether some member, however deep, may name an object that the upstream keeps.
    pub may_name_objects: bool,
    /// Whether some member, however deep, holds a picture, a sound or a document.
    pub holds_files: bool,
    spans: Spans,
}

/// What a request to the Responses API wants of what the upstream keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Whether the answer will be kept: `store`, which is true when nothing is said.
    pub store: bool,
    /// `previous_response_id`: the answer that this one goes on from.
    pub previous: Option<String>,
    /// What `input` refers to.
    pub referred: Referred,
    /// The one that `conversation` names: it is read, and what is said goes into it.
    pub conversation: Option<String>,
    pub background: bool,
}

/// Where the members stand that may be changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Spans {
    /// Just after the opening brace.
    start: usize,
    empty: bool,
    model: Option<Range<usize>>,
    stream_options: Option<Range<usize>>,
    /// Only when it is an object.
    include_usage: Option<Range<usize>>,
    stream_options_is_object: bool,
    stream_options_is_empty: bool,
    /// Only where no `max_tokens` stands beside it.
    max_completion_tokens: Option<Range<usize>>,
}

impl Peek {
    /// The model as the client wrote it, with its quotes.
    pub fn model_text(&self, body: &Bytes) -> Bytes {
        self.spans.model.clone().map_or_else(Bytes::new, |span| body.slice(span))
    }

    pub fn has_max_completion_tokens(&self) -> bool {
        self.spans.max_completion_tokens.is_some()
    }
}

/// Why a body is refused before anything is sent upstream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeekError {
    #[error("The request body is not valid JSON: {0}.")]
    Invalid(#[from] JsonError),
    #[error("The request body has `{0}` twice; send it once.")]
    Duplicate(&'static str),
    #[error("`{name}` must be {expected}.")]
    Type { name: &'static str, expected: &'static str },
}

/// The members that are read: the first seven are acted on and may stand there once, the others only help to find a cache.
const READ: [&str; 13] = [
    "model",
    "stream",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "n",
    "best_of",
    "messages",
    "prompt",
    "input",
    "prompt_cache_key",
    "safety_identifier",
    "user",
];
const ACTED_ON: usize = 7;
const READ_OF_RESPONSES: [&str; 11] = [
    "model",
    "stream",
    "max_output_tokens",
    "store",
    "previous_response_id",
    "conversation",
    "background",
    "input",
    "prompt_cache_key",
    "safety_identifier",
    "user",
];
const ACTED_ON_OF_RESPONSES: usize = 8;
const LONGEST_NAME: usize = "max_completion_tokens".len();

/// Peeking at more than this is to happen off the workers' threads. Measured in release: prose takes 0.6 ms a MiB, and
/// the worst that was found (an object of one-byte keys, each escaped) 15 ms.
pub const OFF_THREAD_BYTES: usize = 256 * 1024;

/// Scans `body`, which must be one JSON object. The cost is linear, but a long body takes longer than a worker may
/// stand still: see [`OFF_THREAD_BYTES`].
pub fn peek(body: &[u8]) -> Result<Peek, PeekError> {
    let found = Found::scan(body, READ, ACTED_ON)?;
    let (elements, nested) = (found.elements, found.nested);
    let [
        model,
        stream,
        stream_options,
        max_tokens,
        max_completion_tokens,
        choices,
        best_of,
        messages,
        prompt,
        input,
        names @ ..,
    ] = found.values;
    let mut peek = common(body, found.empty, model, stream)?;
    if let Some(value) = stream_options {
        peek_stream_options(body, value, &mut peek)?;
    }
    peek.spans.max_completion_tokens = max_completion_tokens.clone().filter(|_| max_tokens.is_none());
    let integer = |span: Range<usize>| json::integer_at(body, &span);
    peek.max_tokens = max_completion_tokens.and_then(integer).or(max_tokens.and_then(integer)).map(clamp);
    let count = |span: Option<Range<usize>>| span.and_then(integer).map_or(1, clamp).max(1);
    peek.choices = count(choices).max(count(best_of));
    peek.prefix = prefix_of(body, &names, messages.or(prompt).or(input), elements);
    (peek.may_name_objects, peek.holds_files) = (nested.may_name_objects, nested.hold_files);
    Ok(peek)
}

/// As [`peek`], for a request to the Responses API. Its `stream_options` have nothing to do with usage, which always
/// comes with the answer's end.
pub fn peek_response(body: &[u8]) -> Result<Peek, PeekError> {
    let found = Found::scan(body, READ_OF_RESPONSES, ACTED_ON_OF_RESPONSES)?;
    let (elements, nested) = (found.elements, found.nested);
    let [model, stream, max_output_tokens, store, previous, conversation, background, input, names @ ..] = found.values;
    let mut peek = common(body, found.empty, model, stream)?;
    let given = |value: Option<Range<usize>>| value.filter(|value| !is_null(body, value));
    peek.max_tokens = max_output_tokens.and_then(|span| json::integer_at(body, &span)).map(clamp);
    peek.prefix = prefix_of(body, &names, input.clone(), elements);
    (peek.may_name_objects, peek.holds_files) = (nested.may_name_objects, nested.hold_files);
    peek.state = State {
        store: given(store).map_or(Ok(true), |value| truth(body, &value, "store"))?,
        previous: given(previous).map(|value| text(body, &value, "previous_response_id")).transpose()?,
        referred: input.map_or_else(Referred::default, |input| kept::referred(body, &input)),
        conversation: given(conversation).map(|value| conversation_id(body, &value)).transpose()?,
        background: background.map_or(Ok(false), |value| truth(body, &value, "background"))?,
    };
    Ok(peek)
}

/// As [`peek_response`], for a conversation that is to be made shorter: nothing of it is kept.
pub fn peek_compaction(body: &[u8]) -> Result<Peek, PeekError> {
    let mut peek = peek_response(body)?;
    (peek.state.store, peek.state.background) = (false, false);
    Ok(peek)
}

/// A name, or an object that has it.
fn conversation_id(body: &[u8], value: &Range<usize>) -> Result<String, PeekError> {
    let wrong = PeekError::Type { name: "conversation", expected: "an id, or an object with an `id`" };
    if body.get(value.start) != Some(&b'{') {
        return Ok(json::string_at(body, value).ok_or(wrong)?.into_owned());
    }
    let found = Found::scan(&body[value.clone()], ["id"], 1).map_err(|error| match error {
        PeekError::Duplicate(_) => PeekError::Duplicate("conversation.id"),
        PeekError::Invalid(_) | PeekError::Type { .. } => error,
    })?;
    let [Some(id)] = found.values else { return Err(wrong) };
    let id = value.start + id.start..value.start + id.end;
    Ok(json::string_at(body, &id).ok_or(wrong)?.into_owned())
}

fn prefix_of(
    body: &[u8],
    names: &[Option<Range<usize>>],
    prompt: Option<Range<usize>>,
    elements: [usize; 2],
) -> Option<Prefix> {
    let is_long = tokens::rough_input(body) >= prefix::LEAST_TOKENS;
    if is_long { prefix::of(body, names, prompt, elements) } else { None }
}

/// What every operation has.
fn common(
    body: &[u8],
    empty: bool,
    model: Option<Range<usize>>,
    stream: Option<Range<usize>>,
) -> Result<Peek, PeekError> {
    let mut peek = Peek { choices: 1, ..Peek::default() };
    peek.spans.start = json::skip_space(body, 0) + 1;
    peek.spans.empty = empty;
    if let Some(value) = model {
        if !is_null(body, &value) {
            peek.model = Some(text(body, &value, "model")?);
        }
        peek.spans.model = Some(value);
    }
    if let Some(value) = stream {
        peek.stream = truth(body, &value, "stream")?;
    }
    Ok(peek)
}

fn peek_stream_options(body: &[u8], value: Range<usize>, peek: &mut Peek) -> Result<(), PeekError> {
    if body.get(value.start) == Some(&b'{') {
        let found = Found::scan(&body[value.clone()], ["include_usage"], 1).map_err(|error| match error {
            PeekError::Duplicate(_) => PeekError::Duplicate("stream_options.include_usage"),
            PeekError::Invalid(_) | PeekError::Type { .. } => error,
        })?;
        peek.spans.stream_options_is_object = true;
        peek.spans.stream_options_is_empty = found.empty;
        if let [Some(inner)] = found.values {
            let inner = value.start + inner.start..value.start + inner.end;
            peek.include_usage = truth(body, &inner, "stream_options.include_usage")?;
            peek.spans.include_usage = Some(inner);
        }
    } else if !is_null(body, &value) {
        return Err(PeekError::Type { name: "stream_options", expected: "an object" });
    }
    peek.spans.stream_options = Some(value);
    Ok(())
}

fn text(body: &[u8], value: &Range<usize>, name: &'static str) -> Result<String, PeekError> {
    let wrong = PeekError::Type { name, expected: "a string" };
    Ok(json::string_at(body, value).ok_or(wrong)?.into_owned())
}

fn truth(body: &[u8], value: &Range<usize>, name: &'static str) -> Result<bool, PeekError> {
    match body.get(value.clone()) {
        Some(b"true") => Ok(true),
        Some(b"false" | b"null") => Ok(false),
        _ => Err(PeekError::Type { name, expected: "true or false" }),
    }
}

/// What the upstream needs changed in a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changes<'a> {
    /// The v1 family routes by the body's `model`: it must be the deployment's name.
    pub model: Option<&'a str>,
    pub stream_options: StreamOptions,
    pub cap: Cap,
}

/// What the cap of the output is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cap {
    AsAsked,
    /// `max_tokens`, for those who do not know `max_completion_tokens`.
    MaxTokens,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamOptions {
    Keep,
    /// Ask for the usage chunk.
    IncludeUsage,
    /// The upstream's api-version would answer 400.
    Remove,
}

/// The body with the changes made, in pieces that are to be sent one after the other: what is the client's is not
/// copied.
pub fn rewrite(body: &Bytes, peek: &Peek, changes: Changes<'_>) -> SmallVec<[Bytes; 3]> {
    let mut edits: Vec<(Range<usize>, String)> = Vec::new();
    let spans = &peek.spans;
    let mut inserts: Vec<String> = Vec::new();
    if let Some(model) = changes.model
        && peek.model.as_deref() != Some(model)
    {
        let quoted = serde_json::Value::from(model).to_string();
        match &spans.model {
            Some(span) => edits.push((span.clone(), quoted)),
            None => inserts.push(format!("\"model\":{quoted}")),
        }
    }
    match changes.stream_options {
        StreamOptions::IncludeUsage if !peek.include_usage => match (&spans.stream_options, &spans.include_usage) {
            (_, Some(value)) => edits.push((value.clone(), "true".to_owned())),
            (Some(options), None) if spans.stream_options_is_object => {
                let comma = if spans.stream_options_is_empty { "" } else { "," };
                edits.push((options.start + 1..options.start + 1, format!("\"include_usage\":true{comma}")));
            }
            (Some(options), None) => edits.push((options.clone(), "{\"include_usage\":true}".to_owned())),
            (None, None) => inserts.push("\"stream_options\":{\"include_usage\":true}".to_owned()),
        },
        // An explicit null is what every version takes for "no options", and keeps the commas around it right.
        StreamOptions::Remove => edits.extend(spans.stream_options.clone().map(|options| (options, "null".to_owned()))),
        StreamOptions::IncludeUsage | StreamOptions::Keep => {}
    }
    if let (Cap::MaxTokens, Some(key)) =
        (changes.cap, spans.max_completion_tokens.as_ref().and_then(|value| key_of(body, value)))
    {
        edits.push((key, "\"max_tokens\"".to_owned()));
    }
    if !inserts.is_empty() {
        let comma = if spans.empty { "" } else { "," };
        edits.push((spans.start..spans.start, inserts.join(",") + comma));
    }
    if edits.is_empty() {
        return smallvec![body.clone()];
    }
    edits.sort_by_key(|(span, _)| (span.start, span.end));
    let mut pieces = SmallVec::new();
    let mut from = 0;
    for (span, text) in edits {
        pieces.push(body.slice(from..span.start));
        pieces.push(Bytes::from(text));
        from = span.end;
    }
    pieces.push(body.slice(from..));
    pieces
}

/// Where the key of a member stands, with its quotes, whose value stands at `value`. An escaped quote is part of no key that
/// is looked for.
fn key_of(body: &[u8], value: &Range<usize>) -> Option<Range<usize>> {
    let before = body.get(..value.start)?.trim_ascii_end().strip_suffix(b":")?.trim_ascii_end();
    let start = memchr::memrchr(b'"', before.strip_suffix(b"\"")?)?;
    Some(start..before.len())
}

fn is_null(body: &[u8], span: &Range<usize>) -> bool {
    body.get(span.clone()) == Some(b"null")
}

fn clamp(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
