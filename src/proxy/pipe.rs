//! What actix polls as an answer's body: a relay, and the bytes it has for the client.
//!
//! The relay runs inside the reader: whoever wants bytes moves it on, so a chunk costs no wake-up and no task of its
//! own. It outlives the reader. When the client leaves, actix drops the reader, and the relay goes on as a task that
//! learns of it at once; so it does when the answer is whole and it has its own affairs to finish. A relay that ends
//! without [`Writer::finish`] aborts the connection, so that no cut answer looks whole.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

use actix_web::body::{BodySize, MessageBody};
use bytes::Bytes;
use futures_core::future::LocalBoxFuture;
use tokio::sync::watch;

/// So much in a row without waiting for the upstream is what has piled up there while the client was slow.
const BACKLOG: usize = 256 * 1024;

#[derive(Debug, Default)]
struct Shared {
    queue: Queue,
    end: Option<End>,
    reader_gone: bool,
    cut: bool,
    /// Bytes that came since the relay last waited for its upstream.
    in_a_row: usize,
    /// The client was slower than the upstream, if only once.
    was_behind: bool,
    relay: Option<Waker>,
}

/// What waits for the client: mostly one chunk, which needs no memory of its own.
#[derive(Debug, Default)]
struct Queue {
    /// Empty: nothing waits.
    first: Bytes,
    others: VecDeque<Bytes>,
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
pub struct Reader {
    shared: Rc<RefCell<Shared>>,
    /// Until it has ended.
    relay: Option<LocalBoxFuture<'static, ()>>,
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
    /// The pipes of this thread, so that a shutdown can reach them.
    static OPEN: RefCell<Vec<Weak<RefCell<Shared>>>> = const { RefCell::new(Vec::new()) };
    /// For what goes on without a pipe.
    static CUT: watch::Sender<bool> = watch::Sender::new(false);
}

/// The reader of what `relay` writes.
pub fn read<R: Future<Output = ()> + 'static>(relay: impl FnOnce(Writer) -> R) -> Reader {
    let shared = Rc::new(RefCell::new(Shared::default()));
    OPEN.with_borrow_mut(|open| {
        if open.len() == open.capacity() {
            open.retain(|pipe| pipe.strong_count() > 0);
        }
        open.push(Rc::downgrade(&shared));
    });
    let relay = relay(Writer(shared.clone()));
    Reader { shared, relay: Some(Box::pin(relay)) }
}

/// Resolves when this thread's relays are stopped.
pub async fn until_cut() {
    let mut cut = CUT.with(watch::Sender::subscribe);
    // The sender lives as long as the thread, so the wait ends only when it is true.
    let _ = cut.wait_for(|cut| *cut).await;
}

/// Stops every relay of this thread.
pub fn cut_all() {
    CUT.with(|cut| cut.send_replace(true));
    OPEN.with_borrow_mut(|open| {
        for shared in open.drain(..).filter_map(|pipe| pipe.upgrade()) {
            let relay = {
                let mut shared = shared.borrow_mut();
                shared.cut = true;
                shared.relay.take()
            };
            if let Some(relay) = relay {
                relay.wake();
            }
        }
    });
}

/// Reads it to its end, for what its relay does on the way.
pub async fn read_out(mut reader: Reader) {
    while let Some(Ok(_)) = poll_fn(|cx| Pin::new(&mut reader).poll_next(cx)).await {}
}

impl Writer {
    /// Queues bytes at once; wait for [`Writer::poll_room`] before the next.
    pub fn push(&self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        let mut shared = self.0.borrow_mut();
        shared.in_a_row += bytes.len();
        if shared.in_a_row >= BACKLOG {
            shared.was_behind = true;
        }
        shared.queue.push(bytes);
    }

    /// Whether the client has taken all there was.
    pub fn is_empty(&self) -> bool {
        self.0.borrow().queue.is_empty()
    }

    /// Ready when the client has taken all there was, or the relay must stop. Until then the upstream is not asked for more:
    /// the reader hands on what there is, and polls the relay again when it is asked.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<Result<(), Stop>> {
        let mut shared = self.0.borrow_mut();
        if shared.reader_gone {
            return Poll::Ready(Err(Stop::Gone));
        }
        if shared.cut {
            return Poll::Ready(Err(Stop::ShuttingDown));
        }
        if !shared.relay.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            shared.relay = Some(cx.waker().clone());
        }
        if shared.queue.is_empty() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// The upstream has nothing now.
    pub fn waits_for_upstream(&self) {
        self.0.borrow_mut().in_a_row = 0;
    }

    /// Ready when the gateway's grace is over, for a relay that goes on without a client.
    pub fn poll_cut(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut shared = self.0.borrow_mut();
        if shared.cut {
            return Poll::Ready(());
        }
        shared.relay = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Whether the client was ever slower than the upstream: then the relay's pace says nothing about that.
    pub fn was_behind(&self) -> bool {
        self.0.borrow().was_behind
    }

    /// The answer is whole.
    pub fn finish(&self) {
        self.0.borrow_mut().end = Some(End::Whole);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.borrow_mut().end.get_or_insert(End::Aborted);
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        {
            let mut shared = self.shared.borrow_mut();
            shared.reader_gone = true;
            shared.queue = Queue::default();
        }
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
        loop {
            let end = {
                let mut shared = reader.shared.borrow_mut();
                if let Some(bytes) = shared.queue.pop() {
                    return Poll::Ready(Some(Ok(bytes)));
                }
                shared.end
            };
            match (end, &mut reader.relay) {
                (Some(End::Whole), _) => return Poll::Ready(None),
                (Some(End::Aborted), _) | (None, None) => return Poll::Ready(Some(Err(Cut))),
                (None, Some(relay)) => {
                    if relay.as_mut().poll(cx).is_ready() {
                        reader.relay = None;
                    } else if reader.shared.borrow().is_silent() {
                        return Poll::Pending;
                    }
                }
            }
        }
    }
}

impl Queue {
    fn push(&mut self, bytes: Bytes) {
        if self.is_empty() {
            self.first = bytes;
        } else {
            self.others.push_back(bytes);
        }
    }

    fn pop(&mut self) -> Option<Bytes> {
        if self.is_empty() {
            return None;
        }
        let next = self.others.pop_front().unwrap_or_default();
        Some(std::mem::replace(&mut self.first, next))
    }

    fn is_empty(&self) -> bool {
        self.first.is_empty()
    }
}

impl Shared {
    fn is_silent(&self) -> bool {
        self.queue.is_empty() && self.end.is_none()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::{pending, poll_fn};

    use futures_util::FutureExt;

    use super::*;

    async fn next(reader: &mut Reader) -> Option<Result<Bytes, Cut>> {
        poll_fn(|cx| Pin::new(&mut *reader).poll_next(cx)).await
    }

    #[actix_rt::test]
    async fn whole_answers_end_and_unfinished_ones_abort() {
        let mut reader = read(|writer| async move {
            writer.push(Bytes::from_static(b"a"));
            writer.finish();
        });
        assert_eq!(next(&mut reader).await.unwrap().unwrap(), "a");
        assert!(next(&mut reader).await.is_none());

        let mut reader = read(|writer| async move { writer.push(Bytes::from_static(b"b")) });
        assert_eq!(next(&mut reader).await.unwrap().unwrap(), "b");
        assert!(next(&mut reader).await.unwrap().is_err());
    }

    #[actix_rt::test]
    async fn what_a_relay_has_left_to_do_holds_up_nobody_and_is_done() {
        let (go, gone) = tokio::sync::oneshot::channel::<()>();
        let done = Rc::new(Cell::new(false));
        let noted = done.clone();
        let mut reader = read(|writer| async move {
            writer.push(Bytes::from_static(b"a"));
            writer.finish();
            gone.await.unwrap();
            noted.set(true);
        });
        assert_eq!(next(&mut reader).await.unwrap().unwrap(), "a");
        assert!(next(&mut reader).await.is_none());
        drop(reader);
        assert!(!done.get());
        go.send(()).unwrap();
        while !done.get() {
            tokio::task::yield_now().await;
        }
    }

    /// Of a relay that waits for its upstream before each chunk but the first `at_once`.
    async fn reads_of(at_once: usize, chunks: usize) -> (usize, bool) {
        let reads = Rc::new(Cell::new(0));
        let counted = reads.clone();
        let mut reader = read(|writer| async move {
            for chunk in 0..chunks {
                poll_fn(|cx| writer.poll_room(cx)).await.unwrap();
                if chunk >= at_once {
                    writer.waits_for_upstream();
                }
                counted.set(counted.get() + 1);
                writer.push(Bytes::from(vec![0; BACKLOG / 4]));
            }
            pending().await
        });
        for taken in 1..=chunks {
            next(&mut reader).await.unwrap().unwrap();
            assert_eq!(reads.get(), taken, "the upstream is asked when the client asks");
        }
        assert!(next(&mut reader).now_or_never().is_none());
        let was_behind = reader.shared.borrow().was_behind;
        (reads.get(), was_behind)
    }

    #[actix_rt::test]
    async fn a_client_that_is_slower_than_the_upstream_is_known() {
        assert_eq!(reads_of(0, 8).await, (8, false));
        assert_eq!(reads_of(3, 8).await, (8, false));
        assert_eq!(reads_of(4, 8).await, (8, true));
    }

    #[actix_rt::test]
    async fn a_client_who_leaves_is_noticed_and_so_is_a_shutdown() {
        let stopped = Rc::new(RefCell::new(Vec::new()));
        let start = || {
            let stopped = stopped.clone();
            read(|writer| async move {
                let stop = poll_fn(|cx| match writer.poll_room(cx) {
                    Poll::Ready(Ok(())) => Poll::Pending,
                    other => other,
                });
                let stop = stop.await;
                stopped.borrow_mut().push(stop);
            })
        };
        let mut leaving = start();
        assert!(next(&mut leaving).now_or_never().is_none());
        drop((leaving, start()));
        while stopped.borrow().len() < 2 {
            tokio::task::yield_now().await;
        }
        assert_eq!(stopped.take(), [Err(Stop::Gone), Err(Stop::Gone)]);

        let mut staying = start();
        assert!(next(&mut staying).now_or_never().is_none());
        cut_all();
        assert!(next(&mut staying).await.unwrap().is_err());
        assert_eq!(stopped.take(), [Err(Stop::ShuttingDown)]);
    }
}
