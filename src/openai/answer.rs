//! What is read of an answer: usage, how far a stream has come, whether it ended as it should.

mod mould;
mod moulds;

use std::borrow::Cow;
use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

use memchr::memmem;
use smallvec::SmallVec;

use self::mould::{Hole, Kind};
pub use self::moulds::Common;
use self::moulds::{MOST_CASTS, Moulds};
use super::kept::Made;
use super::responses::{self, Failure};
use super::sse::{self, Data};
use super::{error, json, usage};
use crate::domain::demand::Operation;
use crate::domain::usage::Usage;

/// What one event of a stream means to the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The stream's last word: `data: [DONE]`, or the event that ends a response.
    Done,
    /// The last word too, of an answer that failed.
    Failed(Failure),
    /// A top-level `error` that is not the request's own: the upstream gave up.
    Error,
    /// At least one choice, or part of the output: the answer itself has begun.
    Content,
    /// The chunk that only carries usage.
    Usage(Usage),
    /// Comments, the filter's annotations of the prompt, and everything else.
    Other,
}

/// What was read of a stream so far.
#[derive(Debug, Default)]
pub struct StreamWatch {
    speaks: Speaks,
    pub(super) usage: Option<Usage>,
    pub(super) response: responses::Told,
    /// The generated text, escapes not decoded: for an estimate when the stream ends before its usage.
    text: Vec<u8>,
    /// Text beyond the cap, counted only.
    uncounted: usize,
    /// Of the event that was read last.
    pub(super) seen: Seen,
    /// It has become a mould, the latest.
    was_cast: bool,
    /// Casts, less the events that fitted.
    casts: u8,
    moulds: Rc<RefCell<Moulds>>,
}

/// Where the members of an event stand that a client may have to be given otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) model: Option<Range<usize>>,
    choices: Option<Range<usize>>,
    has_several_choices: bool,
    has_delta: bool,
    null_usage: Option<Range<usize>>,
}

impl Seen {
    /// In the event, whose data begins at `start`; nowhere when the data is in several lines.
    fn at(self, start: Option<usize>) -> Self {
        match start {
            Some(start) => self.moved(|place| place + start),
            None => Self { model: None, choices: None, null_usage: None, ..self },
        }
    }

    fn moved(&self, to: impl Fn(usize) -> usize) -> Self {
        let moved = |span: &Option<Range<usize>>| span.as_ref().map(|span| to(span.start)..to(span.end));
        Self {
            model: moved(&self.model),
            choices: moved(&self.choices),
            has_several_choices: self.has_several_choices,
            has_delta: self.has_delta,
            null_usage: moved(&self.null_usage),
        }
    }
}

/// Which API a stream belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Speaks {
    #[default]
    Chat,
    /// Choices have no deltas.
    Text,
    Responses,
}

/// Beyond it the estimate falls back to bytes.
const TEXT_CAP: usize = 256 * 1024;

/// Where generated text stands: message content, tool arguments, legacy text, refusals.
const TEXT_MEMBERS: [&[u8]; 4] = [b"content", b"arguments", b"text", b"refusal"];

impl StreamWatch {
    pub fn of(operation: Operation) -> Self {
        let speaks = match operation {
            Operation::ChatCompletions => Speaks::Chat,
            Operation::Responses | Operation::Compact => Speaks::Responses,
            Operation::Completions | Operation::Embeddings | Operation::Moderations | Operation::Object(_) => {
                Speaks::Text
            }
            Operation::ImageEdits | Operation::ImageGenerations | Operation::Speech => Speaks::Text,
            Operation::Transcriptions | Operation::Translations => Speaks::Text,
            Operation::Realtime | Operation::RealtimeResponse | Operation::RealtimeTranscription => Speaks::Text,
        };
        Self { speaks, ..Self::default() }
    }

    /// Reads one event.
    pub fn read(&mut self, event: &[u8]) -> Event {
        self.was_cast = false;
        let fit = self.moulds.borrow_mut().fit(event);
        if let Some(fit) = fit {
            self.casts = self.casts.saturating_sub(1);
            fit.texts.into_iter().for_each(|text| self.keep(&event[text]));
            self.seen = fit.seen;
            return Event::Content;
        }
        self.seen = Seen::default();
        let (at, data) = match sse::data(event) {
            None => return Event::Other,
            Some(Data::Line(span)) => (Some(span.start), Cow::Borrowed(&event[span])),
            Some(Data::Joined(text)) => (None, Cow::Owned(text)),
        };
        if self.speaks == Speaks::Responses {
            let event = responses::read_event(self, &data);
            self.seen = std::mem::take(&mut self.seen).at(at);
            return event;
        }
        if data.trim_ascii() == b"[DONE]" {
            return Event::Done;
        }
        let (mut failed, mut has_choices, mut has_delta, mut usage_at) = (None, false, false, None);
        let (mut null_usage, mut seen) = (NullUsage::default(), Seen::default());
        let mut texts = SmallVec::<[Range<usize>; 2]>::new();
        let mut others = SmallVec::<[Hole; 3]>::new();
        let scanned = json::each_telling(
            &data,
            |member| {
                let (key, value) = (&data[member.key.clone()], &data[member.value.clone()]);
                null_usage.pass(&member, key == b"usage" && value == b"null");
                match key {
                    b"error" if value != b"null" => failed = Some(member.value),
                    b"choices" => {
                        has_choices = json::skip_space(value, 1) + 1 < value.len();
                        seen.has_several_choices = member.elements[0] > 0;
                        seen.choices = Some(member.value);
                    }
                    b"model" => seen.model = Some(member.value),
                    b"id" | b"obfuscation" if value.starts_with(b"\"") => {
                        let inside = member.value.start + 1..member.value.end - 1;
                        others.push(Hole { inside, kind: Kind::OtherString });
                    }
                    b"created" if value[0].is_ascii_digit() => {
                        others.push(Hole { inside: member.value, kind: Kind::Number });
                    }
                    b"usage" if value.starts_with(b"{") => usage_at = Some(member.value),
                    _ => {}
                }
            },
            |outer, key, value| match value {
                _ if outer != b"choices" => {}
                None => has_delta |= key == b"delta",
                Some(value) if TEXT_MEMBERS.contains(&key) => texts.push(value),
                Some(_) => {}
            },
        );
        texts.iter().for_each(|text| self.keep(&data[text.clone()]));
        if scanned.is_err() {
            return Event::Other;
        }
        if let Some(error) = failed {
            return self.gave_up(&data, &error);
        }
        (seen.null_usage, seen.has_delta) = (null_usage.span, has_delta);
        self.seen = seen.at(at);
        let event_usage = usage_at.and_then(|value| usage::read(&data, &value));
        // Usage may come more than once; the last report stands.
        self.usage = event_usage.or(self.usage);
        match (has_choices, event_usage) {
            (true, usage) => {
                if let Some(at) = at.filter(|_| usage.is_none() && self.casts < MOST_CASTS) {
                    let texts = texts.into_iter().map(|inside| Hole { inside, kind: Kind::Text });
                    let holes = texts.chain(others).map(|hole| hole.moved(at));
                    self.casts += 1;
                    self.was_cast = self.moulds.borrow_mut().cast(event, holes, &self.seen);
                }
                Event::Content
            }
            (false, Some(usage)) => Event::Usage(usage),
            (false, None) => Event::Other,
        }
    }

    /// An error event: the upstream's, unless it says that the request itself is what is wrong.
    pub(super) fn gave_up(&mut self, data: &[u8], error: &Range<usize>) -> Event {
        if !error::is_clients_own(data, error) {
            return Event::Error;
        }
        self.response.failure = Some(Failure::Client);
        Event::Failed(Failure::Client)
    }

    pub fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// Where in the event that was read last a `"usage":null` stands, with its comma: to be taken out where it is there
    /// only because the gateway asked for usage.
    pub fn null_usage(&self) -> Option<Range<usize>> {
        self.seen.null_usage.clone()
    }

    /// Where in the event that was read last the name of the model stands.
    pub fn model(&self) -> Option<Range<usize>> {
        self.seen.model.clone()
    }

    /// Where its choices stand, if it has a list of them, however short.
    pub fn choices(&self) -> Option<Range<usize>> {
        self.seen.choices.clone()
    }

    /// Whether each of them surely has a delta; several choices, which are rare, are to be looked at one by one.
    pub fn has_all_deltas(&self) -> bool {
        self.seen.has_delta && !self.seen.has_several_choices
    }

    /// Whether choices are to have deltas.
    pub fn is_chat(&self) -> bool {
        self.speaks == Speaks::Chat
    }

    /// What a response has told so far of what it leaves behind.
    pub fn made(&self) -> &Made {
        &self.response.made
    }

    /// Why the answer failed, if it did.
    pub fn failure(&self) -> Option<Failure> {
        self.response.failure
    }

    /// A quick guess at the output so far, for progress records: four bytes a token.
    pub fn rough_output_tokens(&self) -> u32 {
        u32::try_from((self.text.len() + self.uncounted).div_ceil(4)).unwrap_or(u32::MAX)
    }

    /// The generated text with its escapes decoded, and how many bytes of it were too many to keep.
    pub fn text(&self) -> (String, usize) {
        let mut quoted = Vec::with_capacity(self.text.len() + 2);
        quoted.push(b'"');
        quoted.extend_from_slice(&self.text);
        quoted.push(b'"');
        let text = serde_json::from_slice(&quoted).unwrap_or_else(|_| String::from_utf8_lossy(&self.text).into_owned());
        (text, self.uncounted)
    }

    /// Keeps the inside of a string of generated text.
    pub(super) fn keep(&mut self, inside: &[u8]) {
        if self.text.len() + inside.len() <= TEXT_CAP {
            self.text.extend_from_slice(inside);
        } else {
            self.uncounted += inside.len();
        }
    }
}

/// Looks for a `"usage":null` among the members of an event, as they come.
#[derive(Default)]
struct NullUsage {
    /// What to take out so that the member goes and the commas stay right.
    span: Option<Range<usize>>,
    /// Whether the member was the first, so that the comma after it goes with it.
    leads: bool,
    /// Where the member before ended.
    before: Option<usize>,
}

impl NullUsage {
    fn pass(&mut self, member: &json::Member, is_null_usage: bool) {
        let key_quote = member.key.start - 1;
        if let Some(span) = self.span.as_mut().filter(|_| self.leads) {
            span.end = key_quote;
            self.leads = false;
        }
        if is_null_usage {
            self.leads = self.before.is_none();
            self.span = Some(self.before.unwrap_or(key_quote)..member.value.end);
        }
        self.before = Some(member.value.end);
    }
}

/// A whole answer that was not streamed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whole {
    /// A JSON object without a top-level error; its usage where it reports one, and where it names its model.
    Answer { usage: Option<Usage>, model: Option<Range<usize>> },
    /// Empty, cut, not JSON, or an error under status 200.
    Nonsense,
}

/// Reads a whole answer.
pub fn read_whole(body: &[u8]) -> Whole {
    let (mut failed, mut usage, mut model) = (false, None, None);
    let scanned = json::each(body, |member| match &body[member.key] {
        b"error" => failed |= &body[member.value] != b"null",
        b"usage" => usage = Some(member.value),
        b"model" => model = Some(member.value),
        _ => {}
    });
    if failed || scanned.is_err() {
        return Whole::Nonsense;
    }
    Whole::Answer { usage: usage.and_then(|span| usage::read(body, &span)), model }
}

/// Where the last `usage` object stands in the tail of an answer too large to be read whole.
pub fn usage_in_tail(tail: &[u8]) -> Option<Usage> {
    let at = memmem::rfind(tail, b"\"usage\"")? + b"\"usage\"".len();
    let value = json::skip_space(tail, json::skip_space(tail, at) + 1);
    // Numbers and names of counters only: no brace stands in a string.
    let mut depth = 0;
    for (index, byte) in tail.get(value..)?.iter().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return usage::read(tail, &(value..value + index + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests;
