//! Splits a byte stream into server-sent events, indifferent to how the bytes were cut into chunks.
//!
//! An event ends with a blank line; lines end with LF, CRLF or CR. Source: the WHATWG HTML standard, section 9.2.
//! Events are slices of what arrived: nothing is copied unless an event spans chunks.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use memchr::memchr2;
use smallvec::SmallVec;

/// Events longer than this are no events of the APIs we speak; the stream is given up rather than gathered for ever.
pub const MAX_EVENT: usize = 8 << 20;

/// Where events stand in the bytes they came in.
pub type Spans = SmallVec<[Range<usize>; 4]>;

/// Cuts chunks into whole events.
#[derive(Debug, Default)]
pub struct Splitter {
    /// The beginning of an event whose end has not come yet.
    pending: BytesMut,
}

/// An event grew beyond [`MAX_EVENT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventTooLong;

impl Splitter {
    /// Takes the next chunk; gives the bytes of the events that are whole now and the span of each in them.
    pub fn push(&mut self, chunk: Bytes) -> Result<(Bytes, Spans), EventTooLong> {
        let whole = if self.pending.is_empty() {
            chunk
        } else {
            self.pending.extend_from_slice(&chunk);
            self.pending.split().freeze()
        };
        let spans = events(&whole);
        let end = spans.last().map_or(0, |span: &Range<usize>| span.end);
        if whole.len() - end > MAX_EVENT {
            return Err(EventTooLong);
        }
        if end == whole.len() {
            return Ok((whole, spans));
        }
        self.pending.extend_from_slice(&whole[end..]);
        Ok((whole.slice(..end), spans))
    }

    /// Whether the next chunk begins with an event.
    pub fn is_between_events(&self) -> bool {
        self.pending.is_empty()
    }

    /// What is left when the stream has ended: an event without its blank line, or nothing.
    pub fn finish(&mut self) -> Bytes {
        self.pending.split().freeze()
    }
}

/// The spans of all whole events at the beginning of `text`, blank lines included.
fn events(text: &[u8]) -> Spans {
    let mut found = Spans::new();
    let (mut start, mut line) = (0, 0);
    while let Some(offset) = memchr2(b'\n', b'\r', &text[line..]) {
        let end = line + offset;
        let next = if text[end] == b'\n' {
            end + 1
        } else {
            match text.get(end + 1) {
                Some(b'\n') => end + 2,
                Some(_) => end + 1,
                // A CR at the very end may be half of a CRLF: the next chunk tells.
                None => break,
            }
        };
        if end == line {
            found.push(start..next);
            start = next;
        }
        line = next;
    }
    found
}

/// The payload of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// Of its one `data:` line: where it stands in the event.
    Line(Range<usize>),
    /// Of several, joined as the standard says.
    Joined(Vec<u8>),
}

/// The payload of an event, if it has any.
pub fn data(event: &[u8]) -> Option<Data> {
    let mut lines = data_lines(event);
    let first = lines.next()?;
    let Some(second) = lines.next() else { return Some(Data::Line(first)) };
    let mut joined = [&event[first], b"\n", &event[second]].concat();
    for line in lines {
        joined.push(b'\n');
        joined.extend_from_slice(&event[line]);
    }
    Some(Data::Joined(joined))
}

/// The values of the lines that are data.
fn data_lines(event: &[u8]) -> impl Iterator<Item = Range<usize>> {
    const BOM: &[u8] = "\u{feff}".as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < event.len() {
            let end = memchr2(b'\n', b'\r', &event[at..]).map_or(event.len(), |offset| at + offset);
            let start = if event[at..end].starts_with(BOM) { at + BOM.len() } else { at };
            at = end + 1;
            if let Some(value) = event[start..end].strip_prefix(b"data:") {
                let value = value.strip_prefix(b" ").unwrap_or(value);
                return Some(end - value.len()..end);
            }
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Splits `text` cut at `cuts`; gives the events and what was left over.
    fn split(text: &[u8], cuts: &[usize]) -> (Vec<Vec<u8>>, Vec<u8>) {
        let mut splitter = Splitter::default();
        let mut found = Vec::new();
        let mut from = 0;
        for cut in cuts.iter().copied().chain([text.len()]) {
            let (bytes, spans) = splitter.push(Bytes::copy_from_slice(&text[from..cut])).unwrap();
            found.extend(spans.into_iter().map(|span| bytes[span].to_vec()));
            from = cut;
        }
        (found, splitter.finish().to_vec())
    }

    #[test]
    fn every_line_end_and_every_cut_give_the_same_events() {
        for text in [
            "data: a\n\ndata: b\n\n: comment\n\ndata: [DONE]\n\n",
            "data: a\r\n\r\nevent: x\r\ndata: b\r\n\r\ndata: [DONE]\r\n\r\n",
            "\u{feff}data: ü\n\ndata: \u{1F600}\n\n\n\nrest",
        ] {
            let text = text.as_bytes();
            let whole = split(text, &[]);
            assert!(whole.0.len() >= 2);
            for cut in 0..=text.len() {
                assert_eq!(split(text, &[cut]), whole, "cut at {cut}");
            }
        }
    }

    #[test]
    fn a_lone_cr_ends_a_line() {
        let (events, rest) = split(b"data: a\r\rdata: b\r\r", &[]);
        assert_eq!(events, [b"data: a\r\r".to_vec()]);
        assert_eq!(rest, b"data: b\r\r", "the last CR may be half of a CRLF");
    }

    #[test]
    fn data_lines_are_joined() {
        let line = |event: &str| match data(event.as_bytes()) {
            Some(Data::Line(span)) => event[span].to_owned(),
            other => panic!("{event}: {other:?}"),
        };
        assert_eq!(line("data: a\n\n"), "a");
        assert_eq!(line("data:a\r\n\r\n"), "a");
        assert_eq!(line("id: 1\r\ndata: a"), "a");
        assert_eq!(line("\u{feff}data: a\n\n"), "a");
        assert_eq!(line("data:\n\n"), "");
        assert_eq!(data(b"event: x\ndata: a\ndata: b\ndata:\n\n"), Some(Data::Joined(b"a\nb\n".to_vec())));
        assert_eq!(data(b": ping\n\n"), None);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_reordered(text in "[\r\na: ]{0,60}", cuts in prop::collection::vec(0usize..60, 0..6)) {
            let text = text.into_bytes();
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.sort_unstable();
            let (events, rest) = split(&text, &cuts);
            let mut joined = events.concat();
            joined.extend_from_slice(&rest);
            prop_assert_eq!(&joined, &text);
            prop_assert_eq!(events, split(&text, &[]).0);
        }
    }
}
