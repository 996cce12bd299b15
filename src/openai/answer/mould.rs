//! What the events of one stream have in common: all but the text, and the padding that hides its length.
//!
//! An event that was read becomes the mould. One that equals it everywhere outside those strings is the same JSON with other
//! strings in it, so what was found in the first stands in the second, moved by what the strings are longer or shorter; it
//! need not be read again. Whatever does not fit is read, and becomes the mould.

use std::ops::Range;

use smallvec::SmallVec;

use super::Seen;
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
    }

    pub(super) fn fit(&mut self, event: &[u8]) -> Option<Fit> {
        if self.holes.is_empty() {
            return None;
        }
        let mut found = SmallVec::<[Range<usize>; MOST_HOLES]>::new();
        let (mut from, mut at) = (0, 0);
        for Hole { inside, .. } in &self.holes {
            let between = &self.event[from..inside.start];
            at += event.get(at..)?.starts_with(between).then_some(between.len())?;
            let end = json::skip_string(event, at - 1).ok()? - 1;
            found.push(at..end);
            (from, at) = (inside.end, end);
        }
        if event[at..] != self.event[from..] {
            return None;
        }
        self.casts = self.casts.saturating_sub(1);
        let seen = self.seen.moved(|place| {
            let before = self.holes.iter().zip(&found).take_while(|(hole, _)| hole.inside.end <= place);
            before.fold(place, |place, (hole, found)| place + found.len() - hole.inside.len())
        });
        let texts = self.holes.iter().zip(found).filter(|(hole, _)| hole.is_text).map(|(_, found)| found).collect();
        Some(Fit { texts, seen })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::openai::answer::StreamWatch;

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
        fitting
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
