//! One accepted connection: the TCP stream beneath actix, with the deadlines that actix does not keep.
//!
//! Decides when a connection has had its time: a request's head must be whole within `head`, the second one's too;
//! between requests it may rest for `idle`; bytes that the peer does not take are kept for `write_stall`. It does not
//! parse HTTP: actix says when a request began and when its answer is done, and the one thing looked for here is the
//! empty line after a head. Bodies have their deadlines in [`super::body`], answers in the code that makes them.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::alarm::Alarm;
use super::outlet::Rest;
use super::phase::{Overdue, Watch};
use crate::domain::time::{self, Timestamp};
use crate::proxy::bell::Listener;

/// Bytes, not a response object: it is written past actix, which knows of no request yet.
const HEAD_TOO_SLOW: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// From the first byte of a head (for the first one: from the accept) to its last.
    pub head: Duration,
    /// Between an answer and the next request.
    pub idle: Duration,
    /// Without the peer taking a single byte.
    pub write_stall: Duration,
}

/// What actix reads from and writes to.
pub struct Connection {
    io: TcpStream,
    watch: Rc<Watch>,
    deadlines: Deadlines,
    alarm: Alarm,
    /// Wakes a connection that rests when the worker's are to end.
    draining: Listener,
    /// Since when the peer has taken nothing.
    blocked: Option<Timestamp>,
    stall: Alarm,
    /// Of a chunk that went past actix, what the peer has not taken yet: before all that actix writes.
    rest: Rest,
}

impl Connection {
    /// Nagle's algorithm goes off here: with it, a chunk of a stream waits up to 40 ms for the client's delayed
    /// acknowledgement of the one before.
    pub fn accept(io: TcpStream, deadlines: Deadlines, draining: Listener) -> Self {
        if let Err(error) = io.set_nodelay(true) {
            tracing::debug!(%error, "no TCP_NODELAY on an accepted connection");
        }
        let watch = Rc::new(Watch::new(time::now()));
        let (alarm, stall) = (Alarm::default(), Alarm::default());
        Self { io, watch, deadlines, alarm, draining, blocked: None, stall, rest: Rest::default() }
    }

    /// For whoever sees requests begin and answers end.
    pub fn watch(&self) -> &Rc<Watch> {
        &self.watch
    }

    /// Ready when the peer has used up its time to send a request.
    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<Overdue> {
        // An answer that is still on its way out is not idleness.
        if self.blocked.is_some() {
            return Poll::Pending;
        }
        match self.watch.deadline(self.deadlines.head, self.deadlines.idle) {
            Some((deadline, overdue)) => {
                // actix asks for itself once it has its turn.
                let _ = self.draining.poll_rung(cx);
                self.alarm.poll(deadline, cx).map(|()| overdue)
            }
            None => Poll::Pending,
        }
    }

    /// Ready when nothing is left of what goes to the peer before all that actix writes.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let before = self.rest.len();
        match self.rest.poll_written(self.watch.outlet(), &mut self.io, cx) {
            Poll::Ready(None) => Poll::Ready(Ok(())),
            Poll::Ready(Some(written)) => {
                self.taken();
                Poll::Ready(written)
            }
            Poll::Pending => {
                if self.rest.len() < before {
                    self.blocked = None;
                }
                self.poll_stalled(cx).map(Err)
            }
        }
    }

    /// The peer has taken what there was.
    fn taken(&mut self) {
        if self.blocked.take().is_some() {
            self.watch.rest_began(time::now());
        }
    }

    /// The peer takes nothing: wait, but not for ever.
    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let since = *self.blocked.get_or_insert_with(time::now);
        self.stall.poll(since.after(self.deadlines.write_stall), cx).map(|()| {
            // A reset frees what the kernel holds for this peer at once.
            if let Err(error) = self.io.set_zero_linger() {
                tracing::debug!(%error, "no reset for a stalled connection");
            }
            tracing::info!(unread_for = ?self.deadlines.write_stall, "connection aborted, the client stopped reading");
            io::Error::new(io::ErrorKind::TimedOut, "the peer stopped reading")
        })
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // Clients wait for this side to end first, and actix would wait for them to end their part of the session.
        if this.watch.is_over() {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut this.io).poll_read(cx, buf) {
            this.watch.received(&buf.filled()[before..]);
            return Poll::Ready(read);
        }
        this.poll_overdue(cx).map(|overdue| {
            if overdue == Overdue::Head {
                // Nothing of an answer is on its way, so a socket that does not take this at once is not worth more.
                let _ = this.io.try_write(HEAD_TOO_SLOW);
            }
            tracing::debug!(?overdue, "connection closed, no request came in time");
            // An end of file makes actix close in good order.
            Ok(())
        })
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_rest(cx))?;
        match Pin::new(&mut this.io).poll_write(cx, bytes) {
            Poll::Ready(written) => {
                this.taken();
                Poll::Ready(written)
            }
            Poll::Pending => this.poll_stalled(cx).map(Err),
        }
    }

    /// actix ends each of its turns with this when all is written, so this is where the wait for the next request is
    /// armed (after an answer it does not read again before it is woken), and where a broken answer ends.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_rest(cx))?;
        this.watch.outlet().flushed();
        if this.watch.is_broken() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the answer broke off")));
        }
        if this.poll_overdue(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        Pin::new(&mut this.io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::proxy::bell::Bell;

    async fn accept() -> (Connection, TcpStream) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (io, _) = listener.accept().await.unwrap();
        assert!(!io.nodelay().unwrap(), "the system's default is what needs changing");
        let second = Duration::from_secs(1);
        let deadlines = Deadlines { head: second, idle: second, write_stall: second };
        (Connection::accept(io, deadlines, Bell::default().listen()), client)
    }

    #[actix_rt::test]
    async fn an_accepted_connection_sends_small_chunks_at_once() {
        assert!(accept().await.0.io.nodelay().unwrap());
    }

    #[actix_rt::test]
    async fn a_chunk_past_actix_comes_before_all_that_actix_writes() {
        let (mut accepted, mut client) = accept().await;
        accepted.watch().outlet().leave(Bytes::from_static(b"one"));
        accepted.write_all(b"0\r\n").await.unwrap();
        accepted.watch().outlet().leave(Bytes::from_static(b"two"));
        accepted.flush().await.unwrap();
        drop(accepted);
        let mut taken = Vec::new();
        client.read_to_end(&mut taken).await.unwrap();
        assert_eq!(taken, b"3\r\none\r\n0\r\n3\r\ntwo\r\n");
    }
}
