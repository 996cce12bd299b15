//! What requests with the same beginning have in common, in a few bytes.
//!
//! Azure caches the beginnings of prompts. Which requests share one is told by the client (`prompt_cache_key`, or whose
//! request it is) or by the first kilobyte; which of these belong to one conversation, by its first two messages, which
//! later turns repeat as they are. It does not decide what follows from it (`balance::affinity`).
//!
//! Checksums are enough: two prompts that are taken for one only meet at the same deployment.

use std::ops::Range;

/// Shorter prompts are never cached.
pub const LEAST_TOKENS: u32 = 1024;
const FIRST_BYTES: usize = 1024;
const BRANCH_BYTES: usize = 512;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// Of the name that the client gave to what is common.
    pub named: Option<u32>,
    /// Of the first kilobyte, as far as it belongs to the first two messages.
    pub first: u32,
    /// Of the second message's beginning, or of what follows the first kilobyte of a prompt that is one text.
    pub second: u32,
}

/// `names` are the values of members that may name the cache, the first that does counts; `elements` is where the first
/// two messages end, if there are more.
pub(super) fn of(
    body: &[u8],
    names: &[Option<Range<usize>>],
    prompt: Option<Range<usize>>,
    elements: [usize; 2],
) -> Option<Prefix> {
    let prompt = prompt?;
    let checksum = |from: usize, to: usize, most: usize| {
        // Later turns have a comma where the array ends now.
        let text = body.get(from..to).unwrap_or_default().trim_ascii_end();
        crc32fast::hash(&text[..text.len().min(most)])
    };
    let is_name = |span: &&Range<usize>| span.len() > 2 && body.get(span.start) == Some(&b'"');
    let named = names.iter().flatten().find(is_name).map(|span| crc32fast::hash(&body[span.clone()]));
    let last = if body.get(prompt.end - 1) == Some(&b']') { prompt.end - 1 } else { prompt.end };
    let (second, end) = match elements {
        [0, _] => (prompt.start + FIRST_BYTES, last),
        [first, 0] => (first, last),
        [first, second] => (first, second),
    };
    let first = checksum(prompt.start, end, FIRST_BYTES);
    Some(Prefix { named, first, second: checksum(second, end, BRANCH_BYTES) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openai::request::peek;

    fn prefix(body: &str) -> Option<Prefix> {
        peek(body.as_bytes()).unwrap().prefix
    }

    /// A chat of these contents; the first is the system's.
    fn chat(contents: &[&str], more: &str) -> String {
        let message = |(index, content): (usize, &&str)| {
            let role = if index == 0 { "system" } else { ["assistant", "user"][index % 2] };
            format!(r#"{{"role":"{role}","content":"{content}"}}"#)
        };
        let messages: Vec<_> = contents.iter().enumerate().map(message).collect();
        format!(r#"{{"model":"m","messages":[{}]{more}}}"#, messages.join(" , "))
    }

    #[test]
    fn a_conversation_keeps_its_beginning_while_it_grows() {
        let (rules, question) = ("x".repeat(4_000), "What is it? ".repeat(20));
        let turns = [
            prefix(&chat(&[&rules, &question], "")),
            prefix(&chat(&[&rules, &question, "This.", "And that?"], r#","stream":true,"stop":["a","b","c"]"#)),
            prefix(&chat(&[&rules, &question, "This.", "And that?", "Too.", "Thanks."], "")),
        ];
        assert!(turns[0].is_some() && turns.iter().all(|turn| *turn == turns[0]), "{turns:?}");
        let other = prefix(&chat(&[&rules, "Another question?"], "")).unwrap();
        assert_eq!(other.first, turns[0].unwrap().first, "the same rules");
        assert_ne!(other.second, turns[0].unwrap().second);
        let shorter = prefix(&chat(&["Be brief.", &question.repeat(20)], "")).unwrap();
        assert_ne!(shorter.first, other.first, "a short first message is not all that counts");
    }

    #[test]
    fn what_the_client_calls_it_counts_in_order() {
        let long = "x".repeat(5_000);
        let named = |more: &str| prefix(&chat(&[&long, "hi"], more)).unwrap().named;
        let key = named(r#","prompt_cache_key":"k""#);
        assert!(key.is_some());
        assert_eq!(named(r#","user":"u","prompt_cache_key":"k","safety_identifier":"s""#), key);
        assert_eq!(named(r#","user":"u","safety_identifier":"k""#), key, "the text is what counts");
        assert_ne!(named(r#","user":"u""#), key);
        for nothing in ["", r#","user":null"#, r#","user":"""#, r#","prompt_cache_key":7"#] {
            assert_eq!(named(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn short_prompts_have_none_and_texts_have_both_parts() {
        assert_eq!(prefix(&chat(&["hi", "ho"], r#","prompt_cache_key":"k""#)), None);
        assert_eq!(prefix(&format!(r#"{{"x":"{}"}}"#, "x".repeat(5_000))), None, "no prompt at all");
        let text =
            |middle: &str| prefix(&format!(r#"{{"prompt":"{}{middle}{}"}}"#, "x".repeat(1_100), "z".repeat(4_000)));
        let (one, other) = (text("a").unwrap(), text("b").unwrap());
        assert!(one.first == other.first && one.second != other.second);
    }
}
