//! A response head: is it one, where does it end, and how long is the body behind it?
//!
//! Decides more strictly than awc does, so that whatever passes here means the same to awc. Heads that awc would
//! misread (no length, a length on a 204, `Upgrade` on a plain answer) are rewritten; all others stay as they came.
//! Does not look at any header that is not about framing.

use std::mem::MaybeUninit;

use super::framing::Violation;

/// Bytes of one head.
pub(super) const HEAD_LIMIT: usize = 64 * 1024;

/// awc takes 96; two less, because a rewritten head may grow by two.
const HEADER_LIMIT: usize = 94;

/// What the beginning of some bytes is.
pub(super) enum Parsed {
    /// More bytes are needed.
    Partial,
    /// An interim (1xx) head of this many bytes, which is to be dropped.
    Interim(usize),
    Final(Head),
}

/// The framing of a final response.
pub(super) struct Head {
    /// Bytes of the head as it came.
    pub len: usize,
    pub status: u16,
    pub body: BodyLength,
    /// Whether the peer will take another request on this connection.
    pub keep_alive: bool,
    /// What awc is to see instead, where the original would mislead it.
    pub rewritten: Option<Vec<u8>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyLength {
    None,
    Exactly(u64),
    Chunked,
    /// HTTP/1.0 style: the end of the connection ends the body.
    UntilClose,
}

/// Reads the head at the start of `bytes`.
pub(super) fn parse(bytes: &[u8]) -> Result<Parsed, Violation> {
    let mut headers = [const { MaybeUninit::uninit() }; HEADER_LIMIT];
    let mut response = httparse::Response::new(&mut []);
    let parsed =
        httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut response, bytes, &mut headers);
    let len = match parsed {
        Ok(httparse::Status::Complete(len)) if len <= HEAD_LIMIT => len,
        Ok(httparse::Status::Complete(_)) => return Err(Violation::HeadTooLarge),
        Ok(httparse::Status::Partial) if bytes.len() > HEAD_LIMIT => return Err(Violation::HeadTooLarge),
        Ok(httparse::Status::Partial) => return Ok(Parsed::Partial),
        Err(httparse::Error::TooManyHeaders) => return Err(Violation::HeadTooLarge),
        Err(httparse::Error::Version | httparse::Error::Status | httparse::Error::Token) => {
            return Err(Violation::NotHttp);
        }
        Err(httparse::Error::HeaderName | httparse::Error::HeaderValue | httparse::Error::NewLine) => {
            return Err(Violation::Header);
        }
    };
    let (Some(status), Some(minor)) = (response.code, response.version) else { return Err(Violation::NotHttp) };
    match status {
        101 => return Err(Violation::SwitchingProtocols),
        100..=199 => return Ok(Parsed::Interim(len)),
        0..=99 => return Err(Violation::NotHttp),
        _ => {}
    }
    let framing = Framing::read(response.headers, minor)?;
    Ok(Parsed::Final(framing.head(len, status, minor, response.reason.unwrap_or_default(), response.headers)))
}

/// The headers that say where the answer ends.
#[derive(Default)]
struct Framing {
    length: Option<u64>,
    chunked: bool,
    close: bool,
    upgrade: bool,
}

impl Framing {
    fn read(headers: &[httparse::Header<'_>], minor: u8) -> Result<Self, Violation> {
        let mut framing = Self { close: minor == 0, ..Self::default() };
        for header in headers {
            framing.note(header, minor)?;
        }
        if framing.chunked && framing.length.is_some() {
            return Err(Violation::Length);
        }
        Ok(framing)
    }

    fn note(&mut self, header: &httparse::Header<'_>, minor: u8) -> Result<(), Violation> {
        // Most headers are told apart from these four by the length of the name alone.
        let is = |name: &str| header.name.len() == name.len() && header.name.eq_ignore_ascii_case(name);
        if is("content-length") {
            if self.length.replace(decimal(header.value)?).is_some() {
                return Err(Violation::Length);
            }
        } else if is("transfer-encoding") {
            if self.chunked || minor == 0 || !header.value.eq_ignore_ascii_case(b"chunked") {
                return Err(Violation::TransferEncoding);
            }
            self.chunked = true;
        } else if is("connection") {
            let mut tokens = header.value.split(|byte| *byte == b',');
            self.close |= tokens.any(|token| token.trim_ascii().eq_ignore_ascii_case(b"close"));
        } else if is("upgrade") {
            self.upgrade = true;
        }
        Ok(())
    }

    fn head(&self, len: usize, status: u16, minor: u8, reason: &str, headers: &[httparse::Header<'_>]) -> Head {
        let no_body = matches!(status, 204 | 304);
        let body = match self.length {
            _ if no_body => BodyLength::None,
            Some(0) => BodyLength::None,
            Some(length) => BodyLength::Exactly(length),
            None if self.chunked => BodyLength::Chunked,
            None => BodyLength::UntilClose,
        };
        let misleading = match body {
            BodyLength::UntilClose => true,
            BodyLength::None => no_body && (self.chunked || self.length.is_some() || minor == 0),
            BodyLength::Exactly(_) | BodyLength::Chunked => false,
        };
        let rewritten = (misleading || self.upgrade).then(|| rewrite(status, reason, headers, body));
        let keep_alive = !self.close && body != BodyLength::UntilClose;
        Head { len, status, body, keep_alive, rewritten }
    }
}

/// The same head in HTTP/1.1 with the framing headers that fit `body`.
fn rewrite(status: u16, reason: &str, headers: &[httparse::Header<'_>], body: BodyLength) -> Vec<u8> {
    let size: usize = headers.iter().map(|header| header.name.len() + header.value.len() + 4).sum();
    let mut head = Vec::with_capacity(size + reason.len() + 80);
    head.extend_from_slice(format!("HTTP/1.1 {status:03} {reason}\r\n").as_bytes());
    for header in headers {
        let framing = ["content-length", "transfer-encoding", "connection", "upgrade"];
        if !framing.iter().any(|name| header.name.eq_ignore_ascii_case(name)) {
            head.extend_from_slice(header.name.as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(header.value);
            head.extend_from_slice(b"\r\n");
        }
    }
    match body {
        BodyLength::None => {}
        BodyLength::Exactly(length) => head.extend_from_slice(format!("content-length: {length}\r\n").as_bytes()),
        BodyLength::Chunked => head.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        BodyLength::UntilClose => head.extend_from_slice(b"transfer-encoding: chunked\r\nconnection: close\r\n"),
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// Digits only: no sign, no list, no white space; at most 18, so that sums cannot overflow.
fn decimal(value: &[u8]) -> Result<u64, Violation> {
    if value.is_empty() || value.len() > 18 {
        return Err(Violation::Length);
    }
    value.iter().try_fold(0, |number: u64, byte| match byte {
        b'0'..=b'9' => Ok(number * 10 + u64::from(byte - b'0')),
        _ => Err(Violation::Length),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn final_head(text: &str) -> Head {
        match parse(text.as_bytes()) {
            Ok(Parsed::Final(head)) => head,
            Ok(Parsed::Partial) => panic!("partial: {text:?}"),
            Ok(Parsed::Interim(_)) => panic!("interim: {text:?}"),
            Err(violation) => panic!("{violation:?}: {text:?}"),
        }
    }

    #[test]
    fn the_length_of_the_body_follows_from_the_head() {
        for (text, body, keep_alive) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n", BodyLength::Exactly(12), true),
            ("HTTP/1.1 200 OK\r\nContent-Length: 12\r\nConnection: x, Close\r\n\r\n", BodyLength::Exactly(12), false),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n", BodyLength::Chunked, true),
            ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", BodyLength::None, true),
            ("HTTP/1.1 200 OK\r\n\r\n", BodyLength::UntilClose, false),
            ("HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\n", BodyLength::Exactly(3), false),
            ("HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n", BodyLength::None, true),
            ("HTTP/1.1 304 Not Modified\r\ntransfer-encoding: chunked\r\n\r\n", BodyLength::None, true),
        ] {
            let head = final_head(text);
            assert_eq!((head.body, head.keep_alive), (body, keep_alive), "{text:?}");
            assert_eq!(head.len, text.len());
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for (text, violation) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n", Violation::Length),
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n", Violation::Length),
            ("HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\n\r\n", Violation::Length),
            ("HTTP/1.1 200 OK\r\ncontent-length: +5\r\n\r\n", Violation::Length),
            ("HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n", Violation::Length),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n", Violation::TransferEncoding),
            ("HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", Violation::TransferEncoding),
            ("HTTP/1.1 200 OK\r\nx-a: b\r\n folded\r\n\r\n", Violation::Header),
            ("HTTP/1.1 200 OK\r\ncontent-length : 5\r\n\r\n", Violation::Header),
            ("HTTP/2.0 200 OK\r\n\r\n", Violation::NotHttp),
            ("<html>no head at all</html>", Violation::NotHttp),
            ("HTTP/1.1 101 Switching Protocols\r\n\r\n", Violation::SwitchingProtocols),
            ("HTTP/1.1 099 Odd\r\n\r\n", Violation::NotHttp),
        ] {
            assert_eq!(parse(text.as_bytes()).err(), Some(violation), "{text:?}");
        }
    }

    #[test]
    fn a_head_that_misleads_awc_is_rewritten() {
        let head = final_head("HTTP/1.0 200 Fine\r\nX-A: b\r\nConnection: keep-alive\r\n\r\n");
        let expected = "HTTP/1.1 200 Fine\r\nX-A: b\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n";
        assert_eq!(head.rewritten.as_deref(), Some(expected.as_bytes()));
        let head = final_head("HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\ncontent-length: 2\r\n\r\n");
        let expected = "HTTP/1.1 426 Upgrade Required\r\ncontent-length: 2\r\n\r\n";
        assert_eq!(head.rewritten.as_deref(), Some(expected.as_bytes()));
        let head = final_head("HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n");
        assert_eq!(head.rewritten.as_deref(), Some("HTTP/1.1 204 No Content\r\n\r\n".as_bytes()));
        assert!(final_head("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").rewritten.is_none());
    }

    #[test]
    fn large_heads_are_refused() {
        let many = "x: y\r\n".repeat(HEADER_LIMIT + 1);
        assert_eq!(parse(format!("HTTP/1.1 200 OK\r\n{many}\r\n").as_bytes()).err(), Some(Violation::HeadTooLarge));
        let long = "x".repeat(HEAD_LIMIT);
        assert_eq!(parse(format!("HTTP/1.1 200 OK\r\nx: {long}").as_bytes()).err(), Some(Violation::HeadTooLarge));
    }
}
