//! What the events of one stream have in common: all but the text, and the padding that hides its length.
//!
//! An event that was read becomes the mould. One that equals it everywhere outside those strings is the same JSON with other
//! strings in it, so what was found in the first stands in the second, moved by what the strings are longer or shorter; it
//! need not be read again. Whatever does not fit is read, and becomes the mould. What a client is given of the first, it is
//! given of the second.

use std::ops::Range;

use smallvec::SmallVec;

use super::{Seen, StreamWatch};
use crate::openai::edits::{Edit, Edits};
use crate::openai::json;

/// More casts than events that fitted: such a stream's events differ elsewhere, too, and it is not tried for ever.
const MOST_CASTS: u8 = 32;
const MOST_HOLES: usize = 4;

#[derive(Debug, Default)]
pub(super) struct Mould {
    event: Vec<u8>,
    /// In the order of the event; none: there is no mould.
    holes: SmallVec<[Hole; MOST_HOLES]>,
    seen: Seen,
    /// Casts, less the events that fitted.
    casts: u8,
    edits: Known,
}

/// What becomes of the event on its way to the client.
#[derive(Debug, Default)]
enum Known {
    /// Nobody has asked yet.
    #[default]
    Not,
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

/// Between the quotes of a string that may be another one in each event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hole {
    pub(super) inside: Range<usize>,
    pub(super) is_text: bool,
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
    /// Makes it of an event in which that was seen.
    pub(super) fn cast(&mut self, event: &[u8], holes: impl Iterator<Item = Hole>, seen: &Seen) {
        self.holes.clear();
        if self.casts == MOST_CASTS {
            return;
        }
        self.casts += 1;
        self.holes.extend(holes);
        if self.holes.is_empty() || self.holes.len() > MOST_HOLES {
            self.holes.clear();
            return;
        }
        self.holes.sort_unstable_by_key(|hole| hole.inside.start);
        self.event.clear();
        self.event.extend_from_slice(event);
        self.seen = seen.clone();
        self.edits = Known::Not;
    }

    pub(super) fn fit(&mut self, event: &[u8]) -> Option<Fit> {
        let (found, length) = self.found(event)?;
        if length < event.len() {
            return None;
        }
        self.casts = self.casts.saturating_sub(1);
        let seen = self.seen.moved(|place| self.moved(place, &found));
        let texts = self.texts(&found).collect();
        Some(Fit { texts, seen })
    }

    /// Where the strings stand in an event at the beginning of `bytes` that fits, and how long it is.
    fn found(&self, bytes: &[u8]) -> Option<(Found, usize)> {
        if self.holes.is_empty() {
            return None;
        }
        let mut found = Found::new();
        let (mut from, mut at) = (0, 0);
        for Hole { inside, .. } in &self.holes {
            let between = &self.event[from..inside.start];
            at += bytes.get(at..)?.starts_with(between).then_some(between.len())?;
            let end = json::skip_string(bytes, at - 1).ok()? - 1;
            found.push(at..end);
            (from, at) = (inside.end, end);
        }
        let rest = &self.event[from..];
        bytes[at..].starts_with(rest).then_some((found, at + rest.len()))
    }

    /// A place in the mould that is in no hole, in an event whose strings stand there.
    fn moved(&self, place: usize, found: &[Range<usize>]) -> usize {
        let before = self.holes.iter().zip(found).take_while(|(hole, _)| hole.inside.end <= place);
        before.fold(place, |place, (hole, found)| place + found.len() - hole.inside.len())
    }

    fn texts<'a>(&'a self, found: &'a [Range<usize>]) -> impl Iterator<Item = Range<usize>> + 'a {
        self.holes.iter().zip(found).filter(|(hole, _)| hole.is_text).map(|(_, found)| found.clone())
    }

    /// Told for each event that was read, before the next.
    fn is_sent(&mut self, edits: &Edits<'_>) {
        if !matches!(self.edits, Known::Not) || self.holes.is_empty() {
            return;
        }
        let in_a_hole = |span: &Range<usize>| {
            self.holes.iter().any(|Hole { inside, .. }| span.start < inside.end && inside.start < span.end)
        };
        // A lone CR at an event's end may be half of its line's end.
        let is_certain = self.event.ends_with(b"\n") && !edits.iter().any(|edit| in_a_hole(&edit.span));
        self.edits = if is_certain {
            let kept =
                edits.iter().map(|edit| Kept { span: edit.span.clone(), with: SmallVec::from_slice(&edit.with) });
            Known::Edits(kept.collect())
        } else {
            Known::Never
        };
    }
}

/// The strings in an event's holes.
type Found = SmallVec<[Range<usize>; MOST_HOLES]>;

impl StreamWatch {
    /// Reads the event at the beginning of `bytes` if it differs in its text alone from one before; gives its length, and what
    /// is to be changed in it. `None`: it is to be read, if it is one.
    pub fn read_alike(&mut self, bytes: &[u8]) -> Option<(usize, Edits<'_>)> {
        if !matches!(self.mould.edits, Known::Edits(_)) {
            return None;
        }
        let (found, length) = self.mould.found(bytes)?;
        self.mould.casts = self.mould.casts.saturating_sub(1);
        let texts: SmallVec<[_; 2]> = self.mould.texts(&found).collect();
        texts.into_iter().for_each(|text| self.keep(&bytes[text]));
        let mould = &self.mould;
        let mut edits = Edits::default();
        if let Known::Edits(kept) = &mould.edits {
            for Kept { span, with } in kept {
                let span = mould.moved(span.start, &found)..mould.moved(span.end, &found);
                edits.push(Edit { span, with: (&with[..]).into() });
            }
        }
        Some((length, edits))
    }

    /// Told what is to be changed in the event that was read last.
    pub fn is_sent(&mut self, edits: &Edits<'_>) {
        self.mould.is_sent(edits);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use bytes::Bytes;

    use crate::openai::answer::StreamWatch;
    use crate::openai::shape::{HideUsage, Shape, Shaper};

    fn chunk(text: &str, more: &str) -> String {
        format!(
            "data: {{\"choices\":[{{\"content_filter_results\":{{}},\"delta\":{{\"content\":\"{text}\"}},\"finish_reason\":null,\
             \"index\":0}}],\"id\":\"a\",\"model\":\"gpt-4o-2024-08-06\"{more},\"usage\":null}}\n\n"
        )
    }

    /// Reads the events one after the other, and each by itself: what is seen must be the same.
    fn compare(events: &[String]) -> usize {
        let (mut one_by_one, mut fitting) = (Vec::new(), 0);
        let mut watch = StreamWatch::default();
        for event in events {
            let event = event.as_bytes();
            let casts = watch.mould.casts;
            fitting += usize::from(watch.mould.fit(event).is_some());
            watch.mould.casts = casts;
            let mut alone = StreamWatch::default();
            assert_eq!(watch.read(event), alone.read(event), "{}", String::from_utf8_lossy(event));
            assert_eq!(watch.seen, alone.seen, "{}", String::from_utf8_lossy(event));
            one_by_one.extend_from_slice(&alone.text);
        }
        assert_eq!(watch.text, one_by_one);
        let alike = send(events);
        assert!(alike <= fitting);
        fitting
    }

    /// What a client is given of the events, the quick way and the long one; gives how many went the quick one.
    fn send(events: &[String]) -> usize {
        let shaper = Shaper { shape: Shape::OpenAi { model: Bytes::from_static(b"\"gpt-4o\"") }, hide: HideUsage::Yes };
        let (mut watch, mut alike) = (StreamWatch::default(), 0);
        for event in events {
            let mut alone = StreamWatch::default();
            let read = alone.read(event.as_bytes());
            let expected = shaper.edits(event.as_bytes(), &read, &mut alone).made(event.as_bytes());
            let followed = format!("{event}data: more\n\n");
            let made = watch.read_alike(followed.as_bytes()).map(|(length, edits)| {
                assert_eq!(length, event.len());
                alike += 1;
                edits.made(event.as_bytes())
            });
            let made = made.unwrap_or_else(|| {
                let read = watch.read(event.as_bytes());
                shaper.edits(event.as_bytes(), &read, &mut watch).made(event.as_bytes())
            });
            assert_eq!(made, expected, "{event}");
            let text = String::from_utf8_lossy(&alone.text).into_owned();
            assert!(String::from_utf8_lossy(&watch.text).ends_with(&text), "{event}");
        }
        alike
    }

    #[test]
    fn what_is_alike_is_sent_alike_without_another_look() {
        let mut events: Vec<_> = ["Hello", " there", "", "\\n"].iter().map(|text| chunk(text, "")).collect();
        assert_eq!(send(&events), 3);
        events.push(chunk("stop", "").replace("null,\"index", "\"stop\",\"index"));
        events.push(chunk("no more", "").replace("null,\"index", "\"stop\",\"index"));
        assert_eq!(send(&events), 4, "of another kind, once it was read");
        let returning: Vec<_> = events.iter().map(|event| event.replace("\n\n", "\r\r")).collect();
        assert_eq!(send(&returning), 0);
    }

    #[test]
    fn events_that_differ_in_their_text_are_not_read_again() {
        let padded = |text: &str, padding: &str| chunk(text, &format!(",\"obfuscation\":\"{padding}\""));
        let events =
            [chunk("Hello", ""), chunk(" there", ""), chunk("", ""), chunk("\\n\\u00e9\\\"", ""), chunk("é", "")];
        assert_eq!(compare(&events), events.len() - 1);
        let events = [padded("Hello", "xyz"), padded(" the", "abcdef"), padded("", "")];
        assert_eq!(compare(&events), events.len() - 1);
    }

    #[test]
    fn what_differs_elsewhere_is_read() {
        let first = chunk("Hello", "");
        for other in [
            first.replace("null,\"index", "\"stop\",\"index"),
            first.replace("}]", "},{\"delta\":{\"content\":\"x\"},\"index\":1}]"),
            first.replace("\"content\":\"Hello\"", "\"content\":null"),
            first.replace("Hello", "a\nb"),
            first.replace("Hello", "a\\x"),
            first.replace("Hello\"", "Hello"),
            first.replace("\"usage\":null", "\"usage\":{\"prompt_tokens\":1}"),
            first.replace("\"id\":\"a\"", "\"error\":{\"code\":\"x\"}"),
            first.replace("\n\n", "\r\n\r\n"),
            "data: [DONE]\n\n".to_owned(),
            first[..first.len() / 2].to_owned(),
            String::new(),
        ] {
            assert_eq!(compare(&[first.clone(), other.clone()]), 0, "{other}");
        }
        let differing: Vec<_> = (0..100).map(|n| chunk("x", &format!(",\"n\":{n}"))).collect();
        assert_eq!(compare(&differing), 0);
    }

    proptest! {
        #[test]
        fn a_stream_is_read_as_its_events_are(
            parts in prop::collection::vec(("[a-z \"\\\\n\u{e9}\u{7}]{0,6}", 0_usize..4, "[a-z]{0,5}"), 1..12)
        ) {
            let events: Vec<_> = parts
                .iter()
                .map(|(text, kind, padding)| match kind {
                    0 | 1 => chunk(text, ""),
                    2 => chunk(text, &format!(",\"obfuscation\":\"{padding}\"")),
                    _ => chunk(text, "").replace("\"index\"", &format!("\"text\":\"{padding}\",\"index\"")),
                })
                .collect();
            compare(&events);
        }
    }
}
