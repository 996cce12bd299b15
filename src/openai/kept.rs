//! What the Responses API leaves behind at the upstream, and what refers to it later.
//!
//! An upstream keeps a response and the items of its output under ids, unless it was asked not to. And there is what it
//! hands out for the client to keep: the encrypted reasoning of an item, which it alone can read. That has no id of its
//! own, so it is known here by its hash.
//! Source: <https://platform.openai.com/docs/guides/reasoning>, "Encrypted reasoning items"

use std::ops::Range;

use memchr::memmem;
use sha2::{Digest, Sha256};

use super::json;

/// Whether a text can be the id of a response or of an item: for nothing else is it filed where it is kept.
pub fn is_id(text: &str) -> bool {
    const LONGEST: usize = 128;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    (1..=LONGEST).contains(&text.len()) && text.bytes().all(fits)
}

/// What an answer leaves behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Made {
    /// Of the response.
    pub id: Option<String>,
    /// Of the items of its output: a later request may name them instead of repeating them.
    pub items: Vec<String>,
    /// Of the encrypted texts in them.
    pub seals: Vec<String>,
}

/// More items than this are not noted: no answer on record has a tenth of it.
const MOST_ITEMS: usize = 1_000;

impl Made {
    /// Notes the item of an output at `span`.
    pub(super) fn add(&mut self, text: &[u8], span: &Range<usize>) {
        if self.items.len() + self.seals.len() >= MOST_ITEMS {
            return;
        }
        for member in json::members_at(text, span) {
            match &text[member.key.clone()] {
                b"id" => self.items.extend(json::string_at(text, &member.value).map(|id| id.into_owned())),
                b"encrypted_content" => self.seals.extend(seal_at(text, &member.value)),
                _ => {}
            }
        }
    }
}

/// What an `input` refers to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Referred {
    /// Items that it names instead of repeating them.
    pub items: Vec<String>,
    /// Of the last encrypted text in it. A conversation's are all read by the same upstream.
    pub seal: Option<String>,
}

/// Reads the `input` at `span`. In doubt an element counts as the name of an item: what is named must be the caller's own,
/// however the name is spelt.
pub fn referred(body: &[u8], span: &Range<usize>) -> Referred {
    let mut found = Referred::default();
    for element in json::elements_at(body, span) {
        let members = json::members_at(body, &element);
        let (mut names, mut typed, mut repeats) = (false, false, false);
        for member in &members {
            match &*json::key_text(body, member) {
                "type" if body.get(member.value.clone()) != Some(b"null") => {
                    typed = true;
                    names |= json::string_at(body, &member.value).as_deref() == Some("item_reference");
                }
                "content" => repeats = true,
                "encrypted_content" => found.seal = seal_at(body, &member.value).or(found.seal),
                _ => {}
            }
        }
        // Without a type, it is a message or a name.
        if names || (!typed && !repeats) {
            let ids = members.iter().filter(|member| json::key_text(body, member) == "id");
            found.items.extend(ids.filter_map(|id| json::string_at(body, &id.value)).map(|id| id.into_owned()));
        }
    }
    found
}

fn seal_at(text: &[u8], span: &Range<usize>) -> Option<String> {
    let sealed = json::string_at(text, span).filter(|sealed| !sealed.is_empty())?;
    let hash = Sha256::digest(sealed.as_bytes());
    Some(format!("seal_{}", hex::encode(&hash[..20])))
}

/// The id of a response that is too large to be read whole, from its beginning.
pub fn id_in_head(head: &[u8]) -> Option<String> {
    const NAME: &[u8] = b"\"id\"";
    let head = &head[..head.len().min(64 << 10)];
    memmem::find_iter(head, NAME).find_map(|at| {
        let colon = json::skip_space(head, at + NAME.len());
        let value = json::skip_space(head, colon + 1);
        let end = json::skip_string(head, value).ok()?;
        let id = json::string_at(head, &(value..end))?;
        id.starts_with("resp_").then(|| id.into_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_texts_are_ids() {
        assert!(is_id("resp_05500b38c2cd9bfc") && is_id("a-b"));
        for wrong in ["", "resp/1", "..", "a b", "résp", &"a".repeat(129)] {
            assert!(!is_id(wrong), "{wrong}");
        }
    }

    #[test]
    fn names_of_items_are_found_however_they_are_spelt() {
        let named = |input: &str| referred(input.as_bytes(), &(0..input.len())).items;
        for one in [
            r#"[{"type":"message","role":"user","content":"a"},{"type":"item_reference","id":"rs_1"}]"#,
            r#"[{"id":"rs_1"}]"#,
            r#"[{"id":"rs_1","type":null}]"#,
            r#"[{"type":"item\u005freference","\u0069d":"rs_1"}]"#,
            r#"[{"type":"message","type":"item_reference","id":"rs_1","content":"a"}]"#,
        ] {
            assert_eq!(named(one), ["rs_1"], "{one}");
        }
        let repeated = r#"[{"type":"message","id":"msg_1","content":"a"},{"role":"user","content":"a","id":"msg_2"},
            {"type":"function_call_output","call_id":"c","output":"o"}]"#;
        for none in [repeated, r#""text""#, "[]", "[1,null]"] {
            assert!(named(none).is_empty(), "{none}");
        }
        assert_eq!(named(r#"[{"type":"item_reference","id":"a"},{"type":"item_reference","id":"b"}]"#), ["a", "b"]);
    }

    #[test]
    fn a_large_answers_id_is_at_its_beginning() {
        let head = br#"{ "id" : "resp_9", "output":[{"id":"ig_1","result":"iVBOR"#;
        assert_eq!(id_in_head(head).as_deref(), Some("resp_9"));
        let later = br#"{"tools":[{"id":"t"}],"id":"resp_9""#;
        assert_eq!(id_in_head(later).as_deref(), Some("resp_9"));
        assert_eq!(id_in_head(br#"{"id":"resp_"#), None);
    }

    #[test]
    fn what_was_sealed_is_known_again_however_it_is_spelt() {
        let mut made = Made::default();
        let item = br#"{"id":"rs_1","type":"reasoning","encrypted_content":"gAAA/b="}"#;
        made.add(item, &(0..item.len()));
        assert_eq!((made.items.as_slice(), made.seals.len()), (&["rs_1".to_owned()][..], 1));
        let sealed = |input: &str| referred(input.as_bytes(), &(0..input.len()));
        let again = sealed(
            r#"[{"type":"reasoning","encrypted_content":"gAAA\/b=","summary":[]},{"role":"user","content":"a"}]"#,
        );
        assert_eq!((again.seal.as_ref(), again.items.len()), (made.seals.first(), 0));
        assert!(is_id(&made.seals[0]));
        let later = sealed(
            r#"[{"type":"reasoning","encrypted_content":"gAAA/b="},{"type":"reasoning","encrypted_content":"other"}]"#,
        );
        assert!(later.seal.is_some() && later.seal != again.seal, "the last one counts");
        for none in
            [r#"[{"type":"reasoning","encrypted_content":null}]"#, r#"[{"type":"reasoning","encrypted_content":""}]"#]
        {
            assert_eq!(sealed(none).seal, None);
        }
    }
}
