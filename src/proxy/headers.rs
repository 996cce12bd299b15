//! Which headers cross the gateway: an allow-list each way.
//!
//! Azure answers more than ten custom headers with 431, and a client's credential must never travel on.

use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::azure;
use crate::fleet::deployment::Deployment;

/// The support id of Azure's answers.
pub const UPSTREAM_ID: &str = "apim-request-id";

/// What one attempt sends; `None` when the resource's key cannot be a header value.
pub fn to_upstream(
    accept: Option<&HeaderValue>,
    request_id: &HeaderValue,
    deployment: &Deployment,
) -> Option<HeaderMap> {
    let mut key = HeaderValue::from_str(deployment.api_key.expose()).ok()?;
    key.set_sensitive(true);
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(HeaderName::from_static(azure::request::KEY_HEADER), key);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(accept) = accept {
        headers.insert(header::ACCEPT, accept.clone());
    }
    headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("aoai-gateway/", env!("CARGO_PKG_VERSION"))));
    headers.insert(HeaderName::from_static("x-ms-client-request-id"), request_id.clone());
    Some(headers)
}

/// Whether an upstream response header reaches the client. Azure's own rate limits describe one member of the pool.
pub fn passes_back(name: &HeaderName) -> bool {
    matches!(name.as_str(), "content-type" | UPSTREAM_ID | "x-ms-region") || name.as_str().starts_with("openai-")
}

/// The header's text, when it is text.
pub fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
