//! The bounded channel between a relay and the client's socket, both on one thread.
//!
//! The reader is the response body that actix polls: when the client leaves, actix drops it, and the relay learns of it
//! at once. A relay that ends without [`Writer::finish`] aborts the connection, so that no cut answer looks whole.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
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

/// The client has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

pub fn pipe() -> (Writer, Reader) {
    let shared = Rc::new(RefCell::new(Shared::default()));
    (Writer(shared.clone()), Reader(shared))
}

impl Writer {
    /// Queues bytes at once; wait for [`Writer::room`] before the next.
    pub fn push(&self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        let mut shared = self.0.borrow_mut();
        shared.queued += bytes.len();
        shared.queue.push_back(bytes);
        wake(&mut shared.reader);
    }

    /// Ready when the queue has room again, or the client has left.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        let mut shared = self.0.borrow_mut();
        if shared.reader_gone {
            return Poll::Ready(Err(Gone));
        }
        if shared.queued < ROOM {
            return Poll::Ready(Ok(()));
        }
        shared.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Whether the client has left; registers to be woken when it does.
    pub fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<Gone> {
        let mut shared = self.0.borrow_mut();
        if shared.reader_gone {
            return Poll::Ready(Gone);
        }
        if !shared.writer.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            shared.writer = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    pub async fn room(&self) -> Result<(), Gone> {
        poll_fn(|cx| self.poll_room(cx)).await
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
            if shared.queued < ROOM / 2 {
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
        assert!(futures_util::poll!(Box::pin(writer.room())).is_pending());
        next(&mut reader).await.unwrap().unwrap();
        assert_eq!(writer.room().await, Ok(()));
        drop(reader);
        assert_eq!(poll_fn(|cx| writer.poll_gone(cx)).await, Gone);
        assert_eq!(writer.room().await, Err(Gone));
    }
}
