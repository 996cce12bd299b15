//! How many tokens a prompt can have at most: what is taken of a caller's limits before the truth is known.
//!
//! First by its bytes alone, which costs next to nothing and is often twice the truth; only where that does not fit is the
//! prompt looked at. Neither is ever billed.

use serde_json::Value;

use super::tokens;

/// What an image counts for: a large one in the detail that models look at unless they are told otherwise.
const IMAGE: u32 = 1_500;
/// Characters of encoded sound, and of an encoded document, that are one token at most.
const SOUND_PER_TOKEN: usize = 1_000;
const FILE_PER_TOKEN: usize = 8;
/// Shorter requests are counted by their bytes, whatever they hold: that takes too little of a limit to matter.
const MAY_HOLD_FILES: usize = 16 * 1024;
/// A text as long as this in a part that is no text is a file's.
const LONG: usize = 256;

/// What the service may add to a prompt that counts: some words of its own, and one part in so many.
const MARGIN: u32 = 8;
const MARGIN_PART: u32 = 16;

/// What is known of a prompt's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    pub most: u32,
    /// Of an estimate: the truth is hardly below.
    pub least: u32,
}

/// By its bytes; none where it holds encoded files, of which bytes say nothing.
pub fn by_bytes(body: &[u8], holds_files: bool) -> Option<u32> {
    if holds_files && body.len() >= MAY_HOLD_FILES {
        return None;
    }
    let wide = if body.is_ascii() { 0 } else { wide_bytes(body) };
    // Two letters to a token are fewer than any language that is written with them has.
    Some(clip((body.len() - wide).div_ceil(2) + wide))
}

/// Bytes that are not ASCII: block by block, each counted in one byte, which the compiler turns into wide instructions.
fn wide_bytes(text: &[u8]) -> usize {
    let in_block = |block: &[u8]| block.iter().fold(0_u8, |count, byte| count.wrapping_add(byte >> 7));
    text.chunks(usize::from(u8::MAX)).map(|block| usize::from(in_block(block))).sum()
}

/// Whether a member of this name, whose value is the inside of this string, is an encoded picture, sound or document: one
/// in a `data:` URL (RFC 2397), or one of those that the API has a name for. Escapes are not decoded: who hides a file is
/// counted by its bytes.
pub fn is_file(name: &[u8], value: &[u8]) -> bool {
    let is_url = || value.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"data:"));
    value.len() >= LONG && (matches!(name, b"data" | b"file_data") || is_url())
}

/// By its contents: the vocabulary's count beside a rule of thumb. Takes long for long texts: off the workers' threads.
pub fn by_contents(model: &str, body: &[u8]) -> Bound {
    let Ok(Value::Object(members)) = serde_json::from_slice(body) else {
        let rough = tokens::rough_input(body);
        return Bound { most: rough, least: rough };
    };
    let mut count = Count { model, exact: 3, rough: 3 };
    for (name, value) in &members {
        match name.as_str() {
            "messages" | "input" => match value.as_array() {
                Some(messages) if messages.iter().all(Value::is_object) => messages.iter().for_each(|message| {
                    count.add(3, 4);
                    count.value(message, None);
                }),
                Some(_) | None => count.value(value, None),
            },
            "prompt" | "instructions" => count.value(value, None),
            "tools" | "functions" | "response_format" | "text" => count.text(&value.to_string()),
            _ => {}
        }
    }
    let most = count.exact.max(count.rough);
    Bound { most: most.saturating_add(most / MARGIN_PART + MARGIN), least: count.exact.min(count.rough) / 4 * 3 }
}

struct Count<'a> {
    model: &'a str,
    /// By the model's vocabulary.
    exact: u32,
    /// Four characters to a token.
    rough: u32,
}

impl Count<'_> {
    fn add(&mut self, exact: u32, rough: u32) {
        self.exact = self.exact.saturating_add(exact);
        self.rough = self.rough.saturating_add(rough);
    }

    fn both(&mut self, tokens: u32) {
        self.add(tokens, tokens);
    }

    fn text(&mut self, text: &str) {
        self.add(tokens::count(self.model, text), clip(text.chars().count().div_ceil(4)));
    }

    /// `name`: the member that it is the value of.
    fn value(&mut self, value: &Value, name: Option<&str>) {
        match value {
            Value::String(text) => match name {
                Some("image_url" | "url") => self.both(IMAGE),
                Some("data") if text.len() >= LONG => self.both(clip(text.len().div_ceil(SOUND_PER_TOKEN))),
                Some("file_data" | "encrypted_content") => self.both(clip(text.len().div_ceil(FILE_PER_TOKEN))),
                Some("role") => self.add(1, 0),
                // Names of parts, ids and settings are no prompt.
                Some("type" | "detail" | "format" | "id" | "file_id" | "status" | "image_id") => {}
                Some(_) | None => self.text(text),
            },
            Value::Array(items) if !items.is_empty() && items.iter().all(Value::is_number) => {
                self.both(clip(items.len()));
            }
            Value::Array(items) => items.iter().for_each(|item| self.value(item, name)),
            Value::Object(members) => members.iter().for_each(|(name, value)| self.value(value, Some(name))),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

fn clip(tokens: usize) -> u32 {
    u32::try_from(tokens).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openai::request;
    use serde_json::json;

    fn chat(content: Value) -> Vec<u8> {
        json!({ "model": "gpt-4o-mini", "messages": [{ "role": "user", "content": content }] }).to_string().into_bytes()
    }

    fn bytes(content: Value) -> Option<u32> {
        let body = chat(content);
        by_bytes(&body, request::peek(&body).unwrap().holds_files)
    }

    fn contents(content: Value) -> Bound {
        by_contents("gpt-4o-mini", &chat(content))
    }

    #[test]
    fn bytes_are_above_contents_and_contents_above_the_truth() {
        let prose = "The quick brown fox jumps over the lazy dog, and nobody minds. ".repeat(20);
        let chinese = "\u{6211}\u{4eec}\u{4eca}\u{5929}\u{53bb}\u{54ea}\u{91cc}".repeat(60);
        let code = "fn main() { println!(\"{}\", 0x1f + 42_000); } // ok\n".repeat(30);
        for text in ["hi", prose.as_str(), chinese.as_str(), code.as_str(), "9172635 8172 0091"] {
            let body = chat(json!(text));
            let (bound, truth) = (by_contents("gpt-4o-mini", &body), tokens::count_input("gpt-4o-mini", &body));
            assert!(by_bytes(&body, false).unwrap() >= bound.most, "{text}");
            assert!(bound.least <= truth && truth <= bound.most, "{text}: {truth} {bound:?}");
        }
    }

    #[test]
    fn wide_letters_are_counted_byte_by_byte() {
        for (text, wide) in [("", 0), ("plain", 0), ("na\u{ef}ve", 2)] {
            assert_eq!(wide_bytes(text.as_bytes()), wide, "{text}");
        }
        for length in [254, 255, 256, 511, 1_000] {
            assert_eq!(wide_bytes(&vec![0xff; length]), length);
            assert_eq!(wide_bytes(&[vec![b'x'; length], vec![0x80; 3]].concat()), 3);
        }
    }

    #[test]
    fn encoded_files_are_not_counted_by_their_letters() {
        let data = "A".repeat(400_000);
        let image = json!([{ "type": "image_url", "image_url": { "url": format!("data:image/png;base64,{data}") } }]);
        assert_eq!(bytes(image.clone()), None);
        assert!((1_500..1_700).contains(&contents(image).most));
        let sound = json!([{ "type": "input_audio", "input_audio": { "data": data, "format": "wav" } }]);
        assert_eq!(bytes(sound.clone()), None);
        assert!((400..500).contains(&contents(sound).most));
        let linked = json!([{ "type": "image_url", "image_url": { "url": "https://contoso.com/cat.png" } }]);
        assert!((1_500..1_700).contains(&contents(linked).most));
        let file = json!([{ "type": "file", "file": { "file_data": format!("data:application/pdf;base64,{data}") } }]);
        assert_eq!(bytes(file.clone()), None);
        assert!((50_000..54_000).contains(&contents(file).most));
    }

    #[test]
    fn what_only_speaks_of_files_is_counted_by_its_bytes() {
        let prose = "an image may be written as data:image/png;base64, and what follows ".repeat(300);
        for text in [prose.clone(), format!("{{\"input_audio\": {{\"data\": \"{prose}\"}}}}")] {
            assert!(bytes(json!(text)).is_some());
            assert!(bytes(json!([{ "type": "text", "text": text }])).is_some());
        }
        assert!(bytes(json!([{ "type": "text", "text": prose }, { "data": "short" }])).is_some());
    }

    #[test]
    fn every_operation_has_a_prompt() {
        let count = |body: Value| by_contents("gpt-4o-mini", body.to_string().as_bytes()).most;
        assert!((1_002..1_080).contains(&count(json!({ "input": vec![7; 1_000] }))));
        assert!((2_002..2_150).contains(&count(json!({ "input": [vec![7; 1_000], vec![8; 1_000]] }))));
        assert!(count(json!({ "prompt": "word ".repeat(100) })) >= 100);
        assert!(count(json!({ "instructions": "word ".repeat(100), "input": "hi" })) >= 100);
        assert!(count(json!({ "tools": [{ "name": "word ".repeat(100) }], "messages": [] })) >= 100);
        assert_eq!(by_contents("gpt-4o-mini", b"none of it"), Bound { most: 3, least: 3 });
    }
}
