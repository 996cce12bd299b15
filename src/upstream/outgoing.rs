//! A request's body on its way out.
//!
//! awc copies whatever piece it is given into its write buffer at once. So a body may come in pieces that nobody had to
//! join, and long ones leave in slices: in between, the thread serves other requests.

use std::cell::Cell;
use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_http::body::{BodySize, MessageBody};
use bytes::Bytes;
use futures_core::stream::LocalBoxStream;
use smallvec::SmallVec;

use crate::domain::time::{self, Timestamp};

/// A body, in the order in which it is sent.
pub type Pieces = SmallVec<[Bytes; 3]>;

const SLICE: usize = 256 * 1024;

#[derive(Debug)]
pub(super) struct Outgoing {
    pieces: Pieces,
    next: usize,
}

impl Outgoing {
    pub(super) fn new(pieces: Pieces) -> Self {
        Self { pieces, next: 0 }
    }
}

impl MessageBody for Outgoing {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.pieces.iter().skip(self.next).map(|piece| piece.len() as u64).sum())
    }

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        let this = self.get_mut();
        while let Some(piece) = this.pieces.get_mut(this.next) {
            let slice = piece.split_to(piece.len().min(SLICE));
            if piece.is_empty() {
                this.next += 1;
            }
            // An empty chunk would end a body before its time.
            if !slice.is_empty() {
                return Poll::Ready(Some(Ok(slice)));
            }
        }
        Poll::Ready(None)
    }
}

/// Whoever sends the body sends no more of it; they know why.
#[derive(Debug)]
pub struct SenderGone;

impl fmt::Display for SenderGone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the body's sender has given up")
    }
}

impl std::error::Error for SenderGone {}

/// A body that comes in while it goes out.
pub struct Upload {
    /// None: sent in chunks.
    pub length: Option<u64>,
    pub bytes: LocalBoxStream<'static, Result<Bytes, SenderGone>>,
}

/// Whom an upload waits for.
pub(super) struct Pace {
    /// When the upstream last asked for more.
    moved: Cell<Timestamp>,
    /// The sender has nothing at the moment; its time is its reader's business.
    waits_for_sender: Cell<bool>,
}

impl Pace {
    pub(super) fn begin() -> Rc<Self> {
        Rc::new(Self { moved: Cell::new(time::now()), waits_for_sender: Cell::new(false) })
    }

    /// How much of `patience` with the upstream is left.
    pub(super) fn left(&self, patience: Duration) -> Duration {
        if self.waits_for_sender.get() {
            patience
        } else {
            patience.saturating_sub(time::now().since(self.moved.get()))
        }
    }
}

/// An upload on its way, as awc takes it.
pub(super) struct Uploading {
    upload: Upload,
    pace: Rc<Pace>,
}

impl Uploading {
    pub(super) fn new(upload: Upload, pace: Rc<Pace>) -> Self {
        Self { upload, pace }
    }
}

impl MessageBody for Uploading {
    type Error = SenderGone;

    fn size(&self) -> BodySize {
        self.upload.length.map_or(BodySize::Stream, BodySize::Sized)
    }

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, SenderGone>>> {
        let this = self.get_mut();
        loop {
            let polled = this.upload.bytes.as_mut().poll_next(cx);
            this.pace.waits_for_sender.set(polled.is_pending());
            this.pace.moved.set(time::now());
            match polled {
                // It would end the body before its time.
                Poll::Ready(Some(Ok(bytes))) if bytes.is_empty() => {}
                other => return other,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use smallvec::smallvec;

    use super::*;

    #[actix_rt::test]
    async fn every_byte_leaves_once_in_order_and_in_slices() {
        let long = Bytes::from((0..SLICE * 2 + 5).map(|n| n as u8).collect::<Vec<_>>());
        let pieces: Pieces = smallvec![Bytes::from_static(b"{"), Bytes::new(), long.clone(), Bytes::from_static(b"}")];
        let whole = pieces.concat();
        let mut body = Outgoing::new(pieces);
        assert_eq!(body.size(), BodySize::Sized(whole.len() as u64));
        let mut sent = Vec::new();
        while let Some(Ok(slice)) = poll_fn(|cx| Pin::new(&mut body).poll_next(cx)).await {
            assert!((1..=SLICE).contains(&slice.len()));
            sent.extend_from_slice(&slice);
        }
        assert_eq!(sent, whole);
        assert_eq!(Outgoing::new(Pieces::new()).size(), BodySize::Sized(0));
    }
}
