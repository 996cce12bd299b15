//! Which headers cross the gateway: an allow-list each way.
//!
//! Azure answers more than ten custom headers with 431, and a client's credential must never travel on.

use actix_web::http::header::{self, AsHeaderName, HeaderMap, HeaderName, HeaderValue};

use crate::azure::endpoint::Kind;
use crate::azure::headers::{self as azure_headers, Figures};
use crate::fleet::credential::Authorization;
use crate::fleet::deployment::Deployment;
use crate::upstream::lines::HeaderLines;

/// The support id of Azure's answers.
static UPSTREAM_ID: HeaderName = HeaderName::from_static("apim-request-id");
/// The same for OpenAI's; Azure puts the model's own id there.
static OPENAI_ID: HeaderName = HeaderName::from_static("x-request-id");
/// What they call the client's own.
static AZURES_CLIENT_ID: HeaderName = HeaderName::from_static("x-ms-client-request-id");
static OPENAIS_CLIENT_ID: HeaderName = HeaderName::from_static("x-client-request-id");

/// What one attempt sends.
pub fn to_upstream(
    accept: Option<&HeaderValue>,
    request_id: &HeaderValue,
    deployment: &Deployment,
    authorization: &Authorization,
) -> HeaderLines {
    let mut headers = HeaderLines::default();
    headers.insert(authorization.name.clone(), authorization.value.clone());
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(accept) = accept {
        headers.insert(header::ACCEPT, accept.clone());
    }
    headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("aoai-gateway/", env!("CARGO_PKG_VERSION"))));
    let request_id_name = match deployment.kind {
        Kind::Azure => &AZURES_CLIENT_ID,
        Kind::OpenAi => &OPENAIS_CLIENT_ID,
    };
    headers.insert(request_id_name.clone(), request_id.clone());
    headers
}

/// The id under which the upstream's support finds an answer.
pub fn upstream_id(headers: &HeaderMap) -> Option<&str> {
    text(headers, &UPSTREAM_ID).or_else(|| text(headers, &OPENAI_ID))
}

/// What an answer says of its deployment's quota.
pub fn figures(headers: &HeaderMap) -> Figures {
    azure_headers::figures(headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())))
}

/// Whether an upstream response header reaches the client. Azure's own rate limits describe one member of the pool.
pub fn passes_back(name: &HeaderName) -> bool {
    matches!(name.as_str(), "content-type" | "content-disposition" | "apim-request-id" | "x-ms-region")
        || name.as_str().starts_with("openai-")
}

/// The header's text, when it is text.
pub fn text(headers: &HeaderMap, name: impl AsHeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}
