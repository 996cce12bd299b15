//! Where changed events are written on their way to the client.
//!
//! The streams of a thread use the same memory in turn: what is written there is read at once and done with, and memory
//! of its own would be out of the processor's caches each time a stream comes to speak again.

use std::cell::Cell;

use bytes::{Bytes, BytesMut};

use super::pipe::Writer;

/// More than this is written to memory of its own, so that a slow client holds on to no more than it waits for.
const MOST_SHARED: usize = 16 * 1024;
/// Enough for nearly every chunk, so that it is not taken anew for one that is a little longer than those before.
const LEAST: usize = 4 * 1024;
/// What the changes usually add.
const SLACK: usize = 256;

thread_local! {
    static SHARED: Cell<BytesMut> = Cell::default();
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    Shared,
    Own,
}

impl Room {
    /// For so many bytes. A client that has not taken what it was given would keep the shared memory from the others.
    pub(super) fn of(writer: &Writer, length: usize) -> Self {
        if writer.is_empty() && length <= MOST_SHARED { Self::Shared } else { Self::Own }
    }

    /// The memory, which begins with what is there already.
    pub(super) fn enter(self, before: &[u8], length: usize) -> BytesMut {
        let mut memory = match self {
            Self::Shared => SHARED.take(),
            Self::Own => BytesMut::new(),
        };
        let least = if self == Self::Shared { LEAST } else { 0 };
        memory.reserve(least.max(length + SLACK));
        memory.extend_from_slice(before);
        memory
    }

    /// What was written.
    pub(super) fn leave(self, mut memory: BytesMut) -> Bytes {
        let written = memory.split().freeze();
        if self == Self::Shared {
            SHARED.set(memory);
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(room: Room, text: &[u8]) -> Bytes {
        let mut memory = room.enter(&text[..2], text.len());
        memory.extend_from_slice(&text[2..]);
        room.leave(memory)
    }

    #[test]
    fn the_same_memory_is_written_again_when_what_it_held_is_gone() {
        let first = write(Room::Shared, b"first");
        let place = first.as_ptr();
        assert_eq!(first, "first");
        drop(first);
        let second = write(Room::Shared, b"second");
        assert_eq!((second.as_ptr(), &second[..]), (place, &b"second"[..]));
        let third = write(Room::Shared, &[b'x'; 2 * MOST_SHARED]);
        assert_eq!(second, "second", "it is still waiting to be sent");
        assert_eq!(third, [b'x'; 2 * MOST_SHARED][..]);
    }
}
