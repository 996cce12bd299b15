//! Completions, the older operation that takes a text: its prompt, the answer's body, and the chunks of its stream.

use serde_json::Value;

use super::answer::{Choice, Finish};
use super::errors::Invalid;
use super::events::Events;
use super::generation::{Annotations, Filtered, Generation, quoted};
use super::parameters::{Fields, Streaming, UsageChunk, wrong_type};
use super::prompt::Prompt;

/// Reads the prompt; several prompts are read as one.
pub(super) fn prompt(fields: &Fields) -> Result<Prompt, Invalid> {
    match fields.get("prompt") {
        None | Some(Value::Null) => Err(Invalid::missing("prompt")),
        Some(Value::String(text)) => Ok(Prompt::of_text(text)),
        Some(Value::Array(parts)) if parts.iter().all(Value::is_string) => {
            let texts: Vec<&str> = parts.iter().filter_map(Value::as_str).collect();
            Ok(Prompt::of_text(&texts.join("\n")))
        }
        Some(other) => Err(wrong_type("prompt", "a string or an array of strings", other)),
    }
}

/// The body of an answer that is not streamed.
pub(super) fn body(generation: &Generation<'_>) -> String {
    let choices: Vec<String> = generation
        .choices
        .iter()
        .enumerate()
        .map(|(index, choice)| part(generation, index, &choice.tokens.concat(), Some(choice)))
        .collect();
    frame(
        generation,
        &generation.prompt_filter(),
        &choices.join(","),
        &format!(r#","usage":{}"#, generation.usage.plain()),
    )
}

/// The stream of an answer.
pub(super) fn events(generation: &Generation<'_>, streaming: Streaming) -> Events {
    let mut events = Events::default();
    let no_usage = Generation::no_usage(streaming.usage);
    if generation.annotations != Annotations::Absent {
        events.push(&frame(generation, &generation.prompt_filter(), "", ""), 0);
        events.end_lump();
    }
    let longest = generation.choices.iter().map(|choice| choice.tokens.len()).max().unwrap_or_default();
    for place in 0..longest {
        for (index, choice) in generation.choices.iter().enumerate() {
            if let Some(token) = choice.tokens.get(place) {
                events.push(&frame(generation, "", &part(generation, index, token, None), no_usage), 1);
            }
        }
        events.end_lump();
    }
    for (index, choice) in generation.choices.iter().enumerate() {
        events.push(&frame(generation, "", &part(generation, index, "", Some(choice)), no_usage), 0);
    }
    if streaming.usage == UsageChunk::Wanted {
        events.push(&frame(generation, "", "", &format!(r#","usage":{}"#, generation.usage.plain())), 0);
    }
    events.push("[DONE]", 0);
    events.end_lump();
    events
}

fn frame(generation: &Generation<'_>, filter: &str, choices: &str, usage: &str) -> String {
    format!(
        r#"{{"id":"{}","object":"text_completion","created":{},"model":"{}",{filter}"choices":[{choices}]{usage}}}"#,
        generation.id, generation.created, generation.deployment.model.served
    )
}

/// A choice; `ended` is given when it ends here.
fn part(generation: &Generation<'_>, index: usize, text: &str, ended: Option<&Choice>) -> String {
    let finish = ended.map(|choice| choice.finish);
    let filtered = if finish == Some(Finish::ContentFilter) { Filtered::Yes } else { Filtered::No };
    let results = generation.output_filter(filtered).map(|results| format!(r#","content_filter_results":{results}"#));
    format!(
        r#"{{"text":{},"index":{index},"finish_reason":{},"logprobs":null{}}}"#,
        quoted(text),
        finish.map_or("null".to_owned(), |finish| format!("\"{}\"", finish.name())),
        results.unwrap_or_default()
    )
}
