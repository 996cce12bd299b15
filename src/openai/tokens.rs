//! Token estimates: cheap upper bounds for admission, tiktoken for answers that ended before Azure told their usage.
//!
//! Azure's own count is the truth (`usage`); nothing here is billed unless the row says `estimated`.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tiktoken_rs::CoreBPE;

use super::json;

/// Longer texts are bounded by their bytes instead of being encoded: hostile text is many times dearer than prose.
const EXACT_BYTES: usize = 256 * 1024;
/// tiktoken's pattern matcher overflows its stack on a million characters of one class.
const LONGEST_RUN: usize = 64 * 1024;
/// Encoding more than this takes longer than a worker may stand still.
pub const OFF_THREAD_BYTES: usize = 32 * 1024;

/// Input tokens of a request, for admission: Azure itself estimates from characters, four to a token.
pub fn rough_input(body: &[u8]) -> u32 {
    u32::try_from(body.len().div_ceil(4)).unwrap_or(u32::MAX)
}

/// Tokens of `text` in the model's vocabulary; bytes, which are never fewer, where encoding would be unsafe or slow.
pub fn count(model: &str, text: &str) -> u32 {
    let bytes = u32::try_from(text.len()).unwrap_or(u32::MAX);
    if text.len() > EXACT_BYTES || longest_run(text) > LONGEST_RUN {
        return bytes;
    }
    // `encode` reports failures that `encode_ordinary` panics on; the guard is for what it still does not.
    let encoded = catch_unwind(AssertUnwindSafe(|| vocabulary(model).encode(text, &HashSet::new())));
    match encoded {
        Ok(Ok((tokens, _))) => u32::try_from(tokens.len()).unwrap_or(bytes),
        Ok(Err(_)) | Err(_) => bytes,
    }
}

/// Input tokens of a chat, completions, embeddings or Responses body: its texts, and what the chat format adds per message.
/// Source: the OpenAI cookbook's token counting; gpt-5 models were recorded with one token less.
pub fn count_input(model: &str, body: &[u8]) -> u32 {
    let Ok(members) = json::members(body) else { return rough_input(body) };
    let mut tokens = 0u32;
    for member in &members {
        match &*json::key_text(body, member) {
            "messages" => {
                for message in json::elements_at(body, &member.value) {
                    tokens = tokens.saturating_add(3 + count_strings(model, body, message));
                }
                tokens = tokens.saturating_add(3);
            }
            "prompt" | "input" | "instructions" | "tools" | "functions" => {
                tokens = tokens.saturating_add(count_strings(model, body, member.value.clone()))
            }
            _ => {}
        }
    }
    tokens
}

/// The tokens of every string value inside `span`; keys, numbers and punctuation are not part of a prompt.
fn count_strings(model: &str, body: &[u8], span: std::ops::Range<usize>) -> u32 {
    let Some(text) = body.get(span).and_then(|part| serde_json::from_slice::<serde_json::Value>(part).ok()) else {
        return 0;
    };
    let mut tokens = 0u32;
    let mut todo = vec![&text];
    while let Some(value) = todo.pop() {
        match value {
            serde_json::Value::String(text) => tokens = tokens.saturating_add(count(model, text)),
            serde_json::Value::Array(items) if !items.is_empty() && items.iter().all(serde_json::Value::is_number) => {
                tokens = tokens.saturating_add(u32::try_from(items.len()).unwrap_or(u32::MAX));
            }
            serde_json::Value::Array(items) => todo.extend(items),
            serde_json::Value::Object(members) => todo.extend(members.values()),
            serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => {}
        }
    }
    tokens
}

/// The longest stretch of characters of one class (white space, letters and digits, the rest).
fn longest_run(text: &str) -> usize {
    let class = |character: char| match character {
        _ if character.is_whitespace() => 0u8,
        _ if character.is_alphanumeric() => 1,
        _ => 2,
    };
    let (mut longest, mut run, mut before) = (0, 0, None);
    for character in text.chars() {
        let now = Some(class(character));
        run = if now == before { run + 1 } else { 1 };
        longest = longest.max(run);
        before = now;
    }
    longest
}

/// The vocabulary by model name; loaded when first needed (some 20 MB each), o200k for names that say nothing.
fn vocabulary(model: &str) -> &'static CoreBPE {
    let old = ["gpt-4-", "gpt-3.5", "gpt-35", "text-embedding", "davinci", "babbage"];
    if model == "gpt-4" || old.iter().any(|prefix| model.starts_with(prefix)) {
        tiktoken_rs::cl100k_base_singleton()
    } else {
        tiktoken_rs::o200k_base_singleton()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_counts() {
        // Recorded: "Tell me a joke about opentelemetry" is billed 15 by gpt-35-turbo and 16 by gpt-4.1-mini.
        let body = br#"{"messages":[{"role":"user","content":"Tell me a joke about opentelemetry"}],"model":"x"}"#;
        assert_eq!(count_input("gpt-35-turbo", body), 15);
        assert_eq!(count_input("gpt-4.1-mini", body), 16);
        assert_eq!(count_input("text-embedding-3-small", br#"{"input":[1,2,3]}"#), 3);
        assert_eq!(count("gpt-4o", ""), 0);
    }

    #[test]
    fn hostile_text_is_bounded_not_encoded() {
        for text in [" ".repeat(1_000_001), "\u{3000}".repeat(70_000), "a".repeat(100_000), "_".repeat(80_000)] {
            assert_eq!(count("gpt-4o", &text) as usize, text.len());
        }
        assert_eq!(count("gpt-4o", "<|endoftext|>"), 7, "special tokens are ordinary text of a client");
    }
}
