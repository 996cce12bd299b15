//! The models that are named in answers about assistants and runs: there, upstreams name their deployments.
//!
//! An answer may be one object, or a list of such; what an object holds of others is not looked into.

use bytes::Bytes;

use super::super::edits::{Edit, Edits};
use super::super::sse::{self, Data};
use crate::openai::json;

/// What goes to the client for a whole answer; `renamed` gives the other name of one, in JSON.
pub fn whole(body: Bytes, renamed: impl Fn(&str) -> Option<Bytes>) -> Bytes {
    let edits = edits(&body, 0, &renamed);
    if edits.is_empty() { body } else { edits.made(&body) }
}

/// The same for one event of a run.
pub fn event(event: Bytes, renamed: impl Fn(&str) -> Option<Bytes>) -> Bytes {
    // An event of several lines is nobody's who names models.
    let Some(Data::Line(span)) = sse::data(&event) else { return event };
    let edits = edits(&event[span.clone()], span.start, &renamed);
    if edits.is_empty() { event } else { edits.made(&event) }
}

/// `offset`: where the text stands in what is edited.
fn edits(text: &[u8], offset: usize, renamed: &impl Fn(&str) -> Option<Bytes>) -> Edits<'static> {
    let mut edits = Edits::default();
    let mut look = |members: &[json::Member]| {
        let named = members.iter().filter(|member| &text[member.key.clone()] == b"model");
        for member in named {
            let with = json::string_at(text, &member.value).and_then(|model| renamed(&model));
            if let Some(with) = with {
                let span = offset + member.value.start..offset + member.value.end;
                edits.push(Edit { span, with: with.to_vec().into() });
            }
        }
    };
    let Ok(members) = json::members(text) else { return edits };
    look(&members);
    let list = members.iter().find(|member| &text[member.key.clone()] == b"data");
    for object in list.map(|list| json::elements_at(text, &list.value)).unwrap_or_default() {
        look(&json::members_at(text, &object));
    }
    edits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn renamed(name: &str) -> Option<Bytes> {
        (name == "dep").then(|| Bytes::from_static(b"\"gpt-4o\""))
    }

    #[test]
    fn objects_and_lists_of_them_are_renamed_and_what_is_in_them_is_not() {
        for (text, expected) in [
            (
                r#"{"id":"a","model":"dep","metadata":{"model":"dep"}}"#,
                r#"{"id":"a","model":"gpt-4o","metadata":{"model":"dep"}}"#,
            ),
            (
                r#"{"data":[{"model":"dep"},{"model":"other"},{"model":"dep"}]}"#,
                r#"{"data":[{"model":"gpt-4o"},{"model":"other"},{"model":"gpt-4o"}]}"#,
            ),
            (r#"{"model":null,"data":"dep"}"#, r#"{"model":null,"data":"dep"}"#),
            ("no JSON", "no JSON"),
        ] {
            assert_eq!(whole(Bytes::from(text), renamed), expected);
        }
        let said = "event: thread.run.created\ndata: {\"id\":\"run\",\"model\":\"dep\"}\n\n";
        assert_eq!(event(Bytes::from(said), renamed), said.replace("dep", "gpt-4o"));
        assert_eq!(event(Bytes::from("data: [DONE]\n\n"), renamed), "data: [DONE]\n\n");
    }
}
