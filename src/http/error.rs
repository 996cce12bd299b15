//! The only place where a refusal becomes a status: every house error, its OpenAI envelope and its retry headers.

mod limited;

use std::fmt;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue};
use actix_web::{HttpResponse, ResponseError};

use super::body::BodyError;
use crate::accounting::recorder::LedgerFull;
use crate::domain::regions::Regions;
use crate::openai::error::{ErrorBody, ErrorKind};
use crate::openai::multipart::FormError;
use crate::openai::request::PeekError;
use crate::proxy::exchange::Unserved;

/// When another try may end otherwise though nobody can say when: a request in flight may have left something over.
const SOON: Duration = Duration::from_secs(1);

/// A refusal as the client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    pub status: StatusCode,
    pub body: ErrorBody,
    pub retry_after: Option<Duration>,
    /// Whether the same request is refused again however soon it comes: SDKs are told not to try.
    pub is_settled: bool,
    /// What a 405 must name.
    pub allow: Option<&'static str>,
    /// The model that the client named, where it is about one.
    pub model: Option<Box<str>>,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, kind: ErrorKind, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            body: ErrorBody { message: message.into(), kind, param: None, code },
            retry_after: None,
            is_settled: false,
            allow: None,
            model: None,
        }
    }

    pub(super) fn invalid(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self::new(status, ErrorKind::InvalidRequest, code, message)
    }

    fn after(self, retry_after: Duration) -> Self {
        Self { retry_after: Some(retry_after), ..self }
    }

    /// What cannot be served could perhaps be elsewhere, where the caller's key does not let it go.
    pub fn within(mut self, regions: &Regions) -> Self {
        if regions.named().is_some() {
            self.body.message.push_str(&format!(" Your key is limited to these regions: {regions}."));
        }
        self
    }

    /// What tells a client whether and when to come back.
    pub(super) fn retry_headers(&self) -> Vec<(&'static str, String)> {
        let mut headers = Vec::new();
        if let Some(wait) = self.retry_after {
            // Both, rounded up: whoever follows either comes back when there is room.
            let milliseconds = u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
            headers.push(("retry-after", milliseconds.div_ceil(1000).to_string()));
            headers.push(("retry-after-ms", milliseconds.to_string()));
            // OpenAI's SDKs heed it before the status.
            headers.push(("x-should-retry", "true".to_owned()));
        }
        if self.is_settled {
            headers.push(("x-should-retry", "false".to_owned()));
        }
        headers
    }

    fn of_model(mut self, model: &str) -> Self {
        self.model = Some(shown(model).into());
        self.about("model")
    }

    pub(super) fn about(mut self, param: &'static str) -> Self {
        self.body.param = Some(param);
        self
    }

    /// No key, an unknown one, a revoked or an expired one: all the same to a stranger.
    pub fn invalid_key() -> Self {
        let message = "The API key is missing or not valid. Send a key of this gateway as `Authorization: Bearer KEY` or as \
                       `api-key: KEY`; ask your admin for one.";
        Self::invalid(StatusCode::UNAUTHORIZED, "invalid_api_key", message)
    }

    pub fn model_not_allowed(model: &str, usable: &str) -> Self {
        let message = format!("This key may not use the model `{}`. It may use: {usable}.", shown(model));
        Self::invalid(StatusCode::FORBIDDEN, "model_not_allowed", message).of_model(model)
    }

    /// The model is deployed, and nowhere in the key's regions.
    pub fn region_not_allowed(model: &str, regions: &Regions, usable: &str) -> Self {
        let message = format!(
            "The model `{}` is not deployed in the regions that this key is limited to ({regions}). It may use: {usable}.",
            shown(model)
        );
        Self::invalid(StatusCode::FORBIDDEN, "model_not_allowed", message).about("model")
    }

    pub fn model_not_found(model: &str, usable: &str) -> Self {
        let message = format!("The model `{}` does not exist here. This key may use: {usable}.", shown(model));
        Self::invalid(StatusCode::NOT_FOUND, "model_not_found", message).of_model(model)
    }

    pub fn missing_model() -> Self {
        let message = "The request body names no `model`. Add one; GET /v1/models lists what there is.";
        Self::invalid(StatusCode::BAD_REQUEST, "missing_model", message).about("model")
    }

    pub fn session_without_model() -> Self {
        let message = "The address of this session names no model. Add `?model=…` (or Azure's `?deployment=…`); GET /v1/models \
                       lists what there is. Only with `intent=transcription` it may be left out, for a key that may use a model \
                       whose name has `transcribe` in it.";
        Self::invalid(StatusCode::BAD_REQUEST, "missing_model", message).about("model")
    }

    /// The model is served by Azure alone.
    pub fn no_judge(name: &str) -> Self {
        let message = format!(
            "The model `{}` judges no text. Leave `model` out, or name a moderation model such as `omni-moderation-latest`.",
            shown(name)
        );
        Self::invalid(StatusCode::BAD_REQUEST, "unsupported_model", message).about("model")
    }

    /// A plain request where a WebSocket is served.
    pub fn upgrade_required() -> Self {
        let message = "This path serves sessions over WebSocket. Connect with a WebSocket client: a GET with `Upgrade: \
                       websocket`, `Connection: Upgrade` and `Sec-WebSocket-Version: 13`; a proxy in between must pass these \
                       on.";
        Self::invalid(StatusCode::UPGRADE_REQUIRED, "upgrade_required", message)
    }

    /// Of a session of responses.
    pub fn unknown_event(kind: &str) -> Self {
        let message = format!(
            "`{}` is no event that is served here. Send `response.create` with the members of a create call; to cancel a \
             response, close the connection.",
            shown(kind)
        );
        Self::invalid(StatusCode::BAD_REQUEST, "unknown_event", message).about("type")
    }

    pub fn malformed_handshake() -> Self {
        let message = "This WebSocket handshake is malformed: it needs a `Sec-WebSocket-Key` of 16 bytes in Base64, and has \
                       no body.";
        Self::invalid(StatusCode::BAD_REQUEST, "malformed_handshake", message)
    }

    pub fn invalid_api_version(version: &str) -> Self {
        let message = format!(
            "`{}` is no api-version. Use a dated one such as 2024-10-21, or the /openai/v1 paths without one.",
            shown(version)
        );
        Self::invalid(StatusCode::BAD_REQUEST, "invalid_api_version", message).about("api-version")
    }

    pub fn unknown_path(path: &str, tip: &str) -> Self {
        Self::invalid(StatusCode::NOT_FOUND, "unknown_path", format!("There is nothing at `{}`. {tip}", shown(path)))
    }

    pub fn wrong_method(allowed: &'static str) -> Self {
        let message = format!("This path takes {allowed} only.");
        let refusal = Self::invalid(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message);
        Self { allow: Some(allowed), ..refusal }
    }

    /// Unknown, expired, or another key's: all the same.
    pub fn response_not_found(id: &str) -> Self {
        let message = format!(
            "There is no response `{}` of this key. Responses are kept for 30 days, and not at all when they were asked for \
             with `store: false`.",
            shown(id)
        );
        Self::invalid(StatusCode::NOT_FOUND, "response_not_found", message)
    }

    pub fn previous_response_not_found(id: &str) -> Self {
        let mut refusal = Self::response_not_found(id).about("previous_response_id");
        refusal.body.code = "previous_response_not_found";
        refusal.body.message += " Send the conversation in `input` instead.";
        refusal
    }

    /// An item of an earlier response that the input names: as unknown as the response would be.
    pub fn item_not_found(id: &str) -> Self {
        let message = format!(
            "There is no item `{}` of this key's responses. Items are kept with their response; send its contents instead.",
            shown(id)
        );
        Self::invalid(StatusCode::NOT_FOUND, "item_not_found", message).about("input")
    }

    pub fn kept_apart() -> Self {
        let message = "What this request refers to is kept in different places, and no one of them has it all. Send the \
                       conversation in `input` instead.";
        Self::invalid(StatusCode::BAD_REQUEST, "kept_apart", message).about("input")
    }

    /// What keeps the response has left the settings.
    pub fn response_gone(id: &str) -> Self {
        let message = format!(
            "The response `{}` is kept by a resource that this gateway no longer uses. Begin anew, without \
             `previous_response_id`.",
            shown(id)
        );
        Self::invalid(StatusCode::GONE, "response_gone", message)
    }

    /// What keeps the response does not serve the model asked for.
    pub fn model_without_response(model: &str, id: &str) -> Self {
        let message = format!(
            "The model `{}` is not served where the response `{}` is kept. Go on with that response's model, or send the \
             conversation in `input` instead.",
            shown(model),
            shown(id)
        );
        Self::invalid(StatusCode::BAD_REQUEST, "model_without_previous_response", message).about("model")
    }

    pub fn unsupported(param: &'static str, instead: &str) -> Self {
        let message = format!("`{param}` is not served by this version of the gateway. {instead}");
        Self::invalid(StatusCode::BAD_REQUEST, "unsupported_parameter", message).about(param)
    }

    /// Nobody could ever read its end.
    pub fn background_unstored() -> Self {
        let message =
            "A response in the background must be stored, or nobody can read its end. Leave `store: false` out.";
        Self::invalid(StatusCode::BAD_REQUEST, "background_not_stored", message).about("store")
    }

    /// Where a response is kept could not be read.
    pub fn pins_unreadable() -> Self {
        let message = "The gateway cannot read where this response is kept right now. Try again shortly.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, ErrorKind::Server, "database_unavailable", message)
            .after(Duration::from_secs(1))
    }

    pub fn usage_unreadable() -> Self {
        let message = "The gateway cannot read what this key has used right now. Try again shortly.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, ErrorKind::Server, "database_unavailable", message)
            .after(Duration::from_secs(1))
    }

    pub fn internal() -> Self {
        let message = "The gateway failed on this request; its log says why under the request's x-request-id.";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, ErrorKind::Server, "internal_error", message)
    }
}

/// A client's own text inside a message: bounded, and without what could garble a log or a terminal.
pub(super) fn shown(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(100).collect()
}

impl From<BodyError> for ApiError {
    fn from(error: BodyError) -> Self {
        let (status, code) = match error {
            BodyError::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "request_too_large"),
            BodyError::Encoded => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_encoding"),
            BodyError::Expectation => (StatusCode::EXPECTATION_FAILED, "unsupported_expectation"),
            BodyError::Upgrade => (StatusCode::BAD_REQUEST, "unsupported_upgrade"),
            BodyError::Slow => (StatusCode::REQUEST_TIMEOUT, "request_timeout"),
            BodyError::Broken => (StatusCode::BAD_REQUEST, "incomplete_body"),
            BodyError::Form(FormError::Twice(_)) => (StatusCode::BAD_REQUEST, "duplicate_field"),
            BodyError::Form(_) => (StatusCode::BAD_REQUEST, "invalid_form"),
            BodyError::Disk => (StatusCode::INSUFFICIENT_STORAGE, "no_room_for_form"),
        };
        Self::invalid(status, code, error.to_string())
    }
}

impl From<PeekError> for ApiError {
    fn from(error: PeekError) -> Self {
        let (code, param) = match error {
            PeekError::Invalid(_) => ("invalid_json", None),
            PeekError::Duplicate(name) => ("duplicate_field", Some(name)),
            PeekError::Type { name, .. } => ("invalid_type", Some(name)),
        };
        let mut refusal = Self::invalid(StatusCode::BAD_REQUEST, code, error.to_string());
        refusal.body.param = param;
        refusal
    }
}

impl From<LedgerFull> for ApiError {
    fn from(_: LedgerFull) -> Self {
        let message = "The gateway cannot write its ledger right now and takes no request that it could not account for. \
                       Try again shortly.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, ErrorKind::Server, "accounting_unavailable", message).after(SOON)
    }
}

impl From<Unserved> for ApiError {
    fn from(unserved: Unserved) -> Self {
        let server = |code, message: String| Self::new(status_of(unserved), ErrorKind::Server, code, message);
        match unserved {
            Unserved::Exhausted { retry_after } => {
                let message = format!("Every deployment of this model is busy. Try again in {}.", seconds(retry_after));
                let kind = ErrorKind::Requests;
                Self::new(status_of(unserved), kind, "upstream_exhausted", message).after(retry_after)
            }
            Unserved::Unavailable { retry_after } => {
                let message = format!("No deployment of this model works at the moment. Try again in {}.", seconds(retry_after));
                server("upstream_unavailable", message).after(retry_after)
            }
            Unserved::PinBusy { retry_after } => {
                let message =
                    format!(
                        "What this request refers to is at a resource that is busy, and nothing else has it. Try again in {}.",
                        seconds(retry_after)
                    );
                let kind = ErrorKind::Requests;
                Self::new(status_of(unserved), kind, "upstream_exhausted", message).after(retry_after)
            }
            Unserved::PinUnavailable { retry_after } => {
                let message = format!(
                    "What this request refers to is at a resource that does not work at the moment, and nothing else has it. Try \
                     again in {}, or begin anew without it.",
                    seconds(retry_after)
                );
                server("upstream_unavailable", message).after(retry_after)
            }
            Unserved::InvalidResponse => server(
                "upstream_invalid_response",
                "Every deployment that was tried sent something that is no answer. Try again; if it goes on, tell your admin.".into(),
            )
            .after(SOON),
            Unserved::UnknownModel => {
                let message = "The model that this request asked for has just left the settings. GET /v1/models lists what \
                               there is now.";
                Self::invalid(status_of(unserved), "model_not_found", message).about("model")
            }
            Unserved::NotThere => {
                let message = "None of the resources has this API, or something that the request names. Check its names, and the \
                               `api_version` of the resources.";
                Self::invalid(status_of(unserved), "not_found_upstream", message)
            }
            Unserved::LedgerLost => Self::from(LedgerFull),
        }
    }
}

fn status_of(unserved: Unserved) -> StatusCode {
    StatusCode::from_u16(unserved.status()).unwrap_or(StatusCode::SERVICE_UNAVAILABLE)
}

/// Whole seconds, rounded up, for people.
fn seconds(duration: Duration) -> String {
    match duration.as_secs_f64().ceil() {
        seconds if seconds <= 1.0 => "1 second".to_owned(),
        seconds => format!("{seconds} seconds"),
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.body.message)
    }
}

impl std::error::Error for ApiError {}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        response.insert_header((CONTENT_TYPE, HeaderValue::from_static("application/json")));
        if let Some(allowed) = self.allow {
            response.insert_header((ALLOW, HeaderValue::from_static(allowed)));
        }
        for (name, value) in self.retry_headers() {
            response.insert_header((HeaderName::from_static(name), value));
        }
        response.body(self.body.to_json())
    }
}
