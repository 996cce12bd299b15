//! The Responses API over WebSocket, as far as it differs from what is posted: what a client's event asks for, and what a
//! connection remembers of its latest answer.
//!
//! `response.create` is the body of a create call with a `type`; what comes of it here is that body, to be posted as a
//! stream. [`Memory`] stands for what a server of this protocol keeps of the latest response of a connection, so that the
//! next one can go on from it although nothing was stored. Knows no connection.
//! Source: <https://learn.microsoft.com/azure/foundry/openai/how-to/websockets>

pub mod events;
mod memory;

use std::ops::Range;

use bytes::Bytes;

pub use memory::Memory;

use super::edits::{Edit, Edits};
use super::json;
use super::request::PeekError;

/// What a client's event asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// As it is posted.
    pub body: Bytes,
    pub output: Output,
    thread: Thread,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    Wanted,
    /// `generate: false`: only what later turns begin with is told.
    Unwanted,
}

/// What a turn goes on from, and what it adds to that.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Thread {
    /// The response before it that is stored.
    base: Option<String>,
    /// The items since: the inside of an array.
    items: Bytes,
    remembers: Remembers,
}

/// Whether the next turn can go on from it by the connection's memory alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Remembers {
    Yes,
    /// The upstream stores it, or a conversation has it.
    No,
}

/// Why an event is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Another type than `response.create`.
    Unknown(String),
    Malformed(PeekError),
    /// A member that has no meaning here.
    Unsupported(&'static str),
}

impl From<PeekError> for Refused {
    fn from(error: PeekError) -> Self {
        Self::Malformed(error)
    }
}

impl From<json::JsonError> for Refused {
    fn from(error: json::JsonError) -> Self {
        Self::Malformed(error.into())
    }
}

/// Reads an event of a client whose connection remembers that. The cost is linear in both.
pub fn read(event: &Bytes, memory: Option<&Memory>) -> Result<Turn, Refused> {
    let found = Found::scan(event)?;
    let value =
        |name: Name| found.place(name).map(|place| &event[place.value.clone()]).filter(|value| *value != b"null");
    let text = |name: Name| {
        let wrong = PeekError::Type { name: name.text(), expected: "a string" };
        let place = found.place(name).filter(|place| &event[place.value.clone()] != b"null");
        place.map(|place| json::string_at(event, &place.value).map(String::from).ok_or(wrong)).transpose()
    };
    match text(Name::Type)? {
        Some(kind) if kind == "response.create" => {}
        kind => return Err(Refused::Unknown(kind.unwrap_or_default())),
    }
    if value(Name::StreamId).is_some() {
        return Err(Refused::Unsupported("stream_id"));
    }
    if value(Name::Background).is_some_and(|value| value != b"false") {
        return Err(Refused::Unsupported("background"));
    }
    let output = if value(Name::Generate) == Some(&b"false"[..]) { Output::Unwanted } else { Output::Wanted };
    let is_stored = value(Name::Store) != Some(&b"false"[..]) && output == Output::Wanted;
    let remembers = match is_stored || value(Name::Conversation).is_some() {
        true => Remembers::No,
        false => Remembers::Yes,
    };
    let previous = text(Name::Previous)?;
    let memory = memory.filter(|memory| Some(&memory.id) == previous.as_ref());
    let own = found.place(Name::Input).map_or(Ok(Bytes::new()), |place| items(event, &place.value, memory))?;
    let Some(memory) = memory else {
        let body =
            found.body(event, &[Name::Type, Name::Stream, Name::Generate], Bytes::from_static(b"\"stream\":true"));
        return Ok(Turn { body, output, thread: Thread { base: previous, items: own, remembers } });
    };
    let items = joined(&memory.items, &own);
    let all = [Name::Type, Name::Stream, Name::Generate, Name::Previous, Name::Input];
    let base = memory.base.as_deref().map(serde_json::Value::from);
    let base = base.map(|id| format!(",\"previous_response_id\":{id}")).unwrap_or_default();
    let members = [&b"\"stream\":true"[..], base.as_bytes(), b",\"input\":[", &items, b"]"].concat();
    let body = found.body(event, &all, members.into());
    Ok(Turn { body, output, thread: Thread { base: memory.base.clone(), items, remembers } })
}

/// The inside of an `input`. What is neither text nor an array is the upstream's to refuse, unless more goes before it.
fn items(event: &Bytes, value: &Range<usize>, memory: Option<&Memory>) -> Result<Bytes, PeekError> {
    match event.get(value.start) {
        Some(b'[') => Ok(event.slice_ref(event[value.start + 1..value.end - 1].trim_ascii())),
        Some(b'"') => {
            let text = &event[value.clone()];
            Ok([&b"{\"type\":\"message\",\"role\":\"user\",\"content\":"[..], text, b"}"].concat().into())
        }
        Some(b'n') => Ok(Bytes::new()),
        Some(_) | None if memory.is_none() => Ok(Bytes::new()),
        Some(_) | None => Err(PeekError::Type { name: "input", expected: "a string or an array" }),
    }
}

/// The insides of two arrays as that of one.
fn joined(first: &Bytes, second: &Bytes) -> Bytes {
    match (first.is_empty(), second.is_empty()) {
        (true, _) => second.clone(),
        (_, true) => first.clone(),
        (false, false) => [&first[..], b",", second].concat().into(),
    }
}

/// The members that are read, or are not to be posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Type,
    Stream,
    Generate,
    StreamId,
    Background,
    Previous,
    Input,
    Store,
    Conversation,
}

impl Name {
    const ALL: [Self; 9] = [
        Self::Type,
        Self::Stream,
        Self::Generate,
        Self::StreamId,
        Self::Background,
        Self::Previous,
        Self::Input,
        Self::Store,
        Self::Conversation,
    ];
    const LONGEST: usize = "previous_response_id".len();

    fn text(self) -> &'static str {
        match self {
            Self::Type => "type",
            Self::Stream => "stream",
            Self::Generate => "generate",
            Self::StreamId => "stream_id",
            Self::Background => "background",
            Self::Previous => "previous_response_id",
            Self::Input => "input",
            Self::Store => "store",
            Self::Conversation => "conversation",
        }
    }
}

/// A member of an object, as it stands among the others.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Where its quoted key begins.
    from: usize,
    pub(super) value: Range<usize>,
    /// So many stand before it.
    before: usize,
    /// Where the one before it ends.
    after: usize,
}

impl Place {
    pub(super) fn of(member: json::Member, before: usize, after: usize) -> Self {
        Self { from: member.key.start - 1, value: member.value, before, after }
    }

    /// What is to be cut so that the object is without it: of those that stand before it, `cut` are cut as well.
    pub(super) fn span(&self, text: &[u8], cut: usize) -> Range<usize> {
        if self.before > cut {
            return self.after..self.value.end;
        }
        let comma = json::skip_space(text, self.value.end);
        self.from..if text.get(comma) == Some(&b',') { comma + 1 } else { self.value.end }
    }
}

struct Found {
    places: [Option<Place>; Name::ALL.len()],
    /// Just after the opening brace.
    start: usize,
    /// Of all members.
    count: usize,
}

impl Found {
    fn scan(event: &[u8]) -> Result<Self, Refused> {
        let start = json::skip_space(event, 0) + 1;
        let mut found = Self { places: [const { None }; Name::ALL.len()], start, count: 0 };
        let (mut after, mut duplicate) = (start, None);
        json::each(event, |member| {
            let end = member.value.end;
            // Each letter may be spelt with six.
            let name = (member.key.len() <= Name::LONGEST * 6).then(|| json::key_text(event, &member));
            if let Some(at) = name.and_then(|key| Name::ALL.iter().position(|name| name.text() == key)) {
                let place = Place::of(member, found.count, after);
                if found.places[at].replace(place).is_some() {
                    duplicate.get_or_insert(Name::ALL[at].text());
                }
            }
            (after, found.count) = (end, found.count + 1);
        })?;
        duplicate.map_or(Ok(found), |name| Err(PeekError::Duplicate(name).into()))
    }

    fn place(&self, name: Name) -> Option<&Place> {
        Name::ALL.iter().zip(&self.places).find(|(other, _)| **other == name).and_then(|(_, place)| place.as_ref())
    }

    /// The event without some of its members, and with these instead.
    fn body(&self, event: &Bytes, without: &[Name], with: Bytes) -> Bytes {
        let mut places: Vec<_> = without.iter().filter_map(|name| self.place(*name)).collect();
        places.sort_by_key(|place| place.before);
        let comma = if places.len() < self.count { &b","[..] } else { &[] };
        let mut edits = Edits::default();
        edits.push(Edit { span: self.start..self.start, with: [&with[..], comma].concat().into() });
        for (cut, place) in places.into_iter().enumerate() {
            edits.cut(place.span(event, cut));
        }
        edits.made(event)
    }
}

#[cfg(test)]
mod tests;
