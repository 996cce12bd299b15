//! What the events of streams have in common: all but the text, the padding that hides its length, and what tells one stream
//! from another.
//!
//! An event that was read becomes a mould. One that equals it everywhere outside those values is the same JSON with other
//! values in it, so what was found in the first stands in the second, moved by what the values are longer or shorter; it need
//! not be read again. What a client is given of the first, it is given of the second. Nothing of a value is kept.

use std::ops::Range;

use smallvec::SmallVec;

use super::Seen;
use crate::openai::edits::{Edit, Edits};
use crate::openai::json;

pub(super) const MOST_HOLES: usize = 4;

#[derive(Debug)]
pub(super) struct Mould {
    /// Without the values.
    event: Vec<u8>,
    /// In the order of the event.
    holes: SmallVec<[(usize, Kind); MOST_HOLES]>,
    seen: Seen,
    edits: Known,
    /// How many events fitted, lately.
    pub(super) fits: u16,
}

/// A value that may be another one in each event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hole {
    /// Of a string: between its quotes.
    pub(super) inside: Range<usize>,
    pub(super) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// What the model wrote.
    Text,
    OtherString,
    Number,
}

/// Where the values stand in an event.
pub(super) type Places = SmallVec<[Range<usize>; MOST_HOLES]>;

/// What becomes of the event on its way to the client.
#[derive(Debug)]
enum Known {
    /// Nobody has asked yet; where the values stood in the event that was cast.
    Not(Places),
    /// It cannot be told for others from this one.
    Never,
    Edits(SmallVec<[Kept; 2]>),
}

/// An edit without its event.
#[derive(Debug)]
struct Kept {
    span: Range<usize>,
    /// As long as a model's name.
    with: SmallVec<[u8; 24]>,
}

/// Of an event that fits.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fit {
    pub(super) texts: SmallVec<[Range<usize>; 2]>,
    pub(super) seen: Seen,
}

impl Hole {
    pub(super) fn moved(self, by: usize) -> Self {
        Self { inside: self.inside.start + by..self.inside.end + by, ..self }
    }
}

impl Mould {
    /// Of an event in which that was seen; of one with too many values there is none.
    pub(super) fn cast(event: &[u8], holes: impl Iterator<Item = Hole>, seen: &Seen) -> Option<Self> {
        let mut cut: SmallVec<[Hole; MOST_HOLES]> = holes.collect();
        cut.sort_unstable_by_key(|hole| hole.inside.start);
        if cut.len() > MOST_HOLES || !cut.iter().any(|hole| hole.kind == Kind::Text) {
            return None;
        }
        let (mut solid, mut from) = (Vec::with_capacity(event.len()), 0);
        let mut holes = SmallVec::new();
        for Hole { inside, kind } in &cut {
            solid.extend_from_slice(&event[from..inside.start]);
            holes.push((solid.len(), *kind));
            from = inside.end;
        }
        solid.extend_from_slice(&event[from..]);
        let places: Places = cut.into_iter().map(|hole| hole.inside).collect();
        let seen = seen.moved(|place| without(place, &places));
        Some(Self { event: solid, holes, seen, edits: Known::Not(places), fits: 0 })
    }

    /// Where the values stand in an event at the beginning of `bytes` that fits, and how long it is.
    pub(super) fn find(&self, bytes: &[u8]) -> Option<(Places, usize)> {
        let mut found = Places::new();
        let (mut from, mut at) = (0, 0);
        for (hole, kind) in &self.holes {
            let between = &self.event[from..*hole];
            at += bytes.get(at..)?.starts_with(between).then_some(between.len())?;
            let end = match kind {
                Kind::Text | Kind::OtherString => json::skip_string(bytes, at - 1).ok()? - 1,
                Kind::Number => json::skip_number(bytes, at).ok()?,
            };
            found.push(at..end);
            (from, at) = (*hole, end);
        }
        let rest = &self.event[from..];
        bytes[at..].starts_with(rest).then_some((found, at + rest.len()))
    }

    pub(super) fn fit(&self, found: &Places) -> Fit {
        Fit { texts: self.texts(found).collect(), seen: self.seen.moved(|place| self.moved(place, found)) }
    }

    pub(super) fn texts<'a>(&'a self, found: &'a [Range<usize>]) -> impl Iterator<Item = Range<usize>> + 'a {
        self.holes.iter().zip(found).filter(|((_, kind), _)| *kind == Kind::Text).map(|(_, found)| found.clone())
    }

    /// What is to be changed in an event that fits, where that is known.
    pub(super) fn edits(&self, found: &Places) -> Option<Edits<'_>> {
        let Known::Edits(kept) = &self.edits else { return None };
        let mut edits = Edits::default();
        for Kept { span, with } in kept {
            let span = self.moved(span.start, found)..self.moved(span.end, found);
            edits.push(Edit { span, with: (&with[..]).into() });
        }
        Some(edits)
    }

    /// Told what is to be changed in the event that it was cast of.
    pub(super) fn is_sent(&mut self, edits: &Edits<'_>) {
        let Known::Not(places) = &self.edits else { return };
        let is_of_a_value =
            |span: &Range<usize>| places.iter().any(|place| span.start < place.end && place.start < span.end);
        // A lone CR at an event's end may be half of its line's end.
        let is_certain = self.event.ends_with(b"\n") && !edits.iter().any(|edit| is_of_a_value(&edit.span));
        self.edits = if is_certain {
            let kept = |Edit { span, with }: &Edit<'_>| Kept {
                span: without(span.start, places)..without(span.end, places),
                with: SmallVec::from_slice(with),
            };
            Known::Edits(edits.iter().map(kept).collect())
        } else {
            Known::Never
        };
    }

    /// Where something of the mould stands in an event whose values stand there. What begins at a value's place begins behind
    /// it: before a string there is a quote, and before a number a colon.
    fn moved(&self, place: usize, found: &[Range<usize>]) -> usize {
        let before = self.holes.iter().zip(found).take_while(|((hole, _), _)| *hole <= place);
        place + before.map(|(_, found)| found.len()).sum::<usize>()
    }
}

/// Where a place of an event is without its values.
fn without(place: usize, values: &[Range<usize>]) -> usize {
    place - values.iter().take_while(|value| value.end <= place).map(|value| value.len()).sum::<usize>()
}
