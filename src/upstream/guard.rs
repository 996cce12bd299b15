//! One connection under watch: the stream that awc reads and writes, with everything taken out that awc gets wrong.
//!
//! Whatever the peer does, awc reads whole single answers or an error with a [`Fault`] inside. A failed write is not
//! an error while an answer may still be read: a server that refuses a large body says why before it closes. An idle
//! connection that says anything, or that ends, is never used again. Bytes go straight into awc's buffer; only heads
//! in pieces and re-framed answers are copied. A body in chunks that takes its time is read past awc ([`tap`]). Decides
//! nothing about retries and knows no deadlines.

pub(super) mod tap;

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use actix_rt::net::{ActixStream, Ready};
use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::error::{Ending, Fault, Stale};
use super::framing::{Accepted, Framer, Progress};
use super::transport::Route;
use tap::Tap;

/// A guarded connection. One pointer wide, because awc moves it several times per request; shared with the [`Tap`] of the
/// answer that is being read.
pub(super) struct Guard(Rc<RefCell<Connection>>);

/// The stream below: plain only where the settings say `http://`.
pub(super) enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

struct Connection {
    /// None once the connection must not be used again.
    wire: Option<Wire>,
    /// The tap has read it, and nobody has asked for it yet.
    unread: BytesMut,
    framer: Framer,
    phase: Phase,
    route: Rc<Route>,
    /// Requests begun on this connection.
    requests: u32,
    /// Whether the peer has said anything since the current request began.
    heard: bool,
    /// Whether what awc still writes is thrown away, because nobody reads it any more.
    deaf: bool,
    /// How the peer's side ended, when that was seen while a request was being sent.
    ended: Option<Ending>,
}

/// What awc is doing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    Sending,
    Receiving,
    /// It reads no more: the tap does, up to the end of the body.
    Bypassed,
}

impl Guard {
    pub(super) fn new(wire: Wire, route: Rc<Route>) -> Self {
        Self(Rc::new(RefCell::new(Connection {
            wire: Some(wire),
            route,
            framer: Framer::new(),
            phase: Phase::Idle,
            requests: 0,
            heard: false,
            deaf: false,
            ended: None,
            unread: BytesMut::new(),
        })))
    }
}

impl Connection {
    /// awc's pool asks whether an idle connection is usable; `Pending` means yes.
    fn check_idle(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.route.wants_fresh() {
            self.wire = None;
        }
        let ending = match &mut self.wire {
            None => Ending::Closed,
            Some(wire) => {
                let mut scratch = [MaybeUninit::uninit(); 16];
                let mut buffer = ReadBuf::uninit(&mut scratch);
                match ready!(Pin::new(wire).poll_read(cx, &mut buffer)) {
                    Ok(()) => Ending::Closed,
                    Err(error) => Ending::of(&error),
                }
            }
        };
        self.wire = None;
        Poll::Ready(Err(self.fault(ending)))
    }

    /// awc reads the answer.
    fn receive(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let ready = self.framer.ready();
            if !ready.is_empty() {
                let count = ready.len().min(buffer.remaining());
                buffer.put_slice(&ready[..count]);
                self.framer.delivered(count);
                self.settle();
                return Poll::Ready(Ok(()));
            }
            if let Progress::Broken(violation) = self.framer.progress() {
                self.wire = None;
                return Poll::Ready(Err(Fault::Invalid(violation).into_io()));
            }
            let wire = match (&mut self.wire, self.ended) {
                (Some(wire), None) => wire,
                (_, ended) => return Poll::Ready(Err(self.fault(ended.unwrap_or(Ending::Closed)))),
            };
            let before = buffer.filled().len();
            let read = ready!(Pin::new(wire).poll_read(cx, buffer));
            let ending = match read {
                Err(error) => Some(Ending::of(&error)),
                Ok(()) if buffer.filled().len() == before => (!self.framer.end()).then_some(Ending::Closed),
                Ok(()) => {
                    self.heard = true;
                    let passed = match self.framer.accept(&buffer.filled()[before..]) {
                        Accepted::Pass(count) => count,
                        Accepted::Held => 0,
                    };
                    buffer.set_filled(before + passed);
                    if passed > 0 {
                        self.settle();
                        return Poll::Ready(Ok(()));
                    }
                    None
                }
            };
            if let Some(ending) = ending {
                self.wire = None;
                return Poll::Ready(Err(self.fault(ending)));
            }
        }
    }

    /// Ends the exchange when awc has got all of the answer.
    fn settle(&mut self) {
        if self.framer.progress() == Progress::Whole && self.framer.ready().is_empty() {
            self.phase = Phase::Idle;
            if self.deaf || !self.framer.is_reusable() {
                self.wire = None;
            }
        }
    }

    /// awc sends: `write` moves some bytes.
    fn send<T>(
        &mut self,
        cx: &mut Context<'_>,
        thrown_away: T,
        write: impl FnOnce(Pin<&mut Wire>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if matches!(self.phase, Phase::Receiving | Phase::Bypassed) {
            // An answer is not finished; another request here would get the rest of it.
            self.wire = None;
            return Poll::Ready(Err(self.fault(Ending::Closed)));
        }
        if self.deaf {
            return Poll::Ready(Ok(thrown_away));
        }
        let Some(wire) = &mut self.wire else { return Poll::Ready(Err(self.fault(Ending::Closed))) };
        match write(Pin::new(wire), cx) {
            Poll::Ready(Ok(written)) => return Poll::Ready(Ok(written)),
            Poll::Ready(Err(_)) => self.deaf = true,
            Poll::Pending => self.deaf = self.answered_early(cx),
        }
        if self.deaf { Poll::Ready(Ok(thrown_away)) } else { Poll::Pending }
    }

    /// While the peer takes no more bytes: has it refused the request, or gone?
    fn answered_early(&mut self, cx: &mut Context<'_>) -> bool {
        while self.framer.progress() == Progress::Head {
            let Some(wire) = &mut self.wire else { return true };
            let mut scratch = [MaybeUninit::uninit(); 2048];
            let mut buffer = ReadBuf::uninit(&mut scratch);
            match Pin::new(wire).poll_read(cx, &mut buffer) {
                Poll::Pending => return false,
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    self.heard = true;
                    if let Accepted::Pass(count) = self.framer.accept(buffer.filled()) {
                        self.framer.keep(&buffer.filled()[..count]);
                    }
                }
                Poll::Ready(Ok(())) => {
                    self.ended = Some(Ending::Closed);
                    return true;
                }
                Poll::Ready(Err(error)) => {
                    self.ended = Some(Ending::of(&error));
                    return true;
                }
            }
        }
        // A success may be streamed while the request still is; anything else is the end of the matter.
        !(200..300).contains(&self.framer.status())
    }

    fn fault(&self, ending: Ending) -> io::Error {
        let fault = match self.framer.progress() {
            Progress::Idle | Progress::Head | Progress::Whole => {
                let stale = if self.requests > 1 && !self.heard { Stale::Perhaps } else { Stale::No };
                Fault::BeforeHead { ending, stale }
            }
            Progress::Body => Fault::InBody(ending),
            Progress::Broken(violation) => Fault::Invalid(violation),
        };
        fault.into_io()
    }
}

impl AsyncRead for Guard {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let connection = &mut *self.0.borrow_mut();
        match connection.phase {
            Phase::Idle => connection.check_idle(cx),
            Phase::Sending | Phase::Receiving => {
                connection.phase = Phase::Receiving;
                let had_head = connection.framer.progress() != Progress::Head;
                let received = connection.receive(cx, buffer);
                if !had_head && connection.framer.is_chunked() {
                    connection.route.offer(Tap(Rc::clone(&self.0)));
                }
                received
            }
            // Nobody asks; a bare error, because what awc has of the body is not all of it.
            Phase::Bypassed => Poll::Ready(Err(connection.fault(Ending::Closed))),
        }
    }
}

impl AsyncWrite for Guard {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let connection = &mut *self.0.borrow_mut();
        if connection.phase == Phase::Idle {
            connection.phase = Phase::Sending;
            connection.framer.begin();
            connection.requests = connection.requests.saturating_add(1);
            connection.heard = false;
        }
        connection.send(cx, bytes.len(), |wire, cx| wire.poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let connection = &mut *self.0.borrow_mut();
        match connection.phase {
            Phase::Sending => connection.send(cx, (), |wire, cx| wire.poll_flush(cx)),
            Phase::Idle | Phase::Receiving | Phase::Bypassed => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0.borrow_mut().wire {
            Some(wire) => Pin::new(wire).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl ActixStream for Guard {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        match &self.0.borrow().wire {
            Some(wire) => wire.tcp().poll_read_ready(cx).map_ok(|()| Ready::READABLE),
            None => Poll::Ready(Ok(Ready::READ_CLOSED)),
        }
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        match &self.0.borrow().wire {
            Some(wire) => wire.tcp().poll_write_ready(cx).map_ok(|()| Ready::WRITABLE),
            None => Poll::Ready(Ok(Ready::WRITE_CLOSED)),
        }
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("requests", &self.0.borrow().requests).finish_non_exhaustive()
    }
}

impl Wire {
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.get_ref().0,
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, buffer),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Self::Tls(tls) => Pin::new(tls).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}
