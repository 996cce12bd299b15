//! The bounded channel between a relay and the client's socket, both on one thread.
//!
//! The reader is the response body that actix polls: when the client leaves, actix drops it, and the relay learns of it
//! at once. A relay that ends without [`Writer::finish`] aborts the connection, so that no cut answer looks whole.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

use actix_web::body::{BodySize, MessageBody};
use bytes::Bytes;

/// A client that reads slowly stops the upstream at this many bytes.
const ROOM: usize = 256 * 1024;

#[derive(Debug, Default)]
struct Shared {
    queue: VecDeque<Bytes>,
    queued: usize,
    end: Option<End>,
    reader_gone: bool,
    cut: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Whole,
    Aborted,
}

/// The relay's end.
#[derive(Debug)]
pub struct Writer(Rc<RefCell<Shared>>);

/// The client's end.
#[derive(Debug)]
pub struct Reader(Rc<RefCell<Shared>>);

/// Why the relay must stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The client has left.
    Gone,
    /// The gateway is shutting down and its grace is over.
    ShuttingDown,
}

thread_local! {
    /// The pipes of this thread, so that a shutdown can reach them.
    static OPEN: RefCell<Vec<Weak<RefCell<Shared>>>> = const { RefCell::new(Vec::new()) };
}

pub fn pipe() -> (Writer, Reader) {
    let shared = Rc::new(RefCell::new(Shared::default()));
    OPEN.with_borrow_mut(|open| {
        if open.len() == open.capacity() {
            open.retain(|pipe| pipe.strong_count() > 0);
        }
        open.push(Rc::downgrade(&shared));
    });
    (Writer(shared.clone()), Reader(shared))
}

/// Stops every relay of this thread.
pub fn cut_all() {
    OPEN.with_borrow_mut(|open| {
        for shared in open.drain(..).filter_map(|pipe| pipe.upgrade()) {
            let mut shared = shared.borrow_mut();
            shared.cut = true;
            wake(&mut shared.writer);
        }
    });
}

impl Writer {
    /// Queues bytes at once; wait for [`Writer::poll_room`] before the next.
    pub fn push(&self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        let mut shared = self.0.borrow_mut();
        shared.queued += bytes.len();
        shared.queue.push_back(bytes);
        wake(&mut shared.reader);
    }

    /// Ready when the queue has room, or the relay must stop. Registers for either, also when it is ready: whoever
    /// goes on to wait for the upstream is woken when the client leaves.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<Result<(), Stop>> {
        let mut shared = self.0.borrow_mut();
        if shared.reader_gone {
            return Poll::Ready(Err(Stop::Gone));
        }
        if shared.cut {
            return Poll::Ready(Err(Stop::ShuttingDown));
        }
        if !shared.writer.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            shared.writer = Some(cx.waker().clone());
        }
        if shared.queued < ROOM { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// The answer is whole.
    pub fn finish(self) {
        self.0.borrow_mut().end = Some(End::Whole);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let mut shared = self.0.borrow_mut();
        shared.end.get_or_insert(End::Aborted);
        wake(&mut shared.reader);
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut shared = self.0.borrow_mut();
        shared.reader_gone = true;
        shared.queue.clear();
        wake(&mut shared.writer);
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
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
        let mut shared = self.0.borrow_mut();
        if let Some(bytes) = shared.queue.pop_front() {
            shared.queued -= bytes.len();
            if shared.queued < ROOM && shared.queued + bytes.len() >= ROOM {
                wake(&mut shared.writer);
            }
            return Poll::Ready(Some(Ok(bytes)));
        }
        match shared.end {
            Some(End::Whole) => Poll::Ready(None),
            Some(End::Aborted) => Poll::Ready(Some(Err(Cut))),
            None => {
                shared.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::future::poll_fn;

    async fn next(reader: &mut Reader) -> Option<Result<Bytes, Cut>> {
        poll_fn(|cx| Pin::new(&mut *reader).poll_next(cx)).await
    }

    #[actix_rt::test]
    async fn whole_answers_end_and_dropped_ones_abort() {
        let (writer, mut reader) = pipe();
        writer.push(Bytes::from_static(b"a"));
        writer.finish();
        assert_eq!(next(&mut reader).await.unwrap().unwrap(), "a");
        assert!(next(&mut reader).await.is_none());

        let (writer, mut reader) = pipe();
        writer.push(Bytes::from_static(b"b"));
        drop(writer);
        assert_eq!(next(&mut reader).await.unwrap().unwrap(), "b");
        assert!(next(&mut reader).await.unwrap().is_err());
    }

    #[actix_rt::test]
    async fn a_full_pipe_waits_and_a_gone_client_is_noticed() {
        let (writer, mut reader) = pipe();
        writer.push(Bytes::from(vec![0; ROOM]));
        let room = || poll_fn(|cx| writer.poll_room(cx));
        assert_eq!(room().now_or_never(), None);
        next(&mut reader).await.unwrap().unwrap();
        assert_eq!(room().await, Ok(()));
        drop(reader);
        assert_eq!(room().await, Err(Stop::Gone));
    }

    #[actix_rt::test]
    async fn a_shutdown_reaches_every_relay() {
        let (writer, _reader) = pipe();
        let mut waiting = Box::pin(poll_fn(|cx| match writer.poll_room(cx) {
            Poll::Ready(Ok(())) => Poll::Pending,
            other => other,
        }));
        assert_eq!((&mut waiting).now_or_never(), None);
        cut_all();
        assert_eq!(waiting.await, Err(Stop::ShuttingDown));
    }
}
