//! A body in chunks, read straight from its connection and past awc.
//!
//! awc gives each answer a buffer of its own, and each chunk the next place in it. A stream that speaks every few
//! milliseconds finds all that out of the processor's caches, so the streams of a thread read into the same memory in turn.
//! awc is asked until it waits for a chunk to begin, and gets the end of the body: it sees an answer whose middle was empty,
//! and its pool gets the connection back.

use std::cell::RefCell;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt;

use super::{Connection, Phase};
use crate::upstream::error::{Ending, Fault};
use crate::upstream::framing::Progress;

/// What is read at most at once, as awc does.
const MOST: usize = 8 * 1024;
/// With less room behind what is still in use, other memory is taken.
const LEAST: usize = 2 * 1024;

thread_local! {
    static MEMORY: RefCell<BytesMut> = RefCell::default();
}

/// The way past awc to the answer that a connection is receiving.
pub(in crate::upstream) struct Tap(pub(super) Rc<RefCell<Connection>>);

impl Tap {
    /// Whether the body is read here from now on: awc must be waiting for the next chunk, and for no rest of one.
    pub(in crate::upstream) fn begin(&self) -> bool {
        let mut connection = self.0.borrow_mut();
        let begins = connection.phase == Phase::Receiving && connection.framer.is_between_chunks();
        if begins {
            connection.phase = Phase::Bypassed;
        }
        begins
    }

    /// More of the body's data. `None`: that was all, and awc is to be asked for the end.
    pub(in crate::upstream) fn poll_data(&self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        self.0.borrow_mut().poll_data(cx)
    }
}

impl Connection {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        loop {
            match self.framer.progress() {
                Progress::Body => {}
                Progress::Broken(violation) => {
                    self.wire = None;
                    return Poll::Ready(Err(Fault::Invalid(violation).into_io()));
                }
                Progress::Idle | Progress::Head | Progress::Whole => {
                    self.phase = Phase::Receiving;
                    self.framer.leave_the_end();
                    return Poll::Ready(Ok(None));
                }
            }
            let mut bytes = std::mem::take(&mut self.unread);
            if bytes.is_empty() {
                bytes = match ready!(self.read(cx)) {
                    Ok(bytes) => bytes,
                    Err(ending) => {
                        self.wire = None;
                        return Poll::Ready(Err(self.fault(ending)));
                    }
                };
            }
            let data = self.framer.unchunk(&mut bytes);
            self.unread = bytes;
            if data.is_some() {
                return Poll::Ready(Ok(data));
            }
        }
    }

    fn read(&mut self, cx: &mut Context<'_>) -> Poll<Result<BytesMut, Ending>> {
        let Some(wire) = &mut self.wire else { return Poll::Ready(Err(Ending::Closed)) };
        MEMORY.with_borrow_mut(|memory| {
            // From its beginning when nothing of it is in use.
            if !memory.try_reclaim(MOST) && memory.capacity() < LEAST {
                memory.reserve(MOST);
            }
            Poll::Ready(match ready!(pin!(wire.read_buf(memory)).poll(cx)) {
                Ok(1..) => Ok(memory.split()),
                Ok(0) => Err(Ending::Closed),
                Err(error) => Err(Ending::of(&error)),
            })
        })
    }
}
