//! The guarded awc client.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::http::{Method, StatusCode, header::HeaderMap};
use bytes::Bytes;
use futures_core::Stream;

use crate::azure::endpoint::Endpoint;

/// One per worker thread; cheap to clone, not `Send`.
#[derive(Clone)]
pub struct UpstreamClient;

/// What to send. `headers` must hold everything but `host` and `content-length`, which the client sets.
pub struct UpstreamRequest {
    pub endpoint: Arc<Endpoint>,
    pub method: Method,
    /// Begins with `/`, after the endpoint's prefix.
    pub path_and_query: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub connect_timeout: Duration,
    /// From now to the complete response head.
    pub head_timeout: Duration,
    /// Longest silence inside the body.
    pub idle_timeout: Duration,
}

pub struct UpstreamResponse {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: UpstreamBody,
}

/// The answer's bytes. Ends with `None` only when the answer was whole; dropping it closes the connection.
pub struct UpstreamBody {}

impl Stream for UpstreamBody {
    type Item = Result<Bytes, UpstreamError>;

    fn poll_next(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(None)
    }
}

/// Why there is no (whole) answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// Nothing was sent: name not found, refused, unreachable, TLS failed, timed out.
    #[error("no connection: {0}")]
    Connect(String),
    /// Sent, but no response head in time.
    #[error("no response head in time")]
    HeadTimeout,
    /// The connection ended before a response head.
    #[error("connection closed before a response")]
    Closed,
    /// The head was no acceptable HTTP/1.1 response.
    #[error("invalid response: {0}")]
    Invalid(String),
    /// The body was cut.
    #[error("response cut")]
    Truncated,
    /// The body stood still.
    #[error("response stood still")]
    Idle,
}

impl UpstreamClient {
    pub async fn send(&self, _request: UpstreamRequest) -> Result<UpstreamResponse, UpstreamError> {
        Err(UpstreamError::Closed)
    }
}
