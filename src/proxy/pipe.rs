//! What actix polls as an answer's body: a relay, and the bytes it has for the client.
//!
//! The relay runs inside the reader: whoever wants bytes moves it on, so a chunk costs no wake-up and no task of its
//! own. What the relay writes while it is polled is handed over on the thread's `TRAY`: one place in memory for all
//! streams, which the processor has at hand. The relay outlives the reader. When the client leaves, actix drops the reader,
//! and the relay goes on as a task that learns of it at once; so it does when the answer is whole and it has its own affairs
//! to finish. A relay that ends without [`Writer::finish`] aborts the connection, so that no cut answer looks whole.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, MessageBody};
use bytes::Bytes;
use futures_core::future::LocalBoxFuture;

use super::bell::{Bell, Listener};

/// So much in a row without waiting for the upstream is what has piled up there while the client was slow.
const BACKLOG: usize = 256 * 1024;

/// The relay's end.
#[derive(Debug)]
pub struct Writer {
    cut: RefCell<Listener>,
    /// Bytes that came since the relay last waited for its upstream.
    in_a_row: Cell<usize>,
    /// The client was slower than the upstream, if only once.
    was_behind: Cell<bool>,
}

/// The client's end.
pub struct Reader {
    /// Until it has ended.
    relay: Option<LocalBoxFuture<'static, ()>>,
    /// What was written beyond the first chunk of a turn, which is rare.
    waiting: VecDeque<Bytes>,
    end: Option<End>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Whole,
    Aborted,
}

/// What a relay hands to its reader.
#[derive(Debug, Default)]
struct Tray {
    /// A relay that nobody reads any more writes for nobody.
    is_read: bool,
    is_whole: bool,
    /// Empty: there is nothing.
    first: Bytes,
    others: VecDeque<Bytes>,
}

/// Why the relay must stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The client has left.
    Gone,
    /// The gateway is shutting down and its grace is over.
    ShuttingDown,
}

thread_local! {
    /// Of the relay that is being polled.
    static TRAY: RefCell<Tray> = const {
        RefCell::new(Tray { is_read: false, is_whole: false, first: Bytes::new(), others: VecDeque::new() })
    };
    /// Rung for the relays of this thread when they are stopped.
    static CUT: RefCell<Bell> = RefCell::default();
    /// For what goes on without a pipe.
    static WAS_CUT: Bell = Bell::default();
}

/// The reader of what `relay` writes.
pub fn read<R: Future<Output = ()> + 'static>(relay: impl FnOnce(Writer) -> R) -> Reader {
    let cut = CUT.with_borrow(Bell::listen).into();
    let relay = relay(Writer { cut, in_a_row: Cell::default(), was_behind: Cell::default() });
    Reader { relay: Some(Box::pin(relay)), waiting: VecDeque::new(), end: None }
}

/// Resolves when this thread's relays are stopped.
pub async fn until_cut() {
    WAS_CUT.with(Bell::listen).await;
}

/// Stops every relay of this thread.
pub fn cut_all() {
    WAS_CUT.with(Bell::ring);
    CUT.take().ring();
}

/// Reads it to its end, for what its relay does on the way.
pub async fn read_out(mut reader: Reader) {
    while let Some(Ok(_)) = poll_fn(|cx| Pin::new(&mut reader).poll_next(cx)).await {}
}

impl Writer {
    /// Hands bytes over at once; wait for [`Writer::poll_room`] before the next.
    pub fn push(&self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        self.in_a_row.set(self.in_a_row.get() + bytes.len());
        if self.in_a_row.get() >= BACKLOG {
            self.was_behind.set(true);
        }
        TRAY.with_borrow_mut(|tray| {
            if !tray.is_read {
                // Dropped: its client has left.
            } else if tray.first.is_empty() {
                tray.first = bytes;
            } else {
                tray.others.push_back(bytes);
            }
        });
    }

    /// Whether the client has taken all there was.
    pub fn is_empty(&self) -> bool {
        TRAY.with_borrow(|tray| tray.first.is_empty())
    }

    /// Ready when the client has taken all there was, or the relay must stop. Until then the upstream is not asked for more:
    /// the reader hands on what there is, and polls the relay again when it is asked.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<Result<(), Stop>> {
        let (is_read, is_empty) = TRAY.with_borrow(|tray| (tray.is_read, tray.first.is_empty()));
        if !is_read {
            return Poll::Ready(Err(Stop::Gone));
        }
        if !is_empty {
            // The reader comes again as soon as the client has taken that, and until then hears of nothing.
            return Poll::Pending;
        }
        if self.poll_cut(cx).is_ready() { Poll::Ready(Err(Stop::ShuttingDown)) } else { Poll::Ready(Ok(())) }
    }

    /// Ready when the gateway's grace is over, for a relay that goes on without a client.
    pub fn poll_cut(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.cut.borrow_mut().poll_rung(cx)
    }

    /// The upstream has nothing now.
    pub fn waits_for_upstream(&self) {
        self.in_a_row.set(0);
    }

    /// Whether the client was ever slower than the upstream: then the relay's pace says nothing about that.
    pub fn was_behind(&self) -> bool {
        self.was_behind.get()
    }

    /// The answer is whole.
    pub fn finish(&self) {
        TRAY.with_borrow_mut(|tray| tray.is_whole = tray.is_read);
    }
}

impl Reader {
    /// Moves the relay on; gives the first of what it has for the client.
    fn turn(&mut self, cx: &mut Context<'_>) -> Option<Bytes> {
        let relay = self.relay.as_mut()?;
        let turn = Turn::begin();
        let is_over = relay.as_mut().poll(cx).is_ready();
        let (first, is_whole) = turn.end(&mut self.waiting);
        if is_over {
            self.relay = None;
        }
        if is_whole || is_over {
            self.end.get_or_insert(if is_whole { End::Whole } else { End::Aborted });
        }
        (!first.is_empty()).then_some(first)
    }
}

/// The tray belongs to one relay for one poll.
struct Turn {
    /// Of the relay that reads this one, which is rare.
    outer: Option<Box<Tray>>,
}

impl Turn {
    fn begin() -> Self {
        TRAY.with_borrow_mut(|tray| {
            let outer = tray.is_read.then(|| Box::new(std::mem::take(tray)));
            tray.is_read = true;
            Self { outer }
        })
    }

    /// The first of what was written, and whether the answer is whole; what else there is goes to `others`.
    fn end(mut self, others: &mut VecDeque<Bytes>) -> (Bytes, bool) {
        let outer = self.outer.take();
        // What follows does not panic, and leaves nothing on the tray.
        std::mem::forget(self);
        TRAY.with_borrow_mut(|tray| {
            if !tray.others.is_empty() {
                others.append(&mut tray.others);
            }
            let written = (std::mem::take(&mut tray.first), std::mem::take(&mut tray.is_whole));
            tray.is_read = false;
            if let Some(outer) = outer {
                *tray = *outer;
            }
            written
        })
    }
}

impl Drop for Turn {
    /// A relay that panicked leaves nothing to the next one.
    fn drop(&mut self) {
        let outer = self.outer.take().map(|outer| *outer);
        TRAY.set(outer.unwrap_or_default());
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(relay) = self.relay.take() {
            actix_web::rt::spawn(relay);
        }
    }
}

/// Ends the connection without the final chunk.
#[derive(Debug, thiserror::Error)]
#[error("the answer was cut")]
pub struct Cut;

impl MessageBody for Reader {
    type Error = Cut;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Cut>>> {
        let reader = self.get_mut();
        if let Some(bytes) = reader.waiting.pop_front() {
            return Poll::Ready(Some(Ok(bytes)));
        }
        if reader.end.is_none()
            && let Some(bytes) = reader.turn(cx)
        {
            return Poll::Ready(Some(Ok(bytes)));
        }
        match reader.end {
            Some(End::Whole) => Poll::Ready(None),
            Some(End::Aborted) => Poll::Ready(Some(Err(Cut))),
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests;
