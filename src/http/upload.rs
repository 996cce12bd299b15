//! A form as it comes in, within limits: bytes, silence, and a drip that never pauses. Nothing of it is kept here.
//!
//! How long a form may take grows with what has come of it: a large file over a slow line is fine, a connection that is
//! held open by single bytes is not.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::header::{CONTENT_TYPE, HeaderMap};
use bytes::Bytes;
use futures_core::Stream;

use super::alarm::Alarm;
use super::body::{self, BodyError, BodyLimits};
use crate::domain::time::{self, Timestamp};
use crate::openai::multipart::{self, FormError};
use crate::proxy::upload::{Cut, Upload, Watched};

/// What a line must carry on average, once `server.body_timeout` is over.
const SLOWEST_BYTES_PER_SECOND: u64 = 16 * 1024;

/// The Content-Type of a form; `None` for anything else.
pub fn form_type(headers: &HeaderMap) -> Option<&str> {
    let kind = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    kind.trim_start().get(..10).filter(|kind| kind.eq_ignore_ascii_case("multipart/")).map(|_| kind)
}

/// Takes the payload over; what the head gives away is refused before a byte is read.
pub fn begin(
    headers: &HeaderMap,
    payload: &mut Payload,
    limits: BodyLimits,
    watched: Watched,
) -> Result<Upload, BodyError> {
    let announced = body::admit(headers, limits.bytes)?;
    let boundary = multipart::boundary(form_type(headers).ok_or(FormError::NoForm)?)?;
    let now = time::now();
    let incoming = Incoming {
        payload: std::mem::replace(payload, Payload::None),
        alarm: Alarm::default(),
        limits,
        received: 0,
        began: now,
        moved: now,
    };
    Ok(Upload::new(Box::pin(incoming), announced.map(|length| length as u64), boundary, watched))
}

struct Incoming {
    payload: Payload,
    alarm: Alarm,
    limits: BodyLimits,
    received: usize,
    began: Timestamp,
    /// When the last chunk came, or was first asked for after it.
    moved: Timestamp,
}

impl Incoming {
    fn deadline(&self) -> Timestamp {
        let earned = Duration::from_secs(self.received as u64 / SLOWEST_BYTES_PER_SECOND);
        self.began.after(self.limits.total + earned).min(self.moved.after(self.limits.idle))
    }
}

impl Stream for Incoming {
    type Item = Result<Bytes, Cut>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Cut>>> {
        let this = self.get_mut();
        let Poll::Ready(item) = Pin::new(&mut this.payload).poll_next(cx) else {
            ready!(this.alarm.poll(this.deadline(), cx));
            return Poll::Ready(Some(Err(Cut::Slow)));
        };
        let now = time::now();
        // An upstream that takes its time is not the client's fault: the clock stands still while nobody asks.
        this.moved = now;
        let Some(item) = item else { return Poll::Ready(None) };
        Poll::Ready(Some(match item {
            Ok(bytes) => {
                this.received += bytes.len();
                match this.received > this.limits.bytes {
                    true => Err(Cut::TooLarge { limit: this.limits.bytes }),
                    false => Ok(bytes),
                }
            }
            Err(error) => {
                tracing::debug!(%error, "form broken off");
                Err(Cut::Broken)
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;
    use futures_util::{StreamExt, stream};

    use super::*;

    const LIMITS: BodyLimits =
        BodyLimits { bytes: 1000, idle: Duration::from_millis(50), total: Duration::from_millis(200) };

    fn incoming(payload: Payload, limits: BodyLimits) -> Incoming {
        let now = time::now();
        Incoming { payload, alarm: Alarm::default(), limits, received: 0, began: now, moved: now }
    }

    fn chunks(count: usize, size: usize) -> Payload {
        let chunk = Bytes::from(vec![b'x'; size]);
        Payload::Stream { payload: stream::iter((0..count).map(move |_| Ok(chunk.clone()))).boxed_local() }
    }

    #[actix_rt::test]
    async fn what_fits_passes_and_what_does_not_is_cut() {
        let whole: Vec<_> = incoming(chunks(10, 100), LIMITS).collect().await;
        assert!(whole.len() == 10 && whole.iter().all(Result::is_ok));
        let cut: Vec<_> = incoming(chunks(11, 100), LIMITS).collect().await;
        assert_eq!(cut.last(), Some(&Err(Cut::TooLarge { limit: 1000 })));
    }

    #[actix_rt::test]
    async fn silence_and_a_drip_are_cut() {
        let silent = Payload::Stream { payload: stream::pending().boxed_local() };
        assert_eq!(incoming(silent, LIMITS).next().await, Some(Err(Cut::Slow)));
        let drip = stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(5)).await; // bounded: the drip itself, ended by the limit
            Some((Ok(Bytes::from_static(b"x")), ()))
        });
        let limits = BodyLimits { idle: Duration::from_secs(20), ..LIMITS };
        let mut dripping = incoming(Payload::Stream { payload: drip.boxed_local() }, limits);
        let cut = loop {
            if let Some(Err(cut)) = dripping.next().await {
                break cut;
            }
        };
        assert_eq!(cut, Cut::Slow);
    }

    #[test]
    fn a_form_is_known_by_its_type() {
        let headers = |kind: &'static str| -> HeaderMap {
            [(CONTENT_TYPE, HeaderValue::from_static(kind))].into_iter().collect()
        };
        assert!(form_type(&headers("Multipart/form-data; boundary=x")).is_some());
        assert!(form_type(&headers("application/json")).is_none());
        assert!(form_type(&HeaderMap::new()).is_none());
    }
}
