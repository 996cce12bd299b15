//! Reads a request's body whole, within limits, or says why not.
//!
//! Decides what a body may cost: bytes, time between chunks, time in all, memory. Everything that the head gives away
//! is refused before a byte is read. It decodes nothing: what is compressed is refused, as a few hundred bytes of
//! brotli unpack to a gigabyte. HTTP status codes are given in `error`.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, EXPECT, HeaderMap, UPGRADE};
use bytes::{Bytes, BytesMut};
use futures_core::Stream;

use super::alarm::Alarm;
use super::phase::Watch;
use crate::domain::time;
use crate::openai::multipart::FormError;
use crate::proxy::upload::Cut;

/// Room taken at once for a body that announces its length; for more, its bytes must have begun to come.
const TAKEN_ON_TRUST: usize = 256 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyLimits {
    pub bytes: usize,
    /// Between two chunks.
    pub idle: Duration,
    /// From the first look at the body to its end.
    pub total: Duration,
}

/// How much of a body has come with its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// All of it: actix hands it on within the same turn.
    Whole,
    Unknown,
}

impl Arrival {
    pub fn of(request: &HttpRequest) -> Self {
        let is_whole = request.conn_data::<Rc<Watch>>().is_some_and(|watch| watch.has_whole_body());
        if is_whole { Self::Whole } else { Self::Unknown }
    }
}

/// Texts are for the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// 413
    #[error("The request body is larger than the {limit} bytes this gateway takes. Send less text or smaller files.")]
    TooLarge { limit: usize },
    /// 415
    #[error("Compressed request bodies are not taken. Send the body without Content-Encoding.")]
    Encoded,
    /// 417
    #[error("The Expect header asks for something other than 100-continue. Send the request without it.")]
    Expectation,
    /// 400
    #[error("This path does not switch protocols. Send the request without the Upgrade header.")]
    Upgrade,
    /// 408
    #[error("The request body did not arrive in time. Send it again over a faster connection.")]
    Slow,
    /// 400; or the client left, and nobody reads it. actix does not tell the two apart.
    #[error(
        "The request body ended too early or its chunks are malformed. Check what stands between client and gateway."
    )]
    Broken,
    /// 400
    #[error(transparent)]
    Form(#[from] FormError),
    /// 507
    #[error(
        "The gateway has no room for a form whose `model` comes behind a long file. Put `model` before the file, or tell your admin."
    )]
    Disk,
}

impl From<Cut> for BodyError {
    fn from(cut: Cut) -> Self {
        match cut {
            Cut::TooLarge { limit } => Self::TooLarge { limit },
            Cut::Slow => Self::Slow,
            Cut::Broken => Self::Broken,
            Cut::Form(error) => Self::Form(error),
            Cut::Disk => Self::Disk,
        }
    }
}

/// Takes the payload by reference so that what is left of it is dropped with the request, after the answer.
pub async fn read(request: &HttpRequest, payload: &mut Payload, limits: BodyLimits) -> Result<Bytes, BodyError> {
    gather(request.headers(), payload, limits, Arrival::of(request)).await
}

async fn gather(
    headers: &HeaderMap,
    payload: &mut Payload,
    limits: BodyLimits,
    arrival: Arrival,
) -> Result<Bytes, BodyError> {
    let announced = admit(headers, limits.bytes)?;
    let mut clock = Clock::start(limits, arrival);
    let Some(first) = next(payload, &mut clock).await? else {
        return Ok(Bytes::new());
    };
    let fits =
        |length: usize| if length > limits.bytes { Err(BodyError::TooLarge { limit: limits.bytes }) } else { Ok(()) };
    fits(first.len())?;
    let Some(second) = next(payload, &mut clock).await? else {
        return Ok(first);
    };
    fits(first.len() + second.len())?;
    let mut body = BytesMut::with_capacity(room(first.len() + second.len(), announced, limits.bytes));
    body.extend_from_slice(&first);
    body.extend_from_slice(&second);
    drop((first, second));
    while let Some(chunk) = next(payload, &mut clock).await? {
        let length = body.len() + chunk.len();
        fits(length)?;
        if length > body.capacity() {
            body.reserve(room(length, announced, limits.bytes) - body.len());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// What the head alone rules out; gives the announced length.
pub(super) fn admit(headers: &HeaderMap, limit: usize) -> Result<Option<usize>, BodyError> {
    // Together with a Content-Length this makes actix read a body that has no end.
    let is = |value: &[u8], word: &str| value.trim_ascii().eq_ignore_ascii_case(word.as_bytes());
    if headers.get_all(UPGRADE).any(|value| value.as_bytes().split(|b| *b == b',').any(|item| is(item, "websocket"))) {
        return Err(BodyError::Upgrade);
    }
    if headers.get_all(EXPECT).any(|value| !is(value.as_bytes(), "100-continue")) {
        return Err(BodyError::Expectation);
    }
    if headers.get_all(CONTENT_ENCODING).any(|value| !is(value.as_bytes(), "identity")) {
        return Err(BodyError::Encoded);
    }
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.trim().parse::<u64>().ok());
    match announced {
        Some(length) if length > limit as u64 => Err(BodyError::TooLarge { limit }),
        Some(length) => Ok(usize::try_from(length).ok()),
        None => Ok(None),
    }
}

/// How much to reserve when `length` bytes are there: what was announced, as far as it is small or as far as it grows
/// in proportion to what has come.
fn room(length: usize, announced: Option<usize>, limit: usize) -> usize {
    let trusted = TAKEN_ON_TRUST.max(length.saturating_mul(2));
    announced.unwrap_or(length.saturating_mul(2)).min(trusted).min(limit).max(length)
}

struct Clock {
    alarm: Alarm,
    limits: BodyLimits,
    began: time::Timestamp,
    /// When the last chunk came.
    moved: time::Timestamp,
    arrival: Arrival,
}

impl Clock {
    fn start(limits: BodyLimits, arrival: Arrival) -> Self {
        let now = time::now();
        Self { alarm: Alarm::default(), limits, began: now, moved: now, arrival }
    }

    fn deadline(&self) -> time::Timestamp {
        self.began.after(self.limits.total).min(self.moved.after(self.limits.idle))
    }
}

/// A chunk that is there already takes no timer, and neither does one that has come together with the head: actix hands that
/// on when this task has been polled once.
async fn next(payload: &mut Payload, clock: &mut Clock) -> Result<Option<Bytes>, BodyError> {
    let mut waited = false;
    let item = poll_fn(|cx| {
        if let Poll::Ready(item) = Pin::new(&mut *payload).poll_next(cx) {
            return Poll::Ready(Ok(item));
        }
        if std::mem::replace(&mut clock.arrival, Arrival::Unknown) == Arrival::Whole {
            return Poll::Pending;
        }
        waited = true;
        let deadline = clock.deadline();
        clock.alarm.poll(deadline, cx).map(|()| Err(BodyError::Slow))
    })
    .await?;
    if waited {
        clock.moved = time::now();
        // A drip that never pauses for `idle` never waits for the alarm either.
        if clock.moved > clock.began.after(clock.limits.total) {
            return Err(BodyError::Slow);
        }
    }
    item.transpose().map_err(|error: PayloadError| {
        tracing::debug!(%error, "request body broken off");
        BodyError::Broken
    })
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};
    use futures_util::StreamExt;
    use futures_util::stream;

    use super::*;

    const LIMITS: BodyLimits =
        BodyLimits { bytes: 1000, idle: Duration::from_millis(50), total: Duration::from_millis(200) };

    async fn read(headers: &HeaderMap, payload: &mut Payload, limits: BodyLimits) -> Result<Bytes, BodyError> {
        gather(headers, payload, limits, Arrival::Unknown).await
    }

    fn headers(pairs: &[(HeaderName, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    /// These chunks, then silence without an end.
    fn stalling(chunks: &[&'static [u8]]) -> Payload {
        let chunks: Vec<_> = chunks.iter().map(|chunk| Ok(Bytes::from_static(chunk))).collect();
        Payload::Stream { payload: stream::iter(chunks).chain(stream::pending()).boxed_local() }
    }

    fn whole(chunks: Vec<Bytes>) -> Payload {
        Payload::Stream { payload: stream::iter(chunks.into_iter().map(Ok)).boxed_local() }
    }

    async fn refusal(pairs: &[(HeaderName, &'static str)]) -> BodyError {
        // A body that never comes: whatever answers has not waited for it.
        let limits = BodyLimits { idle: Duration::from_secs(3600), total: Duration::from_secs(3600), ..LIMITS };
        read(&headers(pairs), &mut stalling(&[]), limits).await.unwrap_err()
    }

    #[actix_rt::test]
    async fn the_head_alone_is_enough_to_refuse() {
        assert_eq!(refusal(&[(CONTENT_LENGTH, "1001")]).await, BodyError::TooLarge { limit: 1000 });
        assert_eq!(refusal(&[(CONTENT_LENGTH, "18446744073709551615")]).await, BodyError::TooLarge { limit: 1000 });
        for encoding in ["gzip", "br", "zstd", "deflate", "identity, gzip", "x", ""] {
            assert_eq!(refusal(&[(CONTENT_ENCODING, encoding)]).await, BodyError::Encoded, "{encoding}");
        }
        assert_eq!(refusal(&[(CONTENT_ENCODING, "identity"), (CONTENT_ENCODING, "br")]).await, BodyError::Encoded);
        assert_eq!(refusal(&[(UPGRADE, "WebSocket"), (CONTENT_LENGTH, "5")]).await, BodyError::Upgrade);
        assert_eq!(refusal(&[(EXPECT, "the-spanish-inquisition")]).await, BodyError::Expectation);
    }

    #[actix_rt::test]
    async fn harmless_headers_pass() {
        for pair in [(CONTENT_ENCODING, "Identity"), (EXPECT, "100-Continue"), (UPGRADE, "h2c"), (CONTENT_LENGTH, "4")]
        {
            let body = read(&headers(&[pair]), &mut whole(vec![Bytes::from_static(b"1234")]), LIMITS).await;
            assert_eq!(body.unwrap(), "1234");
        }
    }

    #[actix_rt::test]
    async fn one_chunk_is_handed_on_without_a_copy() {
        let chunk = Bytes::from(vec![b'x'; 500]);
        let body = read(&HeaderMap::new(), &mut whole(vec![chunk.clone()]), LIMITS).await.unwrap();
        assert_eq!(body.as_ptr(), chunk.as_ptr());
    }

    #[actix_rt::test]
    async fn chunks_are_joined_up_to_the_limit_and_not_beyond() {
        let chunks = |count: usize| (0..count).map(|n| Bytes::from(vec![n as u8; 10])).collect::<Vec<_>>();
        let body = read(&HeaderMap::new(), &mut whole(chunks(100)), LIMITS).await.unwrap();
        assert_eq!(body, chunks(100).concat());
        let error = read(&HeaderMap::new(), &mut whole(chunks(101)), LIMITS).await.unwrap_err();
        assert_eq!(error, BodyError::TooLarge { limit: 1000 });
        let error = read(&HeaderMap::new(), &mut whole(vec![Bytes::from(vec![0; 1001])]), LIMITS).await.unwrap_err();
        assert_eq!(error, BodyError::TooLarge { limit: 1000 });
    }

    #[actix_rt::test]
    async fn silence_ends_at_the_idle_limit() {
        let began = time::now();
        assert_eq!(read(&HeaderMap::new(), &mut stalling(&[b"{"]), LIMITS).await.unwrap_err(), BodyError::Slow);
        assert!(time::now().since(began) < Duration::from_secs(20));
    }

    #[actix_rt::test]
    async fn a_drip_ends_at_the_total_limit() {
        let drip = stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(5)).await; // bounded: the drip itself, ended by the limit
            Some((Ok(Bytes::from_static(b"x")), ()))
        });
        let mut payload = Payload::Stream { payload: drip.boxed_local() };
        let limits = BodyLimits { idle: Duration::from_secs(20), bytes: usize::MAX, ..LIMITS };
        assert_eq!(read(&HeaderMap::new(), &mut payload, limits).await.unwrap_err(), BodyError::Slow);
    }

    #[test]
    fn a_promise_of_bytes_takes_no_memory() {
        const MIB: usize = 1 << 20;
        assert_eq!(room(100, Some(32 * MIB), 32 * MIB), TAKEN_ON_TRUST, "a promise alone");
        assert_eq!(room(2 * MIB, Some(32 * MIB), 32 * MIB), 4 * MIB, "in proportion to what came");
        assert_eq!(room(20 * MIB, Some(32 * MIB), 32 * MIB), 32 * MIB);
        assert_eq!(room(40_000, Some(102_400), 32 * MIB), 102_400, "one allocation for an ordinary body");
        assert_eq!(room(40_000, None, 32 * MIB), 80_000, "chunked");
        assert_eq!(room(900, Some(1000), 1000), 1000);
    }
}
