//! The bytes of an answer, with a limit on silence.
//!
//! Counts only the time spent waiting for the upstream, never the time the consumer takes. Holds back nothing: what
//! the consumer does not ask for stays in the socket.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use actix_http::Payload;
use actix_http::error::PayloadError;
use bytes::Bytes;
use futures_core::Stream;
use tokio::time::Sleep;

use super::error::{Ending, Fault, UpstreamError};
use super::guard::tap::Tap;
use crate::domain::time::{self, Timestamp};

/// The answer's bytes. Ends with `None` only when the answer was whole, so after an error it keeps returning that
/// error; dropping it early closes the connection.
pub struct UpstreamBody {
    state: State,
    /// Since when the consumer has been waiting for more.
    silent_since: Option<Timestamp>,
    /// When the timer rings, and whom it wakes.
    rings_at: Timestamp,
    wakes: Option<Waker>,
    /// Came with the head's deadline; serves the silences of the body from the first one on.
    timer: Pin<Box<Sleep>>,
    idle_timeout: Duration,
}

enum State {
    Open(Source),
    Whole,
    Failed { error: UpstreamError, ending: Option<Ending> },
}

/// Where the bytes come from: awc, or its connection itself.
struct Source {
    payload: Payload,
    tap: Option<Tap>,
    is_tapped: bool,
}

impl Source {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Failure>>> {
        if !self.is_tapped {
            match Pin::new(&mut self.payload).poll_next(cx) {
                Poll::Pending => self.is_tapped = self.tap.as_ref().is_some_and(Tap::begin),
                Poll::Ready(chunk) => return Poll::Ready(chunk.map(|chunk| chunk.map_err(|error| of_awc(&error)))),
            }
            // awc has just found nothing, and whoever waits is to be woken.
            return Poll::Pending;
        }
        match self.tap.as_ref().map(|tap| tap.poll_data(cx)) {
            Some(Poll::Pending) => Poll::Pending,
            Some(Poll::Ready(Ok(Some(data)))) => Poll::Ready(Some(Ok(data))),
            Some(Poll::Ready(Err(error))) => {
                Poll::Ready(Some(Err(of_connection(&error).unwrap_or_else(|| unknown(&error)))))
            }
            Some(Poll::Ready(Ok(None))) | None => {
                (self.tap, self.is_tapped) = (None, false);
                self.poll_next(cx)
            }
        }
    }
}

impl UpstreamBody {
    pub(super) fn new(payload: Payload, tap: Option<Tap>, idle_timeout: Duration, timer: Pin<Box<Sleep>>) -> Self {
        Self {
            state: State::Open(Source { payload, tap, is_tapped: false }),
            idle_timeout,
            timer,
            silent_since: None,
            rings_at: Timestamp::ZERO,
            wakes: None,
        }
    }

    /// How the connection ended, once the body has failed because of that; for logs.
    pub fn ending(&self) -> Option<Ending> {
        match &self.state {
            State::Open(_) | State::Whole => None,
            State::Failed { ending, .. } => *ending,
        }
    }

    fn fail(&mut self, error: UpstreamError, ending: Option<Ending>) -> Poll<Option<Result<Bytes, UpstreamError>>> {
        // The payload goes, and with it the connection.
        self.state = State::Failed { error: error.clone(), ending };
        Poll::Ready(Some(Err(error)))
    }

    /// Ready when the upstream has been silent for too long.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut now = time::now();
        let since = *self.silent_since.get_or_insert(now);
        // The timer is not moved on every chunk, nor even looked at: when it rings, the rest of the current silence is
        // waited for.
        if now < self.rings_at && self.wakes.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        loop {
            if now >= self.rings_at {
                let rest = self.idle_timeout.saturating_sub(now.since(since));
                if rest.is_zero() {
                    return Poll::Ready(());
                }
                self.timer.set(tokio::time::sleep(rest));
                self.rings_at = now.after(rest);
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                self.wakes = Some(cx.waker().clone());
                return Poll::Pending;
            }
            now = time::now().max(self.rings_at);
        }
    }
}

impl Stream for UpstreamBody {
    type Item = Result<Bytes, UpstreamError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let body = self.get_mut();
        let source = match &mut body.state {
            State::Open(source) => source,
            State::Whole => return Poll::Ready(None),
            State::Failed { error, .. } => return Poll::Ready(Some(Err(error.clone()))),
        };
        match source.poll_next(cx) {
            Poll::Ready(Some(Ok(chunk))) => {
                body.silent_since = None;
                Poll::Ready(Some(Ok(chunk)))
            }
            Poll::Ready(None) => {
                body.state = State::Whole;
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err((error, ending)))) => body.fail(error, ending),
            Poll::Pending => {
                ready!(body.poll_silence(cx));
                body.fail(UpstreamError::Idle, None)
            }
        }
    }
}

/// What a body failed with, and how its connection ended where that is why.
type Failure = (UpstreamError, Option<Ending>);

fn of_awc(error: &PayloadError) -> Failure {
    let known = match error {
        PayloadError::Io(inner) | PayloadError::Incomplete(Some(inner)) => of_connection(inner),
        _ => None,
    };
    known.unwrap_or_else(|| unknown(error))
}

fn of_connection(error: &io::Error) -> Option<Failure> {
    Fault::find(error).map(|fault| match fault {
        Fault::InBody(ending) => (fault.into(), Some(*ending)),
        Fault::Connect(_) | Fault::BeforeHead { .. } | Fault::Invalid(_) => (fault.into(), None),
    })
}

fn unknown(error: &dyn std::error::Error) -> Failure {
    (UpstreamError::Invalid(error.to_string()), None)
}
