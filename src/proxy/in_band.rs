//! Failures inside an answer whose head said 200: what they mean for the next attempt.
//!
//! Azure signals rate limits this way too; the head that came before may name the time.

use actix_web::http::header::HeaderMap;

use super::attempt::Broken;
use super::headers;
use crate::azure::throttle;
use crate::domain::outcome::{Fault, Outcome};
use crate::openai::responses::{self, Failure};

/// An error event.
pub(super) fn error(event: &[u8], head: &HeaderMap) -> Outcome {
    const SIGNS: [&[u8]; 6] =
        [b"rate_limit", b"too_many_requests", b"RateLimitReached", b"insufficient_quota", b"\"429\"", b"\"code\":429"];
    if SIGNS.iter().any(|sign| memchr::memmem::find(event, sign).is_some()) {
        throttle::judge(|name| headers::text(head, name), event)
    } else {
        Outcome::Faulted(Fault::InvalidResponse)
    }
}

/// A response, whole or in an event, that failed through no fault of the request.
pub(super) fn failed(text: &[u8], failure: Failure, head: &HeaderMap) -> Broken {
    let error = responses::error_in(text).unwrap_or_default();
    let outcome = match failure {
        Failure::Limited => throttle::judge(|name| headers::text(head, name), error),
        Failure::Upstream | Failure::Unsaid | Failure::Client => Outcome::Faulted(Fault::InvalidResponse),
    };
    (outcome, "status 200 with a failed response in it".into())
}
