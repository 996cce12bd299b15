//! An answer's chunks on their way to the client, past actix's buffer.
//!
//! actix puts an answer into chunks in a buffer that each connection has of its own. A stream that speaks every few
//! milliseconds finds its buffer out of the processor's caches each time. So a chunk that comes alone, when everything before
//! it is written, is put into memory that the connections of a thread share, and sent at once; to actix the body seems to
//! wait. What a slow client leaves of it, and what comes until then, goes through buffers as ever.

use std::cell::{Cell, RefCell};
use std::fmt::Write;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_http::body::{BodySize, BoxBody, MessageBody};
use actix_http::{Method, Request, Response, StatusCode, Version};
use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncWrite;

/// More than this is not worth a copy.
const MOST: usize = 16 * 1024;

thread_local! {
    static MEMORY: RefCell<BytesMut> = RefCell::default();
}

/// Where an answer's body leaves a chunk for its connection, which actix flushes in the same turn.
#[derive(Default)]
pub struct Outlet {
    chunk: Cell<Option<Bytes>>,
    /// All that was before is written, the head too.
    is_clear: Cell<bool>,
}

/// What the body of an answer gave.
type Next = Option<Result<Bytes, <BoxBody as MessageBody>::Error>>;

/// An answer's body, which leaves its chunks at the outlet.
#[derive(Default)]
pub(super) struct Passing {
    /// Came in the same turn as the chunk that actix has been given.
    held: Option<Next>,
    /// Chunks of this turn.
    chunks: usize,
    /// No more than one of them came in the turn before.
    is_slow: bool,
}

impl Outlet {
    /// Something goes to actix.
    fn close(&self) {
        self.is_clear.set(false);
    }

    /// A chunk goes to the client before all that actix writes.
    pub(super) fn leave(&self, chunk: Bytes) {
        self.chunk.set(Some(chunk));
    }

    /// All that actix had is written, and what was left here too.
    pub(super) fn flushed(&self) {
        self.is_clear.set(true);
    }
}

impl Passing {
    /// Of what actix sends in chunks because nobody knows its length (RFC 9112, section 6.3); its head goes to actix now.
    pub(super) fn of(response: &Response<BoxBody>, outlet: &Outlet) -> Option<Self> {
        let is_stream = response.body().size() == BodySize::Stream;
        let is_chunked = is_stream && response.status() == StatusCode::OK && response.head().chunked();
        is_chunked.then(|| Self::behind_a_head(outlet))
    }

    fn behind_a_head(outlet: &Outlet) -> Self {
        outlet.close();
        Self::default()
    }

    /// Whether an answer to it may be sent in chunks.
    pub(super) fn may_answer(request: &Request) -> bool {
        request.version() == Version::HTTP_11 && request.method() == Method::POST && !request.head().upgrade()
    }

    /// What is left to actix.
    pub(super) fn poll_next(&mut self, outlet: &Outlet, body: &mut BoxBody, cx: &mut Context<'_>) -> Poll<Next> {
        if let Some(next) = self.held.take() {
            return Poll::Ready(next);
        }
        let Poll::Ready(next) = Pin::new(&mut *body).poll_next(cx) else {
            self.is_slow = self.chunks <= 1;
            self.chunks = 0;
            return Poll::Pending;
        };
        self.chunks += 1;
        let is_first = self.is_slow && self.chunks == 1 && outlet.is_clear.get();
        let next = match next {
            Some(Ok(bytes)) if is_first && (1..=MOST).contains(&bytes.len()) => match Pin::new(body).poll_next(cx) {
                Poll::Pending => {
                    self.chunks = 0;
                    outlet.leave(bytes);
                    return Poll::Pending;
                }
                Poll::Ready(second) => {
                    self.chunks += 1;
                    self.held = Some(second);
                    Some(Ok(bytes))
                }
            },
            next => next,
        };
        outlet.close();
        Poll::Ready(next)
    }
}

/// What a client has not taken yet of a chunk from the outlet.
#[derive(Default)]
pub(super) struct Rest(BytesMut);

impl Rest {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Ready when nothing is left, neither here nor at the outlet; `None`: nothing was.
    pub(super) fn poll_written<W: AsyncWrite + Unpin>(
        &mut self,
        outlet: &Outlet,
        io: &mut W,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<()>>> {
        let chunk = outlet.chunk.take();
        if chunk.is_none() && self.0.is_empty() {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(ready!(self.poll_write(chunk, outlet, io, cx))))
    }

    fn poll_write<W: AsyncWrite + Unpin>(
        &mut self,
        chunk: Option<Bytes>,
        outlet: &Outlet,
        io: &mut W,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(chunk) = chunk {
            // There is one only when nothing is left of the one before.
            MEMORY.with_borrow_mut(|memory| {
                frame(&chunk, memory);
                let written = match Pin::new(&mut *io).poll_write(cx, memory) {
                    Poll::Ready(written) => written?,
                    Poll::Pending => 0,
                };
                self.0.extend_from_slice(&memory[written..]);
                Ok::<_, io::Error>(())
            })?;
        }
        while !self.0.is_empty() {
            outlet.close();
            match ready!(Pin::new(&mut *io).poll_write(cx, &self.0))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.0.advance(written),
            }
            if self.0.is_empty() {
                // A connection that was slow once does not keep its memory.
                self.0 = BytesMut::new();
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// One chunk of a body (RFC 9112, section 7.1).
fn frame(chunk: &[u8], memory: &mut BytesMut) {
    memory.clear();
    memory.reserve(chunk.len() + 16);
    // Memory takes all that it is given.
    let _ = write!(memory, "{:X}\r\n", chunk.len());
    memory.extend_from_slice(chunk);
    memory.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::rc::Rc;

    use futures_util::task::noop_waker;
    use proptest::prelude::*;

    use super::*;

    /// What the upstream gives, turn by turn; the last turn ends with the answer.
    #[derive(Clone, Default)]
    struct Given(Rc<RefCell<VecDeque<Option<Bytes>>>>);

    impl MessageBody for Given {
        type Error = std::convert::Infallible;

        fn size(&self) -> BodySize {
            BodySize::Stream
        }

        fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
            match self.0.borrow_mut().pop_front() {
                Some(Some(bytes)) => Poll::Ready(Some(Ok(bytes))),
                Some(None) => Poll::Ready(None),
                None => Poll::Pending,
            }
        }
    }

    /// A client that takes so many bytes a turn.
    #[derive(Default)]
    struct Client {
        room: usize,
        taken: Vec<u8>,
        writes: usize,
    }

    impl AsyncWrite for Client {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let count = bytes.len().min(self.room);
            if count == 0 {
                return Poll::Pending;
            }
            self.room -= count;
            self.writes += 1;
            self.taken.extend_from_slice(&bytes[..count]);
            Poll::Ready(Ok(count))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// actix's part: its buffer, which it fills up to a limit and empties after that.
    struct Server {
        given: Given,
        body: BoxBody,
        passing: Passing,
        outlet: Outlet,
        rest: Rest,
        buffer: BytesMut,
        client: Client,
        has_ended: bool,
    }

    const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";
    const LIMIT: usize = 40;

    impl Server {
        fn answering() -> Self {
            let given = Given::default();
            let (body, buffer) = (BoxBody::new(given.clone()), BytesMut::from(HEAD));
            let outlet = Outlet::default();
            // As it was when the request had been read.
            outlet.flushed();
            let passing = Passing::behind_a_head(&outlet);
            let (rest, client) = (Rest::default(), Client::default());
            Self { given, body, passing, outlet, rest, buffer, client, has_ended: false }
        }

        fn turn(&mut self, chunks: &[Option<&[u8]>], room: usize) {
            let given = chunks.iter().map(|chunk| chunk.map(Bytes::copy_from_slice));
            self.given.0.borrow_mut().extend(given);
            self.client.room = room;
            let waker = noop_waker();
            let cx = &mut Context::from_waker(&waker);
            loop {
                let mut is_full = self.buffer.len() >= LIMIT;
                while !self.has_ended && !is_full {
                    match self.passing.poll_next(&self.outlet, &mut self.body, cx) {
                        Poll::Ready(Some(bytes)) => {
                            let mut framed = BytesMut::new();
                            frame(&bytes.unwrap(), &mut framed);
                            self.buffer.extend_from_slice(&framed);
                        }
                        Poll::Ready(None) => {
                            self.buffer.extend_from_slice(b"0\r\n\r\n");
                            self.has_ended = true;
                        }
                        Poll::Pending => break,
                    }
                    is_full = self.buffer.len() >= LIMIT;
                }
                if self.flush(cx).is_pending() || !is_full {
                    return;
                }
            }
        }

        fn flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
            while !self.buffer.is_empty() {
                let _ = ready!(self.rest.poll_written(&self.outlet, &mut self.client, cx));
                let written = ready!(Pin::new(&mut self.client).poll_write(cx, &self.buffer)).unwrap();
                self.buffer.advance(written);
            }
            let _ = ready!(self.rest.poll_written(&self.outlet, &mut self.client, cx));
            self.outlet.flushed();
            Poll::Ready(())
        }
    }

    /// The head, and the data of the chunks behind it; `None` where the last chunk is missing.
    fn read(mut taken: &[u8]) -> Option<Vec<u8>> {
        taken = taken.strip_prefix(HEAD)?;
        let mut data = Vec::new();
        loop {
            let line = taken.windows(2).position(|pair| pair == b"\r\n")?;
            let size = usize::from_str_radix(std::str::from_utf8(&taken[..line]).ok()?, 16).ok()?;
            let (chunk, rest) = taken[line + 2..].split_at_checked(size)?;
            data.extend_from_slice(chunk);
            taken = rest.strip_prefix(b"\r\n")?;
            if size == 0 {
                return taken.is_empty().then_some(data);
            }
        }
    }

    #[test]
    fn a_chunk_that_comes_alone_goes_past_actix_and_several_go_together() {
        const MUCH: usize = 1 << 20;
        let mut server = Server::answering();
        server.turn(&[], MUCH);
        server.turn(&[Some(b"one")], MUCH);
        assert!(server.client.taken.ends_with(b"3\r\none\r\n") && server.rest.0.capacity() == 0);
        assert_eq!(MEMORY.with_borrow(|memory| memory.to_vec()), b"3\r\none\r\n");
        let before = server.client.writes;
        server.turn(&[Some(b"two"), Some(b"three"), Some(b"four")], MUCH);
        assert_eq!(server.client.writes - before, 1);
        server.turn(&[Some(b"five"), None], MUCH);
        assert_eq!(server.client.writes - before, 2);
        assert_eq!(read(&server.client.taken).unwrap(), b"onetwothreefourfive");
        assert_eq!(MEMORY.with_borrow(|memory| memory.to_vec()), b"3\r\none\r\n", "nothing else went there");
    }

    proptest! {
        #[test]
        fn whatever_comes_together_and_however_slow_the_client_is_it_gets_all_in_order(
            turns in prop::collection::vec((prop::collection::vec(prop::collection::vec(any::<u8>(), 1..30), 0..4), 0_usize..60), 1..20)
        ) {
            let mut server = Server::answering();
            for (chunks, room) in &turns {
                server.turn(&chunks.iter().map(|chunk| Some(&chunk[..])).collect::<Vec<_>>(), *room);
            }
            server.turn(&[None], 0);
            for _ in 0..100 {
                server.turn(&[], 50);
            }
            let given: Vec<u8> = turns.iter().flat_map(|(chunks, _)| chunks.concat()).collect();
            prop_assert_eq!(read(&server.client.taken), Some(given));
            prop_assert_eq!(server.rest.0.capacity(), 0);
        }
    }
}
