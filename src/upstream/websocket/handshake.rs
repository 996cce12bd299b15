//! The handshake of RFC 6455, section 4, as the client: one request, and a 101 that proves it was understood.
//!
//! The answer's head is read as strictly as `head` reads those of ordinary answers. What refuses is read with some of
//! its body; its connection is not used again.

use std::time::Duration;

use actix_http::ws::hash_key;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::client::UpstreamError;
use super::super::guard::Wire;
use super::super::head::HEAD_LIMIT;
use super::super::lines::HeaderLines;
use super::{Upgraded, open};
use crate::azure::endpoint::Endpoint;

/// What is read of a refusal.
const REFUSAL_LIMIT: usize = 64 << 10;
const REFUSAL_PATIENCE: Duration = Duration::from_secs(1);
const MOST_HEADERS: usize = 96;
/// Interim heads before the answer.
const MOST_INTERIM: u32 = 8;

/// Asks on an open connection. The deadline is the caller's.
pub(super) async fn ask(
    mut wire: Wire,
    endpoint: &Endpoint,
    path_and_query: &str,
    headers: &HeaderLines,
) -> Result<Upgraded, UpstreamError> {
    let key = STANDARD.encode(fastrand::u128(..).to_ne_bytes());
    let request = request(endpoint, path_and_query, headers, &key);
    wire.write_all(&request).await.map_err(|_| UpstreamError::Closed)?;
    wire.flush().await.map_err(|_| UpstreamError::Closed)?;
    let mut buffer = BytesMut::with_capacity(4096);
    let mut interim = 0;
    loop {
        if let Some((head, length)) = parse(&buffer)? {
            buffer.advance(length);
            match head.status {
                StatusCode::SWITCHING_PROTOCOLS => {
                    head.check(&key)?;
                    let (reader, writer) = open(wire, &buffer);
                    return Ok(Upgraded::Open { reader, writer, headers: head.headers });
                }
                status if status.is_informational() => {
                    interim += 1;
                    if interim > MOST_INTERIM {
                        return Err(invalid("too many interim responses"));
                    }
                    continue;
                }
                status => {
                    let body = refusal(&mut wire, buffer, &head.headers).await;
                    return Ok(Upgraded::Refused { status, headers: head.headers, body });
                }
            }
        }
        if buffer.len() > HEAD_LIMIT {
            return Err(invalid("response head too large"));
        }
        match wire.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return Err(UpstreamError::Closed),
            Ok(_) => {}
        }
    }
}

fn request(endpoint: &Endpoint, path_and_query: &str, headers: &HeaderLines, key: &str) -> Vec<u8> {
    let mut request = format!(
        "GET {}{path_and_query} HTTP/1.1\r\nhost: {}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: {key}\r\n",
        endpoint.prefix,
        endpoint.host_header(),
    )
    .into_bytes();
    for (name, value) in headers.iter() {
        request.extend_from_slice(name.as_str().as_bytes());
        request.extend_from_slice(b": ");
        request.extend_from_slice(value.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    request
}

struct Head {
    status: StatusCode,
    headers: HeaderMap,
}

/// The head at the start of these bytes and its length, when it is whole.
fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, UpstreamError> {
    let mut slots = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut response = httparse::Response::new(&mut slots);
    let length = match response.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(invalid(&error.to_string())),
    };
    let status = response.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or_else(|| invalid("no status"))?;
    let mut headers = HeaderMap::with_capacity(response.headers.len());
    for header in response.headers {
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| invalid("malformed header"))?;
        let value = HeaderValue::from_bytes(header.value).map_err(|_| invalid("malformed header"))?;
        headers.append(name, value);
    }
    Ok(Some((Head { status, headers }, length)))
}

impl Head {
    fn says(&self, name: HeaderName, word: &str) -> bool {
        let values = self.headers.get_all(name).filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|token| token.trim().eq_ignore_ascii_case(word))
    }

    /// Whether this 101 is an answer to the question with that key.
    fn check(&self, key: &str) -> Result<(), UpstreamError> {
        let accepts = self.headers.get(header::SEC_WEBSOCKET_ACCEPT);
        let proven = accepts.is_some_and(|accept| accept.as_bytes() == hash_key(key.as_bytes()));
        if !self.says(header::UPGRADE, "websocket") || !self.says(header::CONNECTION, "upgrade") || !proven {
            return Err(invalid("a switch of protocols that is no WebSocket handshake"));
        }
        // None was offered, and what it would do to frames is unknown here.
        if self.headers.contains_key(header::SEC_WEBSOCKET_EXTENSIONS) {
            return Err(invalid("a WebSocket extension that was not asked for"));
        }
        Ok(())
    }
}

/// As much of a refusal's body as comes in time.
async fn refusal(wire: &mut Wire, mut buffer: BytesMut, headers: &HeaderMap) -> Bytes {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    let wanted = length.unwrap_or(REFUSAL_LIMIT).min(REFUSAL_LIMIT);
    let chunked = headers.contains_key(header::TRANSFER_ENCODING);
    let reading = async {
        while buffer.len() < wanted && !(chunked && buffer.ends_with(b"0\r\n\r\n")) {
            if !matches!(wire.read_buf(&mut buffer).await, Ok(count) if count > 0) {
                break;
            }
        }
    };
    // What has come by then is enough.
    let _ = tokio::time::timeout(REFUSAL_PATIENCE, reading).await;
    buffer.truncate(wanted);
    if chunked { dechunked(&buffer) } else { buffer.freeze() }
}

/// The contents of the chunks that are whole.
fn dechunked(mut bytes: &[u8]) -> Bytes {
    let mut body = BytesMut::with_capacity(bytes.len());
    while let Ok(httparse::Status::Complete((at, size))) = httparse::parse_chunk_size(bytes)
        && size > 0
        && let Some(chunk) = usize::try_from(size).ok().and_then(|size| bytes.get(at..at.checked_add(size)?))
    {
        body.extend_from_slice(chunk);
        bytes = bytes.get(at + chunk.len() + 2..).unwrap_or_default();
    }
    body.freeze()
}

fn invalid(what: &str) -> UpstreamError {
    UpstreamError::Invalid(what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    fn checked(lines: &str) -> Result<(), UpstreamError> {
        let text = format!("HTTP/1.1 101 Switching Protocols\r\n{lines}\r\n");
        let (head, length) = parse(text.as_bytes()).unwrap().unwrap();
        assert_eq!(length, text.len());
        head.check(KEY)
    }

    #[test]
    fn only_an_answer_to_this_very_question_opens() {
        // The example of RFC 6455, section 1.3.
        let accept = "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
        let switch = "Upgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n";
        assert_eq!(checked(&format!("{switch}{accept}")), Ok(()));
        for lines in [
            switch.to_owned(),
            accept.to_owned(),
            format!("{switch}sec-websocket-accept: {KEY}\r\n"),
            format!("{switch}{accept}sec-websocket-extensions: permessage-deflate\r\n"),
        ] {
            assert!(matches!(checked(&lines), Err(UpstreamError::Invalid(_))), "{lines}");
        }
    }

    #[test]
    fn a_refusal_in_chunks_is_put_together() {
        assert_eq!(dechunked(b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"), "abcde");
        assert_eq!(dechunked(b"3\r\nabc\r\nffffffffffffffff\r\nde"), "abc");
    }
}
