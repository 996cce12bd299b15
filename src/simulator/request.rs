//! Reads HTTP/1.1 requests from a socket: head, and a body by length or in chunks. Bounded in size, not in time: a
//! simulator waits for whoever drives it.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const MAX_HEAD: usize = 64 * 1024;
const MAX_HEADERS: usize = 128;
/// What Azure takes of a file, and some more.
const MAX_BODY: usize = 640 * 1024 * 1024;

/// One request as it arrived.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: String,
    /// Path and query.
    pub(super) target: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Bytes,
    pub(super) connection: Connection,
}

/// What becomes of the connection after the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Connection {
    KeepAlive,
    Close,
}

/// Why no request could be read.
#[derive(Debug)]
pub(super) enum ReadError {
    /// The peer left, between requests or inside one.
    Gone,
    /// Not HTTP, or larger than this server reads: the status to answer before closing.
    Refused(u16),
}

impl From<io::Error> for ReadError {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

impl Request {
    /// A header's value; the name in lower case.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub(super) fn path(&self) -> &str {
        self.target.split_once('?').map_or(self.target.as_str(), |(path, _)| path)
    }

    /// A query parameter as it was sent (percent-encoding is not undone: api-versions need none).
    pub(super) fn query(&self, name: &str) -> Option<&str> {
        let (_, query) = self.target.split_once('?')?;
        query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
    }
}

/// Reads the next request; bytes of a following one stay in `buffer`.
pub(super) async fn read_request<R, W>(
    reader: &mut R,
    writer: &mut W,
    buffer: &mut BytesMut,
) -> Result<Request, ReadError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut request = loop {
        if let Some((request, length)) = parse_head(buffer)? {
            buffer.advance(length);
            break request;
        }
        if buffer.len() > MAX_HEAD {
            return Err(ReadError::Refused(431));
        }
        more(reader, buffer).await?;
    };
    let chunked = request.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
    let length = match request.header("content-length") {
        Some(value) => value.trim().parse::<usize>().map_err(|_| ReadError::Refused(400))?,
        None => 0,
    };
    if chunked && request.header("content-length").is_some() {
        return Err(ReadError::Refused(400));
    }
    if request.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
        writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    request.body = if chunked {
        read_chunks(reader, buffer).await?
    } else {
        if length > MAX_BODY {
            return Err(ReadError::Refused(413));
        }
        while buffer.len() < length {
            more(reader, buffer).await?;
        }
        buffer.split_to(length).freeze()
    };
    Ok(request)
}

/// The head, if all of it is there, and its length.
fn parse_head(buffer: &[u8]) -> Result<Option<(Request, usize)>, ReadError> {
    let mut slots = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Request::new(&mut slots);
    let length = match head.parse(buffer) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(ReadError::Refused(431)),
        Err(_) => return Err(ReadError::Refused(400)),
    };
    let headers: Vec<(String, String)> = head
        .headers
        .iter()
        .map(|header| (header.name.to_owned(), String::from_utf8_lossy(header.value).into_owned()))
        .collect();
    let mut request = Request {
        method: head.method.unwrap_or_default().to_owned(),
        target: head.path.unwrap_or_default().to_owned(),
        headers,
        body: Bytes::new(),
        connection: Connection::KeepAlive,
    };
    let says = |word: &str| request.header("connection").is_some_and(|value| value.eq_ignore_ascii_case(word));
    if says("close") || (head.version == Some(0) && !says("keep-alive")) {
        request.connection = Connection::Close;
    }
    Ok(Some((request, length)))
}

async fn read_chunks<R: AsyncRead + Unpin>(reader: &mut R, buffer: &mut BytesMut) -> Result<Bytes, ReadError> {
    let mut body = BytesMut::new();
    loop {
        let line = read_line(reader, buffer).await?;
        let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
        let size = std::str::from_utf8(digits)
            .ok()
            .and_then(|digits| usize::from_str_radix(digits.trim(), 16).ok())
            .ok_or(ReadError::Refused(400))?;
        if body.len().saturating_add(size) > MAX_BODY {
            return Err(ReadError::Refused(413));
        }
        if size == 0 {
            while !read_line(reader, buffer).await?.is_empty() {}
            return Ok(body.freeze());
        }
        while buffer.len() < size + 2 {
            more(reader, buffer).await?;
        }
        body.extend_from_slice(&buffer[..size]);
        if buffer[size..size + 2] != *b"\r\n" {
            return Err(ReadError::Refused(400));
        }
        buffer.advance(size + 2);
    }
}

/// A line of the chunked framing, without its end.
async fn read_line<R: AsyncRead + Unpin>(reader: &mut R, buffer: &mut BytesMut) -> Result<Bytes, ReadError> {
    loop {
        if let Some(end) = memchr::memchr(b'\n', buffer) {
            let line = buffer.split_to(end + 1).freeze();
            return Ok(line.slice(..line.strip_suffix(b"\r\n").map_or(end, <[u8]>::len)));
        }
        if buffer.len() > MAX_HEAD {
            return Err(ReadError::Refused(400));
        }
        more(reader, buffer).await?;
    }
}

async fn more<R: AsyncRead + Unpin>(reader: &mut R, buffer: &mut BytesMut) -> Result<(), ReadError> {
    if reader.read_buf(buffer).await? == 0 { Err(ReadError::Gone) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &'static [u8]) -> (Result<Request, ReadError>, BytesMut) {
        let mut buffer = BytesMut::new();
        let mut reader = bytes;
        let request = read_request(&mut reader, &mut Vec::new(), &mut buffer).await;
        (request, buffer)
    }

    #[actix_web::test]
    async fn a_length_and_chunks_give_the_same_body_and_leave_the_next_request() {
        let (request, rest) =
            read(b"POST /a?api-version=1&x=2 HTTP/1.1\r\nApi-Key: k\r\ncontent-length: 5\r\n\r\nhelloGET").await;
        let request = request.unwrap();
        assert_eq!((request.path(), request.query("api-version")), ("/a", Some("1")));
        assert_eq!((request.header("api-key"), &request.body[..], &rest[..]), (Some("k"), &b"hello"[..], &b"GET"[..]));
        let (request, rest) = read(
            b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n2;a=b\r\nhe\r\n3\r\nllo\r\n0\r\nT: x\r\n\r\nGET",
        )
        .await;
        assert_eq!((&request.unwrap().body[..], &rest[..]), (&b"hello"[..], &b"GET"[..]));
    }

    #[actix_web::test]
    async fn nonsense_is_refused_and_a_cut_request_is_a_peer_that_left() {
        for bytes in [
            &b"\x16\x03\x01 TLS\r\n\r\n"[..],
            b"POST / HTTP/1.1\r\ncontent-length: x\r\n\r\n",
            b"POST / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
            b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        ] {
            assert!(matches!(read(bytes).await.0, Err(ReadError::Refused(400))), "{bytes:?}");
        }
        assert!(matches!(read(b"POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\nhel").await.0, Err(ReadError::Gone)));
    }

    #[actix_web::test]
    async fn connections_stay_open_as_http_says() {
        let says = |bytes| async move { read(bytes).await.0.unwrap().connection };
        assert_eq!(says(b"GET / HTTP/1.1\r\n\r\n").await, Connection::KeepAlive);
        assert_eq!(says(b"GET / HTTP/1.1\r\nConnection: Close\r\n\r\n").await, Connection::Close);
        assert_eq!(says(b"GET / HTTP/1.0\r\n\r\n").await, Connection::Close);
    }
}
