//! A line to a running gateway: one request, one answer, no redirects and no surprises (`upstream::client` sees to that).

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use actix_web::http::uri::Scheme;
use actix_web::http::{Method, StatusCode, Uri};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use serde_json::Value;
use smallvec::SmallVec;

use super::admin_client::Failure;
use crate::azure::endpoint::Endpoint;
use crate::domain::outbound::Way;
use crate::domain::secret::Secret;
use crate::upstream::client::{UpstreamClient, UpstreamConfig, UpstreamRequest};
use crate::upstream::lines::HeaderLines;

/// Longer than the gateway takes to test a resource.
const PATIENCE: Duration = Duration::from_secs(60);
const LONGEST_ANSWER: usize = 16 << 20;

pub struct Line {
    pub url: String,
    endpoint: Arc<Endpoint>,
    authorization: HeaderValue,
}

pub struct Answered {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// Null where it is no JSON.
    pub body: Value,
    /// As it came.
    pub raw: Bytes,
}

impl Answered {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl Line {
    pub fn new(url: &str, key: &Secret) -> Result<Self, Failure> {
        let endpoint = parse(url).ok_or_else(|| Failure::Url(url.to_owned()))?;
        let mut authorization =
            HeaderValue::from_str(&format!("Bearer {}", key.expose())).map_err(|_| Failure::NoKey)?;
        authorization.set_sensitive(true);
        Ok(Self { url: url.to_owned(), endpoint: Arc::new(endpoint), authorization })
    }

    /// A null body is none.
    pub fn send(&self, method: Method, path: &str, body: &Value) -> Result<Answered, Failure> {
        let mut headers = HeaderLines::default();
        headers.insert(AUTHORIZATION, self.authorization.clone());
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if !body.is_null() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let request = UpstreamRequest {
            endpoint: self.endpoint.clone(),
            method,
            path_and_query: path.to_owned(),
            headers,
            body: if body.is_null() { SmallVec::new() } else { SmallVec::from_iter([Bytes::from(body.to_string())]) },
            connect_timeout: Duration::from_secs(5),
            head_timeout: PATIENCE,
            idle_timeout: PATIENCE,
        };
        let silent =
            |cause: &dyn std::fmt::Display| Failure::Silent { url: self.url.clone(), cause: cause.to_string() };
        let (status, headers, body) = actix::System::new().block_on(async {
            let client = UpstreamClient::new(&UpstreamConfig::new(&[]).map_err(|error| silent(&error))?);
            let mut response = client.send(request).await.map_err(|error| silent(&error))?;
            let mut body = BytesMut::new();
            while let Some(chunk) = response.body.next().await {
                body.extend_from_slice(&chunk.map_err(|error| silent(&error))?);
                if body.len() > LONGEST_ANSWER {
                    return Err(silent(&"its answer has no end"));
                }
            }
            Ok((response.status, response.headers, body))
        })?;
        Ok(Answered { status, headers, body: serde_json::from_slice(&body).unwrap_or_default(), raw: body.freeze() })
    }
}

fn parse(url: &str) -> Option<Endpoint> {
    let uri: Uri = url.parse().ok()?;
    let tls = uri.scheme()? == &Scheme::HTTPS;
    if !tls && uri.scheme()? != &Scheme::HTTP || uri.query().is_some() || uri.authority()?.as_str().contains('@') {
        return None;
    }
    let host = uri.host()?.trim_matches(['[', ']']).to_ascii_lowercase();
    let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
    Some(Endpoint { tls, host, port, prefix: uri.path().trim_end_matches('/').to_owned(), way: Way::Direct })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let read = |url| parse(url).map(|endpoint| endpoint.to_string());
        assert_eq!(read("http://127.0.0.1:8080").as_deref(), Some("http://127.0.0.1:8080"));
        assert_eq!(read("https://Gateway.example/llm/").as_deref(), Some("https://gateway.example/llm"));
        assert_eq!(read("http://[::1]:81/").as_deref(), Some("http://[::1]:81"));
        for wrong in ["", "127.0.0.1:8080", "ftp://a", "http://", "http://user@a", "http://a?b"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
