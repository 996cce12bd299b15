//! Usage as the APIs report it.
//! Source: <https://platform.openai.com/docs/api-reference/chat/object>, `usage`.

use std::ops::Range;

use super::json;
use crate::domain::usage::Usage;

/// Reads a `usage` object at `span`, by the names of either generation of the API. A figure that is no whole number of
/// tokens makes the whole report unusable: `None`, and the caller estimates instead of booking nonsense. Details may be
/// null, absent or odd; they only refine what the totals say, and no part is larger than what it is a part of.
///
/// Where audio may come from the cache, `cached_tokens_details` says how much of the cached tokens is audio, and
/// `audio_tokens` counts it too; without a word about it, text is taken to be cached first. Each token is in one part.
pub fn read(text: &[u8], span: &Range<usize>) -> Option<Usage> {
    let text = text.get(span.clone())?;
    let (mut input, mut output, mut usage) = (None, Some(0), Usage::default());
    json::each(text, |member| {
        let value = &text[member.value];
        match &text[member.key] {
            b"prompt_tokens" | b"input_tokens" => input = tokens(value),
            b"completion_tokens" | b"output_tokens" => output = tokens(value),
            b"prompt_tokens_details" | b"input_tokens_details" | b"input_token_details" => {
                let [cached, heard] = details(value, [b"cached_tokens", b"audio_tokens"]);
                (usage.cached_input_tokens, usage.audio_input_tokens) =
                    (cached, heard - cached_audio(value).min(heard));
            }
            b"completion_tokens_details" | b"output_tokens_details" | b"output_token_details" => {
                [usage.reasoning_tokens, usage.audio_output_tokens] =
                    details(value, [b"reasoning_tokens", b"audio_tokens"]);
            }
            _ => {}
        }
    })
    .ok()?;
    (usage.input_tokens, usage.output_tokens) = (input?, output?);
    Some(usage.parted())
}

fn tokens(value: &[u8]) -> Option<u32> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// Of the cached tokens, those that were heard.
fn cached_audio(object: &[u8]) -> u32 {
    let mut found = 0;
    let scanned = json::each(object, |member| {
        if &object[member.key.clone()] == b"cached_tokens_details" {
            [found] = details(&object[member.value], [b"audio_tokens"]);
        }
    });
    if scanned.is_ok() { found } else { 0 }
}

/// Each by its name; zero where it is not told.
fn details<const N: usize>(object: &[u8], names: [&[u8]; N]) -> [u32; N] {
    let mut found = [0; N];
    let scanned = json::each(object, |member| {
        if let Some(which) = names.iter().position(|name| *name == &object[member.key.clone()]) {
            found[which] = tokens(&object[member.value]).unwrap_or(0);
        }
    });
    if scanned.is_ok() { found } else { [0; N] }
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
            "prompt_tokens_details":{"audio_tokens":3,"cached_tokens":12},"completion_tokens_details":{"reasoning_tokens":7,"audio_tokens":5}}"#;
        let expected = Usage {
            input_tokens: 33,
            cached_input_tokens: 12,
            output_tokens: 39,
            reasoning_tokens: 7,
            audio_input_tokens: 3,
            audio_output_tokens: 5,
        };
        assert_eq!(read_text(text), Some(expected));
        assert_eq!(
            read_text(r#"{"prompt_tokens":5,"total_tokens":5,"prompt_tokens_details":null}"#).unwrap().input_tokens,
            5
        );
    }

    /// Both as the realtime API and the chat completions tell it: with and without a word about what of the cache is audio.
    #[test]
    fn what_was_heard_and_cached_is_in_one_part() {
        let parts = |details: &str| {
            let text = format!(
                r#"{{"input_tokens":132,"output_tokens":9,"total_tokens":141,"input_token_details":{details}}}"#
            );
            let usage = read_text(&text).unwrap();
            assert_eq!(usage.input_tokens, 132);
            (usage.cached_input_tokens, usage.audio_input_tokens)
        };
        let split = r#"{"text_tokens":69,"audio_tokens":63,"image_tokens":0,"cached_tokens":64,
            "cached_tokens_details":{"text_tokens":14,"audio_tokens":50,"image_tokens":0}}"#;
        assert_eq!(parts(split), (64, 13));
        let all_text =
            r#"{"cached_tokens_details":{"text_tokens":64,"audio_tokens":0},"audio_tokens":63,"cached_tokens":64}"#;
        assert_eq!(parts(all_text), (64, 63));
        assert_eq!(parts(r#"{"audio_tokens":63,"cached_tokens":64}"#), (64, 63), "the cached ones fit into the text");
        assert_eq!(parts(r#"{"audio_tokens":100,"cached_tokens":64}"#), (64, 68), "and here they do not");
        for odd in ["null", "[]", "7", r#"{"audio_tokens":null}"#, r#"{"audio_tokens":-3}"#] {
            let text = format!(r#"{{"audio_tokens":63,"cached_tokens":64,"cached_tokens_details":{odd}}}"#);
            assert_eq!(parts(&text), (64, 63), "{odd}");
        }
        assert_eq!(
            parts(r#"{"audio_tokens":3,"cached_tokens":4,"cached_tokens_details":{"audio_tokens":900}}"#),
            (4, 0)
        );
        assert_eq!(parts(r#"{"audio_tokens":900,"cached_tokens":800}"#), (132, 0));
    }

    #[test]
    fn a_part_is_no_larger_than_the_whole() {
        let text = r#"{"prompt_tokens":5,"prompt_tokens_details":{"cached_tokens":3,"audio_tokens":4},
            "completion_tokens":6,"completion_tokens_details":{"reasoning_tokens":9,"audio_tokens":1}}"#;
        let usage = read_text(text).unwrap();
        assert_eq!((usage.cached_input_tokens, usage.audio_input_tokens), (3, 2));
        assert_eq!((usage.reasoning_tokens, usage.audio_output_tokens), (6, 0));
    }

    #[test]
    fn the_responses_api_has_names_of_its_own() {
        let text = r#"{"input_tokens":33,"input_tokens_details":{"cached_tokens":12},"output_tokens":39,
            "output_tokens_details":{"reasoning_tokens":7},"total_tokens":72}"#;
        let expected = Usage {
            input_tokens: 33,
            cached_input_tokens: 12,
            output_tokens: 39,
            reasoning_tokens: 7,
            ..Usage::default()
        };
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
