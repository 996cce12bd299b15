//! What a connection remembers of its latest response, so that the next can go on from it although nothing was stored.
//!
//! It is the conversation since the last stored response, item by item, and is sent again with the next turn: whichever
//! resource is asked then needs to know nothing. Reasoning that came unencrypted nobody can read again; it is left out,
//! and with it the ids of what came beside it, which would name it.

use bytes::Bytes;

use super::events::{Last, last};
use super::{Place, Remembers, Turn, joined};
use crate::openai::json;

/// Longer conversations are not remembered. A million tokens of prose are half of it.
const MOST_BYTES: usize = 8 << 20;

/// What is known of the latest response that is not stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    pub(super) id: String,
    /// The stored response that it went on from.
    pub(super) base: Option<String>,
    /// What was said since: the inside of an array.
    pub(super) items: Bytes,
}

impl Memory {
    /// After an answer that ended with this event; none where the upstream remembers it, or nobody can.
    pub fn of_answer(turn: &Turn, event: &Bytes) -> Option<Self> {
        let response = response_at(event)?;
        let members = json::members_at(event, &response);
        let value = |name: &[u8]| members.iter().find(|member| &event[member.key.clone()] == name);
        let id = json::string_at(event, &value(b"id")?.value)?.into_owned();
        let output = value(b"output").map_or_else(Vec::new, |output| json::elements_at(event, &output.value));
        Self::after(turn, id, &again(event, &output))
    }

    /// After a turn that only tells what later ones begin with.
    pub fn of_beginning(turn: &Turn, id: &str) -> Option<Self> {
        Self::after(turn, id.to_owned(), &Bytes::new())
    }

    fn after(turn: &Turn, id: String, output: &Bytes) -> Option<Self> {
        let thread = &turn.thread;
        let fits = thread.items.len() + output.len() < MOST_BYTES;
        (thread.remembers == Remembers::Yes && fits).then(|| Self {
            id,
            base: thread.base.clone(),
            items: joined(&thread.items, output),
        })
    }
}

/// Where the response stands in the event that ends it, if it has an end to go on from.
fn response_at(event: &[u8]) -> Option<std::ops::Range<usize>> {
    let members = json::members(event).ok().filter(|_| last(event) == Last::Done)?;
    let response = members.iter().find(|member| &event[member.key.clone()] == b"response")?;
    Some(response.value.clone())
}

/// The items of an output as those of an input.
fn again(text: &Bytes, output: &[std::ops::Range<usize>]) -> Bytes {
    let items: Vec<_> = output.iter().map(|item| Item::at(text, item.clone())).collect();
    let has_lost = items.iter().any(|item| item.reasons == Reasons::Unreadably);
    let kept = items.iter().filter(|item| item.reasons != Reasons::Unreadably);
    let pieces: Vec<Vec<u8>> = kept.map(|item| if has_lost { item.unnamed(text) } else { item.whole(text) }).collect();
    pieces.join(&b","[..]).into()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reasons {
    No,
    Sealed,
    /// Its text stayed at the resource that made it, which has not stored it.
    Unreadably,
}

struct Item {
    span: std::ops::Range<usize>,
    reasons: Reasons,
    /// What can do without one.
    id: Option<Place>,
}

impl Item {
    fn at(text: &[u8], span: std::ops::Range<usize>) -> Self {
        let members = json::members_at(text, &span);
        let string = |name: &[u8]| {
            let found = members.iter().find(|member| &text[member.key.clone()] == name);
            found.and_then(|member| json::string_at(text, &member.value))
        };
        let kind = string(b"type").unwrap_or_default();
        let reasons = match (&*kind, string(b"encrypted_content").is_some_and(|sealed| !sealed.is_empty())) {
            ("reasoning", false) => Reasons::Unreadably,
            ("reasoning", true) => Reasons::Sealed,
            (_, _) => Reasons::No,
        };
        let needs_none = matches!(&*kind, "message" | "function_call" | "custom_tool_call");
        let at = members.iter().position(|member| needs_none && &text[member.key.clone()] == b"id");
        let after = |at: usize| at.checked_sub(1).map_or(span.start + 1, |before| members[before].value.end);
        let id = at.map(|at| Place::of(members[at].clone(), at, after(at)));
        Self { span, reasons, id }
    }

    fn whole(&self, text: &[u8]) -> Vec<u8> {
        text[self.span.clone()].to_vec()
    }

    fn unnamed(&self, text: &[u8]) -> Vec<u8> {
        let Some(id) = &self.id else { return self.whole(text) };
        let cut = id.span(text, 0);
        [&text[self.span.start..cut.start], &text[cut.end..self.span.end]].concat()
    }
}
