//! A stream's script: its events as bytes, where each ends, how many tokens it carries, and which leave together.

use super::faults::Cut;
use super::reply::Break;

/// The events of one streamed answer.
#[derive(Debug, Default)]
pub(super) struct Events {
    bytes: Vec<u8>,
    marks: Vec<Mark>,
    /// For each lump, how many events have left when it is written.
    lumps: Vec<usize>,
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    end: usize,
    tokens: u64,
}

/// Where a spoilt stream stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stop {
    /// Whole events before it.
    pub(super) events: usize,
    /// Bytes of the next event.
    pub(super) partial: usize,
}

impl Events {
    /// Adds one event with this data.
    pub(super) fn push(&mut self, data: &str, tokens: u64) {
        self.bytes.extend_from_slice(b"data: ");
        self.bytes.extend_from_slice(data.as_bytes());
        self.bytes.extend_from_slice(b"\n\n");
        self.marks.push(Mark { end: self.bytes.len(), tokens });
    }

    /// Adds one event with this name and data.
    pub(super) fn push_named(&mut self, name: &str, data: &str, tokens: u64) {
        for part in ["event: ", name, "\n"] {
            self.bytes.extend_from_slice(part.as_bytes());
        }
        self.push(data, tokens);
    }

    /// What was added since the last lump leaves together.
    pub(super) fn end_lump(&mut self) {
        if self.lumps.last().copied().unwrap_or(0) < self.marks.len() {
            self.lumps.push(self.marks.len());
        }
    }

    /// The event numbers of each lump, in order.
    pub(super) fn lumps(&self) -> impl Iterator<Item = (usize, usize)> {
        let ends = self.lumps.iter().copied();
        std::iter::once(0).chain(ends.clone()).zip(ends)
    }

    pub(super) fn len(&self) -> usize {
        self.marks.len()
    }

    /// The bytes of events `from..to`.
    pub(super) fn bytes(&self, from: usize, to: usize) -> &[u8] {
        self.bytes.get(self.start(from)..self.start(to)).unwrap_or_default()
    }

    pub(super) fn tokens(&self, from: usize, to: usize) -> u64 {
        self.marks.iter().take(to).skip(from).map(|mark| mark.tokens).sum()
    }

    /// Where the stream stops; `None` when it ends before the fault would come.
    pub(super) fn stop(&self, breaks: Break) -> Option<Stop> {
        match breaks {
            Break::Hang { after_chunks: events } | Break::Cut(Cut::AfterChunks(events), _) => {
                (events <= self.marks.len()).then_some(Stop { events, partial: 0 })
            }
            Break::Cut(Cut::AfterBytes(bytes), _) => {
                let events = self.marks.partition_point(|mark| mark.end <= bytes);
                (bytes <= self.bytes.len()).then(|| Stop { events, partial: bytes - self.start(events) })
            }
        }
    }

    fn start(&self, event: usize) -> usize {
        event.checked_sub(1).and_then(|before| self.marks.get(before)).map_or(0, |mark| mark.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::faults::Ending;

    fn script() -> Events {
        let mut events = Events::default();
        events.push("a", 0);
        events.end_lump();
        events.push("bb", 1);
        events.push("ccc", 1);
        events.end_lump();
        events.end_lump();
        events
    }

    #[test]
    fn lumps_cover_all_events_once() {
        let events = script();
        assert_eq!(events.lumps().collect::<Vec<_>>(), [(0, 1), (1, 3)]);
        assert_eq!(events.bytes(1, 3), b"data: bb\n\ndata: ccc\n\n");
        assert_eq!((events.tokens(0, 3), events.tokens(2, 3)), (2, 1));
    }

    #[test]
    fn a_cut_stops_at_its_event_or_byte() {
        let events = script();
        let cut = |after| events.stop(Break::Cut(after, Ending::Close));
        assert_eq!(cut(Cut::AfterChunks(2)), Some(Stop { events: 2, partial: 0 }));
        assert_eq!(cut(Cut::AfterChunks(4)), None);
        assert_eq!(cut(Cut::AfterBytes(0)), Some(Stop { events: 0, partial: 0 }));
        assert_eq!(cut(Cut::AfterBytes(9)), Some(Stop { events: 1, partial: 0 }));
        assert_eq!(cut(Cut::AfterBytes(12)), Some(Stop { events: 1, partial: 3 }));
        assert_eq!(cut(Cut::AfterBytes(1_000)), None);
    }
}
