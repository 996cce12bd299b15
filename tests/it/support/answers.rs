//! Answers and questions in Azure's shapes, made up for the tests.

use super::fake_azure::Reply;

pub const QUESTION: &str = r#"{"model":"gpt-4o-mini","messages":[{"role":"user","content":"Name a colour."}]}"#;
pub const STREAMED_QUESTION: &str =
    r#"{"model":"gpt-4o-mini","stream":true,"messages":[{"role":"user","content":"Name a colour."}]}"#;

/// 12 tokens in, 5 out.
pub const ANSWER: &str = concat!(
    r#"{"choices":[{"content_filter_results":{"hate":{"filtered":false,"severity":"safe"}},"finish_reason":"stop","#,
    r#""index":0,"message":{"content":"Teal, I think.","role":"assistant"}}],"created":1790000000,"#,
    r#""id":"chatcmpl-made-up","model":"gpt-4o-mini","object":"chat.completion","#,
    r#""usage":{"completion_tokens":5,"prompt_tokens":12,"total_tokens":17}}"#
);

pub fn answered() -> Reply {
    Reply::json(200, ANSWER)
}

/// Azure's first chunk: no choice, only what the filter says of the prompt.
pub const FILTER_CHUNK: &str = concat!(
    r#"data: {"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":"#,
    r#"[{"prompt_index":0,"content_filter_results":{"hate":{"filtered":false,"severity":"safe"}}}]}"#,
    "\n\n"
);
pub const USAGE_CHUNK: &str = concat!(
    r#"data: {"choices":[],"created":1790000000,"id":"chatcmpl-made-up","model":"gpt-4o-mini","#,
    r#""object":"chat.completion.chunk","usage":{"completion_tokens":4,"prompt_tokens":12,"total_tokens":16}}"#,
    "\n\n"
);
pub const DONE: &str = "data: [DONE]\n\n";

/// A chunk with content, as it looks when usage was not asked for.
pub fn content(text: &str) -> String {
    let head = r#"data: {"choices":[{"delta":{"content":""#;
    let tail = r#""},"finish_reason":null,"index":0}],"created":1790000000,"id":"chatcmpl-made-up","object":"chat.completion.chunk"}"#;
    format!("{head}{text}{tail}\n\n")
}

/// The same when usage was asked for.
pub fn content_with_null(text: &str) -> String {
    content(text).replace("}\n\n", ",\"usage\":null}\n\n")
}

/// What Azure streams when usage was asked for: filter results, four words, usage, `[DONE]`.
pub fn full_stream() -> Vec<String> {
    let mut events = vec![FILTER_CHUNK.to_owned()];
    events.extend(["Teal", " is", " a", " colour."].map(content_with_null));
    events.extend([USAGE_CHUNK.to_owned(), DONE.to_owned()]);
    events
}

/// What a client of OpenAI gets of it that did not ask for usage: chunks without choices are Azure's own.
pub fn stream_without_usage() -> Vec<String> {
    let mut events: Vec<_> = ["Teal", " is", " a", " colour."].map(content).into();
    events.push(DONE.to_owned());
    events
}

/// What such a client of Azure gets.
pub fn azure_stream_without_usage() -> Vec<String> {
    [vec![FILTER_CHUNK.to_owned()], stream_without_usage()].concat()
}

pub fn streamed(events: &[String]) -> Reply {
    Reply::sse(&events.iter().map(String::as_str).collect::<Vec<_>>())
}
