//! The handshake of a WebSocket as a server sees it: its key, what the address and the offered subprotocols say, and the
//! switch of protocols.
//!
//! Refusals are plain HTTP, before the switch, with the same statuses as everywhere else. Browsers can set no header on a
//! WebSocket, so the key may come as a subprotocol or in the address too; it goes no further, and into no log. What is
//! served over it is decided elsewhere.

use actix_http::ws::hash_key;
use actix_web::http::ConnectionType;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, ResponseError};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;

use super::auth;
use super::error::ApiError;
use crate::limits::Callers;

/// What a browser's client puts its key behind.
const KEY_PROTOCOL: &str = "openai-insecure-api-key.";
/// What clients of OpenAI's preview say, in a header or as a subprotocol.
const BETA_HEADER: &str = "realtime=v1";
const BETA_PROTOCOL: &str = "openai-beta.realtime-v1";

/// Whether a request wants to become a WebSocket, well or badly.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    tokens(headers, header::UPGRADE).any(|token| token.eq_ignore_ascii_case("websocket"))
}

/// The key of the WebSocket handshake, which proves that both sides mean one; `None` when this is no such handshake.
pub(super) fn key_of(request: &HttpRequest) -> Result<Option<Vec<u8>>, ApiError> {
    let headers = request.headers();
    let is_thirteen = headers.get(header::SEC_WEBSOCKET_VERSION).is_some_and(|version| version == "13");
    if request.head().connection_type() != ConnectionType::Upgrade || !is_wanted(headers) || !is_thirteen {
        return Ok(None);
    }
    let has_body = headers.contains_key(header::CONTENT_LENGTH) || headers.contains_key(header::TRANSFER_ENCODING);
    let key = headers.get(header::SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes);
    let is_key = |key: &&[u8]| STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 16);
    match key.filter(is_key).filter(|_| !has_body) {
        Some(key) => Ok(Some(key.to_vec())),
        None => Err(ApiError::malformed_handshake()),
    }
}

/// 426, which must name what to upgrade to.
pub(super) fn upgrade_required() -> HttpResponse {
    let mut response = ApiError::upgrade_required().error_response();
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    response
}

fn tokens(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

/// The answer to a handshake with that key.
pub(super) fn switched(key: &[u8], protocol: Option<&str>) -> HttpResponseBuilder {
    let mut response = HttpResponse::SwitchingProtocols();
    response.upgrade("websocket");
    // Twenty-eight letters of Base64.
    if let Ok(accept) = HeaderValue::from_bytes(&hash_key(key)) {
        response.insert_header((header::SEC_WEBSOCKET_ACCEPT, accept));
    }
    if let Some(protocol) = protocol {
        response.insert_header((header::SEC_WEBSOCKET_PROTOCOL, protocol));
    }
    response
}

/// What the address and the offered subprotocols say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) model: Option<String>,
    pub(super) intent: Option<String>,
    pub(super) key: Option<String>,
    /// The one that is answered; a browser wants one of its own back.
    pub(super) protocol: Option<String>,
    pub(super) is_beta: bool,
}

impl Asked {
    pub(super) fn of(request: &HttpRequest) -> Self {
        let headers = request.headers();
        let mut asked = Self::read(request.query_string(), tokens(headers, header::SEC_WEBSOCKET_PROTOCOL));
        asked.is_beta |= tokens(headers, HeaderName::from_static("openai-beta")).any(|token| token == BETA_HEADER);
        asked
    }

    fn read<'h>(query: &str, protocols: impl Iterator<Item = &'h str>) -> Self {
        let mut asked = Self::default();
        for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            let member = match name {
                "model" | "deployment" => &mut asked.model,
                "intent" => &mut asked.intent,
                "api-key" => &mut asked.key,
                _ => continue,
            };
            let value = percent_decode_str(value).decode_utf8_lossy().into_owned();
            member.get_or_insert(value);
        }
        for protocol in protocols {
            if let Some(key) = protocol.strip_prefix(KEY_PROTOCOL) {
                asked.key.get_or_insert_with(|| key.to_owned());
                continue;
            }
            asked.is_beta |= protocol == BETA_PROTOCOL;
            asked.protocol.get_or_insert_with(|| protocol.to_owned());
        }
        asked
    }

    /// The key as it was sent, wherever it stands.
    pub(super) fn key_sent(&self, headers: &HeaderMap, callers: &Callers) -> Option<String> {
        auth::sent(headers, callers).map(str::to_owned).or_else(|| self.key.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_and_the_subprotocols_are_read() {
        let query = "api-version=2025-04-01-preview&deployment=my%20dep&api-key=sk%2Dq&call_id=1&intent=transcription";
        let asked = Asked::read(query, std::iter::empty());
        assert_eq!((asked.model.as_deref(), asked.key.as_deref()), (Some("my dep"), Some("sk-q")));
        assert_eq!((asked.intent.as_deref(), asked.protocol), (Some("transcription"), None));

        let offered = ["realtime", "openai-insecure-api-key.sk-gw-1", "openai-beta.realtime-v1"];
        let asked = Asked::read("model=a&model=b", offered.into_iter());
        assert_eq!((asked.model.as_deref(), asked.key.as_deref()), (Some("a"), Some("sk-gw-1")));
        assert_eq!(asked.protocol.as_deref(), Some("realtime"), "never the one with the key");
        assert!(asked.is_beta && !Asked::default().is_beta);
    }
}
