//! Usage as the APIs report it.
//! Source: <https://platform.openai.com/docs/api-reference/chat/object>, `usage`.

use std::ops::Range;

use super::json;
use crate::domain::usage::Usage;

/// Reads a `usage` object at `span`, by the names of either generation of the API. A figure that is no whole number of tokens makes the whole report unusable:
/// `None`, and the caller estimates instead of booking nonsense.
pub fn read(text: &[u8], span: &Range<usize>) -> Option<Usage> {
    let mut usage = Usage::default();
    let mut counted = false;
    for member in json::members_at(text, span) {
        match &*json::key_text(text, &member) {
            "prompt_tokens" | "input_tokens" => {
                usage.input_tokens = tokens(text, &member.value)?;
                counted = true;
            }
            "completion_tokens" | "output_tokens" => usage.output_tokens = tokens(text, &member.value)?,
            "prompt_tokens_details" | "input_tokens_details" => {
                usage.cached_input_tokens = detail(text, &member.value, "cached_tokens");
            }
            "completion_tokens_details" | "output_tokens_details" => {
                usage.reasoning_tokens = detail(text, &member.value, "reasoning_tokens");
            }
            _ => {}
        }
    }
    counted.then_some(usage)
}

fn tokens(text: &[u8], span: &Range<usize>) -> Option<u32> {
    json::integer_at(text, span)?.try_into().ok()
}

/// Details may be null, absent or odd; they only refine what the totals say.
fn detail(text: &[u8], span: &Range<usize>, name: &str) -> u32 {
    json::members_at(text, span)
        .iter()
        .find(|member| json::key_text(text, member) == name)
        .and_then(|member| tokens(text, &member.value))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Option<Usage> {
        read(text.as_bytes(), &(0..text.len()))
    }

    #[test]
    fn totals_and_details() {
        let text = r#"{"prompt_tokens":33,"completion_tokens":39,"total_tokens":72,
            "prompt_tokens_details":{"audio_tokens":0,"cached_tokens":12},"completion_tokens_details":{"reasoning_tokens":7}}"#;
        let expected = Usage { input_tokens: 33, cached_input_tokens: 12, output_tokens: 39, reasoning_tokens: 7 };
        assert_eq!(read_text(text), Some(expected));
        assert_eq!(
            read_text(r#"{"prompt_tokens":5,"total_tokens":5,"prompt_tokens_details":null}"#).unwrap().input_tokens,
            5
        );
    }

    #[test]
    fn the_responses_api_has_names_of_its_own() {
        let text = r#"{"input_tokens":33,"input_tokens_details":{"cached_tokens":12},"output_tokens":39,
            "output_tokens_details":{"reasoning_tokens":7},"total_tokens":72}"#;
        let expected = Usage { input_tokens: 33, cached_input_tokens: 12, output_tokens: 39, reasoning_tokens: 7 };
        assert_eq!(read_text(text), Some(expected));
    }

    #[test]
    fn nonsense_is_not_booked() {
        for odd in [
            "null",
            "{}",
            r#"{"completion_tokens":3}"#,
            r#"{"prompt_tokens":-1}"#,
            r#"{"prompt_tokens":1.5}"#,
            r#"{"prompt_tokens":"3"}"#,
            r#"{"prompt_tokens":9223372036854775808}"#,
            r#"{"prompt_tokens":3,"completion_tokens":-2}"#,
        ] {
            assert_eq!(read_text(odd), None, "{odd}");
        }
    }
}
