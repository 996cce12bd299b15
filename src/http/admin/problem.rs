//! Problems of the admin plane, after RFC 9457: what is wrong, where (a JSON pointer), and what was expected.

use std::fmt;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, CONTENT_TYPE, ETAG, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, HttpResponseBuilder};
use serde_json::{Value, json};

use crate::domain::scope::Scope;
use crate::settings::Mistake;
use crate::storage::StorageError;

#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    title: &'static str,
    detail: String,
    /// As they are answered.
    errors: Vec<Value>,
    beside: Beside,
    of_the_database: bool,
}

/// What some statuses say in a header.
#[derive(Debug)]
enum Beside {
    Nothing,
    /// What a 405 must name.
    Allow(String),
    RetryAfter(Duration),
    /// The state that is there now.
    Tag(String),
}

/// One wrong member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// RFC 6901; empty for the body as a whole.
    pub pointer: String,
    pub detail: String,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.pointer, self.detail)
    }
}

impl Problem {
    fn new(status: StatusCode, title: &'static str, detail: impl Into<String>) -> Self {
        let (errors, beside, of_the_database) = (Vec::new(), Beside::Nothing, false);
        Self { status, title, detail: detail.into(), errors, beside, of_the_database }
    }

    /// For whoever counts its errors.
    pub(super) fn is_of_the_database(&self) -> bool {
        self.of_the_database
    }

    pub(super) fn unauthenticated() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Unauthenticated", "send the admin key as `Authorization: Bearer KEY`")
    }

    /// A key that is good for less.
    pub(super) fn forbidden(needed: Scope) -> Self {
        let detail = format!("this admin key lacks the scope `{needed}`; use one that has it");
        Self::new(StatusCode::FORBIDDEN, "Forbidden", detail)
    }

    /// Somebody else changed it since it was read.
    pub(super) fn changed_meanwhile(tag: String) -> Self {
        let detail = "it is not as `If-Match` says any more: somebody changed it since you read it. GET it again, look at \
                      what is different, and send the change with the new ETag";
        Self { beside: Beside::Tag(tag), ..Self::new(StatusCode::PRECONDITION_FAILED, "Changed meanwhile", detail) }
    }

    /// Too many wrong admin keys came from where this comes from.
    pub(super) fn throttled(wait: Duration) -> Self {
        let detail = "too many wrong admin keys came from your address; wait before the next try";
        Self {
            beside: Beside::RetryAfter(wait),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, "Too many requests", detail)
        }
    }

    pub(super) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "Unavailable", detail)
    }

    /// An Idempotency-Key that was used for another request.
    pub(super) fn key_mismatch() -> Self {
        let detail = "this Idempotency-Key was used for another request; take a new one for each thing you do";
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Idempotency-Key mismatch", detail)
    }

    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "Not found", detail)
    }

    pub(super) fn wrong_method(allowed: String) -> Self {
        let detail = format!("this path takes {allowed}");
        Self {
            beside: Beside::Allow(allowed),
            ..Self::new(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed", detail)
        }
    }

    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "Bad request", detail)
    }

    pub(super) fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "Conflict", detail)
    }

    pub(super) fn shutting_down() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "Unavailable", "the gateway is shutting down")
    }

    /// Settings that were refused: every mistake with its place.
    pub(super) fn settings(mistakes: Vec<Mistake>) -> Self {
        let error = |Mistake { key, told, file, line }| json!({ "pointer": key, "detail": told, "key": key, "file": file, "line": line });
        let errors = mistakes.into_iter().map(error).collect();
        let title = "Settings refused";
        Self { errors, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, title, "the previous settings stay in force") }
    }

    /// 422 with every wrong member.
    pub(super) fn invalid(errors: Vec<FieldError>) -> Self {
        let detail = match errors.len() {
            1 => "1 field is wrong".to_owned(),
            count => format!("{count} fields are wrong"),
        };
        let error = |FieldError { pointer, detail }| json!({ "pointer": pointer, "detail": detail });
        let errors = errors.into_iter().map(error).collect();
        Self { errors, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid request", detail) }
    }

    pub(super) fn unknown_parameter(name: &str, allowed: &[&str]) -> Self {
        let detail = format!("unknown query parameter; {}", did_you_mean(name, allowed));
        Self::invalid(vec![FieldError { pointer: format!("?{}", super::call::printable(name)), detail }])
    }

    pub(super) fn parameter(name: &str, expected: &str) -> Self {
        Self::invalid(vec![FieldError { pointer: format!("?{name}"), detail: format!("expected {expected}") }])
    }

    pub(super) fn response(self, instance: &str, request_id: &str) -> HttpResponse {
        let mut body = json!({
            "type": "about:blank",
            "title": self.title,
            "status": self.status.as_u16(),
            "detail": self.detail,
            "instance": instance,
            "request_id": request_id,
        });
        if !self.errors.is_empty() {
            body["errors"] = Value::from(self.errors);
        }
        let mut response = HttpResponseBuilder::new(self.status);
        response.insert_header((CONTENT_TYPE, HeaderValue::from_static("application/problem+json")));
        match self.beside {
            Beside::Nothing => {}
            Beside::Allow(allowed) => {
                response.insert_header((ALLOW, allowed));
            }
            Beside::RetryAfter(wait) => {
                response.insert_header((RETRY_AFTER, wait.as_secs_f64().ceil().to_string()));
            }
            Beside::Tag(tag) => {
                response.insert_header((ETAG, tag));
            }
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.insert_header((WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")));
        }
        response.body(body.to_string())
    }
}

impl From<StorageError> for Problem {
    fn from(error: StorageError) -> Self {
        tracing::error!(%error, "the admin plane could not use the database");
        let detail = "the database cannot be used right now; the log says why";
        Self { of_the_database: true, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "Unavailable", detail) }
    }
}

/// For a name that is not among those allowed.
pub fn did_you_mean(name: &str, allowed: &[&str]) -> String {
    let close = allowed.iter().max_by(|a, b| strsim::jaro_winkler(name, a).total_cmp(&strsim::jaro_winkler(name, b)));
    match close {
        // Two letters of a short name that changed places look like another name to the first measure.
        Some(close) if strsim::jaro_winkler(name, close) > 0.8 || strsim::osa_distance(name, close) == 1 => {
            format!("did you mean `{close}`?")
        }
        _ => format!("expected one of: {}", allowed.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_hand_is_known_and_another_word_is_not() {
        let limits = ["rpm", "tpm", "concurrency"];
        for (slip, meant) in [("rmp", "rpm"), ("tpn", "tpm"), ("rp", "rpm"), ("concurency", "concurrency")] {
            assert_eq!(did_you_mean(slip, &limits), format!("did you mean `{meant}`?"), "{slip}");
        }
        assert_eq!(did_you_mean("colour", &limits), "expected one of: rpm, tpm, concurrency");
    }
}
