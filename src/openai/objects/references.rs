//! Which objects a body refers to, wherever in it they are named.
//!
//! A name counts under any of the members that name objects, at any depth, however often it stands there and however its
//! case is: what is named must be the caller's own, so a request that says one thing to us and another to the upstream must
//! gain nothing by it. Only what is the client's own text is passed over: metadata, attributes, the schemas of functions.

use std::fmt;
use std::ops::Range;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{Kind, Named};
use crate::domain::demand::Operation;
use crate::openai::json;
use crate::openai::kept::{self, Referred};

/// More are not read: no call takes so many.
const MOST: usize = 2_000;

/// A body that cannot be read, or that names too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    Invalid,
    TooMany,
}

/// The objects that are named in a JSON body; each once.
pub fn read(body: &[u8]) -> Result<Vec<Named>, Unreadable> {
    let mut found = Vec::new();
    let mut reader = serde_json::Deserializer::from_slice(body);
    let walk = Walk { found: &mut found, under: None };
    walk.deserialize(&mut reader).and_then(|()| reader.end()).map_err(|_| Unreadable::Invalid)?;
    if found.len() > MOST { Err(Unreadable::TooMany) } else { Ok(found) }
}

/// In which kind of request for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    Response,
    Chat,
}

impl Where {
    pub fn of(operation: Operation) -> Option<Self> {
        match operation {
            Operation::Responses | Operation::Compact => Some(Self::Response),
            Operation::ChatCompletions => Some(Self::Chat),
            Operation::Completions
            | Operation::Embeddings
            | Operation::Transcriptions
            | Operation::Translations
            | Operation::ImageEdits
            | Operation::Speech
            | Operation::ImageGenerations
            | Operation::Moderations
            | Operation::Object(_)
            | Operation::Realtime
            | Operation::RealtimeResponse
            | Operation::RealtimeTranscription => None,
        }
    }

    /// The objects that a request names for its answer: in the tools of a response, and as files of what is said. What
    /// it repeats of earlier answers (citations, calls of tools) names nothing.
    pub fn named_in(self, body: &[u8]) -> Result<Vec<Named>, Unreadable> {
        let mut found = Vec::new();
        let members = json::members(body).map_err(|_| Unreadable::Invalid)?;
        for member in &members {
            match (self, &*json::key_text(body, member)) {
                (Self::Response, "tools") => found.extend(read(&body[member.value.clone()])?),
                (Self::Response, "input") | (Self::Chat, "messages") => {
                    for item in json::elements_at(body, &member.value) {
                        let parts = json::members_at(body, &item)
                            .into_iter()
                            .filter(|part| matches!(&*json::key_text(body, part), "content" | "output"));
                        for part in parts.flat_map(|part| json::elements_at(body, &part.value)) {
                            found.extend(self.file_of(body, &part)?);
                        }
                    }
                }
                (Self::Response | Self::Chat, _) => {}
            }
        }
        Ok(found)
    }

    fn file_of(self, body: &[u8], part: &Range<usize>) -> Result<Vec<Named>, Unreadable> {
        let kinds: &[&str] = match self {
            Self::Response => &["input_file", "input_image"],
            Self::Chat => &["file", "input_file", "image_file", "image_url", "input_image"],
        };
        let members = json::members_at(body, part);
        let is_file = members.iter().any(|member| {
            json::key_text(body, member) == "type"
                && json::string_at(body, &member.value).is_some_and(|kind| kinds.contains(&&*kind))
        });
        if is_file { read(&body[part.clone()]) } else { Ok(Vec::new()) }
    }
}

/// What the items of a conversation refer to: an item that is named is copied into it, so it must be the caller's own.
pub fn of_items(body: &[u8]) -> Referred {
    let mut found = Referred::default();
    for member in json::members(body).unwrap_or_default() {
        if json::key_text(body, &member) == "items" {
            let Referred { items, seal } = kept::referred(body, &member.value);
            found.items.extend(items);
            found.seal = seal.or(found.seal);
        }
    }
    found
}

/// What is named under a member of that name.
enum Under {
    Objects(Kind),
    /// The client's own text.
    Text,
    Other,
}

/// The members that name objects.
const NAMES: [(&str, Kind); 11] = [
    ("file_id", Kind::File),
    ("file_ids", Kind::File),
    ("input_file_id", Kind::File),
    ("training_file", Kind::File),
    ("validation_file", Kind::File),
    ("assistant_id", Kind::Assistant),
    ("thread_id", Kind::Thread),
    ("vector_store_id", Kind::VectorStore),
    ("vector_store_ids", Kind::VectorStore),
    ("container", Kind::Container),
    ("container_id", Kind::Container),
];
/// Those that hold the client's own text.
const TEXTS: [&str; 5] = ["metadata", "attributes", "parameters", "schema", "filters"];

fn under(key: &str) -> Under {
    match NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)) {
        Some((_, kind)) => Under::Objects(*kind),
        None if TEXTS.iter().any(|name| name.eq_ignore_ascii_case(key)) => Under::Text,
        None => Under::Other,
    }
}

/// Whether a member of this name, escapes not decoded, may name objects. Most requests have none, and are not read for them.
pub fn may_be_name(key: &[u8]) -> bool {
    key.contains(&b'\\') || NAMES.iter().any(|(name, _)| name.as_bytes().eq_ignore_ascii_case(key))
}

struct Walk<'a> {
    found: &'a mut Vec<Named>,
    under: Option<Kind>,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        // An empty text names nothing, and clients send it for none.
        if let Some(kind) = self.under.filter(|_| !text.is_empty() && self.found.len() <= MOST)
            && !self.found.iter().any(|named| named.kind == kind && named.id == text)
        {
            self.found.push(Named { kind, id: text.to_owned() });
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Self { found, under } = self;
        while items.next_element_seed(Walk { found: &mut *found, under })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some(key) = members.next_key::<String>()? {
            match under(&key) {
                Under::Objects(kind) => members.next_value_seed(Walk { found: &mut *self.found, under: Some(kind) })?,
                Under::Other => members.next_value_seed(Walk { found: &mut *self.found, under: None })?,
                Under::Text => drop(members.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::openai::request;

    fn ids(body: &str) -> Vec<(Kind, String)> {
        read(body.as_bytes()).unwrap().into_iter().map(|named| (named.kind, named.id)).collect()
    }

    #[test]
    fn names_are_found_at_any_depth_and_however_they_are_spelt() {
        for body in [
            r#"{"input_file_id":"a"}"#,
            r#"{"file_ids":["a","a"]}"#,
            r#"{"messages":[{"content":[{"type":"image_file","image_file":{"file_id":"a"}}]}]}"#,
            r#"{"tool_resources":{"code_interpreter":{"file_ids":["a"]}}}"#,
            r#"{"training_file":"a","validation_file":""}"#,
            r#"{"FILE_ID":"a"}"#,
            r#"{"file\u005fid":"\u0061"}"#,
            r#"{"attachments":[{"file_id":"a","tools":[]}],"n":[1,2.5,null,true,-1]}"#,
        ] {
            assert_eq!(ids(body), [(Kind::File, "a".to_owned())], "{body}");
        }
        let twice = ids(r#"{"assistant_id":"a","assistant_id":"b","thread":{"tool_resources":{"file_search":
            {"vector_store_ids":["v"]}}}}"#);
        let expected = [(Kind::Assistant, "a"), (Kind::Assistant, "b"), (Kind::VectorStore, "v")];
        assert_eq!(twice, expected.map(|(kind, id)| (kind, id.to_owned())), "both count");
    }

    #[test]
    fn a_response_names_objects_in_tools_and_files_and_repeats_the_rest() {
        let body = r#"{"model":"m","input":[{"role":"user","content":[{"type":"input_file","file_id":"a"}]},
            {"type":"message","role":"assistant","content":[{"type":"output_text","annotations":[{"file_id":"x"}]}]},
            {"type":"code_interpreter_call","container_id":"x","outputs":[{"file_id":"x"}]}],
            "tools":[{"type":"file_search","vector_store_ids":["v"]},
            {"type":"code_interpreter","container":{"type":"auto","file_ids":["b"]}}]}"#;
        let ids: Vec<_> =
            Where::Response.named_in(body.as_bytes()).unwrap().into_iter().map(|named| named.id).collect();
        assert_eq!(ids, ["a", "v", "b"]);
        assert!(request::peek_response(body.as_bytes()).unwrap().may_name_objects);
        assert_eq!(Where::Response.named_in(br#"{"input":"file_id"}"#), Ok(vec![]));
    }

    #[test]
    fn a_chat_names_files_in_the_parts_of_its_messages() {
        let body = r#"{"model":"m","messages":[{"role":"system","content":"file_id"},{"role":"user","content":[
            {"type":"text","text":"{\"file_id\":\"x\"}"},{"type":"file","file":{"file_id":"a"}},
            {"type":"file","file":{"filename":"f","file_data":"data:"}},{"type":"image_url","image_url":{"file_id":"b"}},
            {"type":"input_file","file\u005fid":"c"}]}],"tools":[{"function":{"parameters":{"file_id":"x"}}}],
            "metadata":{"file_id":"x"}}"#;
        let ids: Vec<_> = Where::Chat.named_in(body.as_bytes()).unwrap().into_iter().map(|named| named.id).collect();
        assert_eq!(ids, ["a", "b", "c"]);
        for (content, expected) in [
            (r#"[{"type":"file","file":{"file_id":"a"}}]"#, true),
            (r#"[{"type":"file","file":{"FILE_IDS":["a"]}}]"#, true),
            (r#"[{"f\u0069le_id":"a"}]"#, true),
            (r#""file_id""#, false),
            (r#"[{"type":"text","text":"{\"file_id\":\"x\"} caf\u00e9"}]"#, false),
        ] {
            let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":{content}}}]}}"#);
            assert_eq!(request::peek(body.as_bytes()).unwrap().may_name_objects, expected, "{body}");
        }
    }

    #[test]
    fn items_of_a_conversation_name_others_in_whichever_of_its_members() {
        let body = br#"{"items":[{"type":"item_reference","id":"a"},{"role":"user","content":"x"}],
            "\u0069tems":[{"id":"b"}],"metadata":{"items":[{"id":"c"}]}}"#;
        assert_eq!(of_items(body).items, ["a", "b"]);
        assert_eq!(of_items(b"[]"), Referred::default());
    }

    #[test]
    fn the_clients_own_text_names_nothing() {
        for body in [
            r#"{"metadata":{"file_id":"a"}}"#,
            r#"{"tools":[{"function":{"parameters":{"properties":{"file_id":{"type":"string"}},"default":{"file_id":"a"}}}}]}"#,
            r#"{"content":"file_id: a","file_id":null,"container":{"type":"auto"}}"#,
        ] {
            assert_eq!(ids(body), [], "{body}");
        }
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for body in ["", "{", "{}x", &"[".repeat(100_000), "\u{0}"] {
            assert_eq!(read(body.as_bytes()), Err(Unreadable::Invalid));
        }
        let many: Vec<_> = (0..=MOST).map(|n| format!("\"{n}\"")).collect();
        assert_eq!(read(format!("{{\"file_ids\":[{}]}}", many.join(",")).as_bytes()), Err(Unreadable::TooMany));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..60), text in r#"[\[\]{}",:a-c]{0,40}"#) {
            read(&bytes).ok();
            read(format!("{{\"file_ids\":{text}}}").as_bytes()).ok();
        }
    }
}
