//! A request's body on its way out.
//!
//! awc copies whatever piece it is given into its write buffer at once. So a body may come in pieces that nobody had to
//! join, and long ones leave in slices: in between, the thread serves other requests.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_http::body::{BodySize, MessageBody};
use bytes::Bytes;
use smallvec::SmallVec;

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
