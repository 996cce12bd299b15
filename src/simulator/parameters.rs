//! Reads the parameters that chat and completions share, and refuses them in Azure's words.

use serde_json::{Map, Value};

use super::errors::Invalid;
use super::knobs::{Knobs, Obfuscation};
use super::models::{Kind, Model};
use super::prompt::Prompt;
use super::routes::{Family, StreamOptions};

/// A request's body.
pub(super) type Fields = Map<String, Value>;

/// A request for generated text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) prompt: Prompt,
    pub(super) cache_key: String,
    /// `max_tokens` or `max_completion_tokens`
    pub(super) most: Option<u64>,
    /// Answers returned, and computed for them.
    pub(super) choices: u64,
    pub(super) computed: u64,
    /// `None` when the answer is not streamed.
    pub(super) stream: Option<Streaming>,
    pub(super) thinks: Thinking,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Streaming {
    pub(super) usage: UsageChunk,
    pub(super) obfuscation: Obfuscation,
}

/// Whether the stream ends with a chunk of usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UsageChunk {
    Wanted,
    Unwanted,
}

/// Whether a reasoning model is to reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Thinking {
    Yes,
    No,
}

/// Parses a body: an object, or Azure's complaint.
pub(super) fn fields(body: &[u8]) -> Result<Fields, Invalid> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) | Err(_) => Err(Invalid::bare(
            "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP \
             library correctly. The OpenAI API expects a JSON payload, but what was sent was not valid JSON. If you \
             have trouble figuring out how to fix this, please contact us through an Azure support request at: \
             https://go.microsoft.com/fwlink/?linkid=2213926.)",
        )),
    }
}

/// What chat and completions have in common; `prompt` is what the operation itself read.
pub(super) fn asked(
    fields: &Fields,
    prompt: Prompt,
    model: &Model,
    family: &Family,
    knobs: &Knobs,
) -> Result<Asked, Invalid> {
    if model.kind == Kind::Reasoning {
        refuse_for_reasoning(fields)?;
    }
    let most = match integer(fields, "max_tokens", 1)? {
        None if model.kind == Kind::Completion => Some(16),
        None => integer(fields, "max_completion_tokens", 1)?,
        some => some,
    };
    if let Some(most) = most.filter(|most| *most > model.max_output) {
        let limit = model.max_output;
        return Err(Invalid::new(
            format!(
                "max_tokens is too large: {most}. This model supports at most {limit} completion tokens, whereas you \
                 provided {most}."
            ),
            "max_tokens",
            "invalid_value",
        ));
    }
    let context = model.context;
    if prompt.tokens > context {
        return Err(Invalid::new(
            format!(
                "This model's maximum context length is {context} tokens. However, your messages resulted in {} \
                 tokens. Please reduce the length of the messages.",
                prompt.tokens
            ),
            if model.kind == Kind::Completion { "prompt" } else { "messages" },
            "context_length_exceeded",
        ));
    }
    let choices = integer(fields, "n", 1)?.unwrap_or(1).min(128);
    let best_of = integer(fields, "best_of", 1)?.unwrap_or(1).min(128);
    let lazy = fields.get("reasoning_effort").is_some_and(|effort| effort == "none" || effort == "minimal");
    Ok(Asked {
        prompt,
        cache_key: fields.get("prompt_cache_key").and_then(Value::as_str).unwrap_or_default().to_owned(),
        most,
        choices,
        computed: choices.max(best_of),
        stream: streaming(fields, family, knobs)?,
        thinks: if lazy { Thinking::No } else { Thinking::Yes },
    })
}

fn streaming(fields: &Fields, family: &Family, knobs: &Knobs) -> Result<Option<Streaming>, Invalid> {
    let stream = flag(fields, "stream")?.unwrap_or(false);
    let options = fields.get("stream_options").filter(|options| !options.is_null());
    if options.is_some() {
        match family.stream_options() {
            StreamOptions::Accepted => {}
            StreamOptions::Unknown => {
                return Err(Invalid::new(
                    "Unknown parameter: 'stream_options'.",
                    "stream_options",
                    "unknown_parameter",
                ));
            }
            StreamOptions::Unrecognised => {
                return Err(Invalid::bare("Unrecognized request argument supplied: stream_options"));
            }
        }
        if !stream {
            let message = "The 'stream_options' parameter is only allowed when 'stream' is enabled.";
            return Err(Invalid { param: Some("stream_options"), ..Invalid::bare(message) });
        }
    }
    let says = |name: &str| options.and_then(|options| options[name].as_bool());
    let usage = if says("include_usage") == Some(true) { UsageChunk::Wanted } else { UsageChunk::Unwanted };
    let declined = says("include_obfuscation") == Some(false);
    let obfuscation = if declined { Obfuscation::Off } else { knobs.obfuscation };
    Ok(stream.then_some(Streaming { usage, obfuscation }))
}

/// Reasoning models take fewer parameters.
fn refuse_for_reasoning(fields: &Fields) -> Result<(), Invalid> {
    let given = |name: &str| fields.get(name).filter(|value| !value.is_null());
    if given("max_tokens").is_some() {
        let message = "Unsupported parameter: 'max_tokens' is not supported with this model. Use \
                       'max_completion_tokens' instead.";
        return Err(Invalid::new(message, "max_tokens", "unsupported_parameter"));
    }
    for name in ["top_p", "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs", "logit_bias"] {
        if given(name).is_some() {
            let message = format!("Unsupported parameter: '{name}' is not supported with this model.");
            return Err(Invalid::new(message, name, "unsupported_parameter"));
        }
    }
    match given("temperature") {
        Some(value) if value.as_f64() != Some(1.0) => {
            let message = format!(
                "Unsupported value: 'temperature' does not support {value} with this model. Only the default (1) \
                 value is supported."
            );
            Err(Invalid::new(message, "temperature", "unsupported_value"))
        }
        Some(_) | None => Ok(()),
    }
}

pub(super) fn integer(fields: &Fields, name: &'static str, least: u64) -> Result<Option<u64>, Invalid> {
    let Some(value) = fields.get(name).filter(|value| !value.is_null()) else { return Ok(None) };
    if !(value.is_u64() || value.is_i64()) {
        return Err(wrong_type(name, "an integer", value));
    }
    match value.as_u64() {
        Some(number) if number >= least => Ok(Some(number)),
        Some(_) | None => Err(Invalid::new(
            format!(
                "Invalid '{name}': integer below minimum value. Expected a value >= {least}, but got {value} instead."
            ),
            name,
            "integer_below_min_value",
        )),
    }
}

pub(super) fn flag(fields: &Fields, name: &'static str) -> Result<Option<bool>, Invalid> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(*flag)),
        Some(other) => Err(wrong_type(name, "a boolean", other)),
    }
}

/// A value of another type than expected.
pub(super) fn wrong_type(name: &'static str, expected: &str, value: &Value) -> Invalid {
    let got = match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a decimal number",
        Value::Number(_) => "an integer",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    };
    Invalid::new(
        format!("Invalid type for '{name}': expected {expected}, but got {got} instead."),
        name,
        "invalid_type",
    )
}

#[cfg(test)]
mod tests {
    use super::super::models::model;
    use super::*;

    fn read(body: &str, model_name: &str, version: &str) -> Result<Asked, Invalid> {
        let fields = fields(body.as_bytes())?;
        asked(
            &fields,
            Prompt::of_text("hello"),
            &model(model_name),
            &Family::Dated(version.to_owned()),
            &Knobs::default(),
        )
    }

    #[test]
    fn reasoning_models_refuse_what_they_do_not_take() {
        let code = |body| read(body, "gpt-5-nano", "2024-10-21").unwrap_err().code;
        assert_eq!(code(r#"{"max_tokens":5}"#), Some("unsupported_parameter"));
        assert_eq!(code(r#"{"top_p":1}"#), Some("unsupported_parameter"));
        assert_eq!(code(r#"{"temperature":0.5}"#), Some("unsupported_value"));
        let asked = read(r#"{"temperature":1,"max_completion_tokens":5}"#, "gpt-5-nano", "2024-10-21").unwrap();
        assert_eq!(asked.most, Some(5));
        assert_eq!(read(r#"{"max_tokens":5,"top_p":1}"#, "gpt-4.1", "2024-10-21").unwrap().most, Some(5));
    }

    #[test]
    fn stream_options_are_judged_by_the_version() {
        let body = r#"{"stream":true,"stream_options":{"include_usage":true}}"#;
        let stream = read(body, "gpt-4.1", "2024-10-21").unwrap().stream.unwrap();
        assert_eq!(stream.usage, UsageChunk::Wanted);
        assert_eq!(read(body, "gpt-4.1", "2024-06-01").unwrap_err().code, Some("unknown_parameter"));
        let old = read(body, "gpt-4.1", "2024-02-01").unwrap_err();
        assert_eq!(old, Invalid::bare("Unrecognized request argument supplied: stream_options"));
        assert!(read(r#"{"stream_options":{}}"#, "gpt-4.1", "2024-10-21").is_err());
    }

    #[test]
    fn wrong_values_are_named() {
        let message = |body| read(body, "gpt-4o-mini", "2024-10-21").unwrap_err().message;
        assert_eq!(
            message(r#"{"max_tokens":"5"}"#),
            "Invalid type for 'max_tokens': expected an integer, but got a string instead."
        );
        assert!(message(r#"{"max_tokens":0}"#).starts_with("Invalid 'max_tokens': integer below minimum value."));
        assert!(message(r#"{"max_tokens":16385}"#).starts_with("max_tokens is too large: 16385."));
        assert!(message(r#"{"stream":1}"#).starts_with("Invalid type for 'stream'"));
        assert!(message("[]").starts_with("We could not parse"));
    }
}
