//! What a session has for its client: a bounded queue of frames that actix polls as the answer's body.
//!
//! The session is a task of its own and not run by whoever reads (`pipe` does that for answers): it must hear its client
//! also while that takes nothing. Dropped without [`Writer::finish`], the connection is aborted.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use actix_web::body::{BodySize, MessageBody};
use bytes::{Bytes, BytesMut};

use super::super::pipe::Cut;
use crate::upstream::websocket::messages::{self, Message, Peer};

/// What may wait for a client that is slower than its upstream; one message more is let in.
const ROOM: usize = 256 * 1024;

#[derive(Default)]
struct Shared {
    queue: VecDeque<Bytes>,
    queued: usize,
    end: Option<End>,
    reader_gone: bool,
    reader: Option<Waker>,
    /// Those who wait for room, or for the reader to leave: never more than there are directions in a session.
    writers: Vec<Waker>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Whole,
    Aborted,
}

/// The session's end.
pub struct Writer(Rc<RefCell<Shared>>);

/// The client's end.
pub struct Reader(Rc<RefCell<Shared>>);

/// The client has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

pub fn open() -> (Writer, Reader) {
    let shared = Rc::<RefCell<Shared>>::default();
    (Writer(shared.clone()), Reader(shared))
}

impl Shared {
    fn wake_writers(&mut self) {
        self.writers.drain(..).for_each(Waker::wake);
    }

    fn wake_reader(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    fn wait(&mut self, cx: &Context<'_>) {
        if !self.writers.iter().any(|waker| waker.will_wake(cx.waker())) {
            self.writers.push(cx.waker().clone());
        }
    }
}

impl Writer {
    /// Queues a message at once; wait for [`Writer::room`] before.
    pub fn push(&self, message: &Message) {
        let mut shared = self.0.borrow_mut();
        if shared.reader_gone {
            return;
        }
        let mut frame = BytesMut::new();
        messages::write(message, Peer::Client, &mut frame);
        shared.queued += frame.len();
        shared.queue.push_back(frame.freeze());
        shared.wake_reader();
    }

    /// Resolves when there is room.
    pub async fn room(&self) -> Result<(), Gone> {
        poll_fn(|cx| {
            let mut shared = self.0.borrow_mut();
            if shared.reader_gone {
                return Poll::Ready(Err(Gone));
            }
            if shared.queued < ROOM {
                return Poll::Ready(Ok(()));
            }
            shared.wait(cx);
            Poll::Pending
        })
        .await
    }

    /// Resolves when the client has left.
    pub async fn gone(&self) {
        poll_fn(|cx| {
            let mut shared = self.0.borrow_mut();
            if shared.reader_gone {
                return Poll::Ready(());
            }
            shared.wait(cx);
            Poll::Pending
        })
        .await;
    }

    /// Nothing follows; the connection ends in good order when the client has taken what is queued.
    pub fn finish(&self) {
        self.0.borrow_mut().end = Some(End::Whole);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let mut shared = self.0.borrow_mut();
        shared.end.get_or_insert(End::Aborted);
        shared.wake_reader();
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut shared = self.0.borrow_mut();
        shared.reader_gone = true;
        shared.queue.clear();
        shared.wake_writers();
    }
}

impl MessageBody for Reader {
    type Error = Cut;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Cut>>> {
        let mut shared = self.0.borrow_mut();
        if let Some(frame) = shared.queue.pop_front() {
            shared.queued -= frame.len();
            if shared.queued < ROOM {
                shared.wake_writers();
            }
            return Poll::Ready(Some(Ok(frame)));
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
    use futures_util::FutureExt;

    use super::*;

    async fn next(reader: &mut Reader) -> Option<Result<Bytes, Cut>> {
        poll_fn(|cx| Pin::new(&mut *reader).poll_next(cx)).await
    }

    #[actix_rt::test]
    async fn a_full_box_waits_for_its_reader_and_for_nobody_who_left() {
        let (writer, mut reader) = open();
        writer.push(&Message::Binary(Bytes::from(vec![0; ROOM])));
        assert!(writer.room().now_or_never().is_none());
        let (room, read) = tokio::join!(writer.room(), next(&mut reader));
        assert_eq!((room, read.unwrap().unwrap().len()), (Ok(()), ROOM + 10));
        assert!(writer.gone().now_or_never().is_none());
        let leaving = async { drop(reader) };
        tokio::join!(writer.gone(), leaving);
        assert_eq!(writer.room().await, Err(Gone));
    }

    #[actix_rt::test]
    async fn what_is_queued_comes_before_the_end() {
        for (finish, is_whole) in [(Writer::finish as fn(&Writer), true), (|_: &Writer| {}, false)] {
            let (writer, mut reader) = open();
            writer.push(&Message::Text("x".into()));
            finish(&writer);
            drop(writer);
            assert_eq!(next(&mut reader).await.unwrap().unwrap(), [0x81, 1, b'x'].as_slice());
            assert_eq!(next(&mut reader).await.is_none(), is_whole);
        }
    }
}
