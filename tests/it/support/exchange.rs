//! One exchange with an upstream, and what came of it.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::Method;
use actix_web::http::header::{HeaderName, HeaderValue};
use aoai_gateway::azure::endpoint::Endpoint;
use aoai_gateway::upstream::client::{
    UpstreamBody, UpstreamClient, UpstreamConfig, UpstreamError, UpstreamRequest, UpstreamResponse,
};
use aoai_gateway::upstream::lines::HeaderLines;
use bytes::Bytes;
use futures_util::StreamExt;
use smallvec::smallvec;

pub fn client() -> UpstreamClient {
    UpstreamClient::new(&UpstreamConfig::new(&[]).unwrap())
}

pub fn post(endpoint: Arc<Endpoint>, body: impl Into<Bytes>) -> UpstreamRequest {
    let mut headers = HeaderLines::default();
    headers.insert(HeaderName::from_static("content-type"), HeaderValue::from_static("application/json"));
    headers.insert(HeaderName::from_static("api-key"), HeaderValue::from_static("azure-secret"));
    UpstreamRequest {
        endpoint,
        method: Method::POST,
        path_and_query: "/openai/deployments/gpt/chat/completions?api-version=2024-10-21".into(),
        headers,
        body: smallvec![body.into()],
        connect_timeout: Duration::from_secs(2),
        head_timeout: Duration::from_secs(20),
        idle_timeout: Duration::from_secs(20),
    }
}

/// All bytes, and the error if there was one instead of an end.
pub async fn read(body: &mut UpstreamBody) -> (Vec<u8>, Option<UpstreamError>) {
    let mut bytes = Vec::new();
    while let Some(chunk) = body.next().await {
        match chunk {
            Ok(chunk) => bytes.extend_from_slice(&chunk),
            Err(error) => return (bytes, Some(error)),
        }
    }
    (bytes, None)
}

pub async fn whole(response: Result<UpstreamResponse, UpstreamError>) -> (u16, String) {
    let mut response = response.unwrap();
    let (bytes, error) = read(&mut response.body).await;
    assert_eq!(error, None, "after {} bytes", bytes.len());
    (response.status.as_u16(), String::from_utf8(bytes).unwrap())
}

/// The error of an exchange that must not end well.
pub async fn failure(response: Result<UpstreamResponse, UpstreamError>) -> UpstreamError {
    match response {
        Err(error) => error,
        Ok(mut response) => {
            let (bytes, error) = read(&mut response.body).await;
            error.unwrap_or_else(|| panic!("a clean end after {:?}", String::from_utf8_lossy(&bytes)))
        }
    }
}
