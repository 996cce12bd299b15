//! An HTTP/1.1 client that hides nothing: it says how a body ended, reads as little as it is told to, and leaves rudely.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;
use socket2::SockRef;

/// Enough for a loaded machine; a test that waits this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// One connection. Requests are sent as they are given; answers are read piece by piece.
pub struct Client {
    stream: TcpStream,
    /// Read from the socket and not yet taken.
    buffer: Vec<u8>,
}

/// An answer, as far as it was read.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case, in the order of the wire.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub end: BodyEnd,
    framing: Framing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyEnd {
    /// Not read to its end yet.
    Open,
    /// The last chunk came, or all that `content-length` announced.
    Whole,
    /// The connection ended before.
    Cut,
}

#[derive(Clone, Copy, Debug)]
enum Framing {
    /// So many bytes are left.
    Length(usize),
    Chunked,
    UntilClose,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        Self::over(stream)
    }

    /// With a small receive buffer, so that a client that does not read is noticed soon.
    pub fn connect_narrow(address: SocketAddr) -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(&address.into()).unwrap();
        Self::over(socket.into())
    }

    fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.stream.write_all(bytes.as_ref()).unwrap();
        self
    }

    /// For requests that may be refused before they are whole.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// A whole answer.
    #[track_caller]
    pub fn answer(&mut self) -> Answer {
        let mut answer = self.head();
        self.finish(&mut answer);
        answer
    }

    /// The head; the body is open.
    #[track_caller]
    pub fn head(&mut self) -> Answer {
        let length = loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                break at + 4;
            }
            let read = self.fill().unwrap();
            assert_ne!(read, 0, "closed instead of an answer: {:?}", String::from_utf8_lossy(&self.buffer));
        };
        let text = String::from_utf8(self.buffer.drain(..length).collect()).unwrap();
        let mut lines = text.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: Vec<_> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let value = |wanted: &str| headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
        let framing = if value("transfer-encoding").as_deref() == Some("chunked") {
            Framing::Chunked
        } else if let Some(length) = value("content-length") {
            Framing::Length(length.parse().unwrap())
        } else if matches!(status, 204 | 304) {
            Framing::Length(0)
        } else {
            Framing::UntilClose
        };
        Answer { status, headers, body: Vec::new(), end: BodyEnd::Open, framing }
    }

    /// Reads the rest of the body.
    #[track_caller]
    pub fn finish(&mut self, answer: &mut Answer) {
        self.read_until(answer, |_| false);
    }

    /// Reads the body until it has ended or `enough` says so.
    #[track_caller]
    pub fn read_until(&mut self, answer: &mut Answer, enough: impl Fn(&[u8]) -> bool) {
        loop {
            self.take(answer);
            if answer.end != BodyEnd::Open || enough(&answer.body) {
                return;
            }
            match self.fill() {
                Ok(0) => {
                    let whole = matches!(answer.framing, Framing::UntilClose);
                    answer.end = if whole { BodyEnd::Whole } else { BodyEnd::Cut };
                }
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    panic!("no more of the body within {PATIENCE:?}, after {} bytes", answer.body.len());
                }
                Err(_) => answer.end = BodyEnd::Cut,
            }
        }
    }

    /// Whether nothing comes, not even an end, for so long.
    pub fn is_quiet_for(&mut self, time: Duration) -> bool {
        assert!(self.buffer.is_empty(), "something is there already");
        self.stream.set_read_timeout(Some(time)).unwrap();
        let read = self.fill();
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        matches!(read, Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
    }

    /// Takes what has arrived of the body.
    fn take(&mut self, answer: &mut Answer) {
        match &mut answer.framing {
            Framing::UntilClose => answer.body.append(&mut self.buffer),
            Framing::Length(left) => {
                let count = self.buffer.len().min(*left);
                answer.body.extend(self.buffer.drain(..count));
                *left -= count;
                if *left == 0 {
                    answer.end = BodyEnd::Whole;
                }
            }
            Framing::Chunked => {
                while let Some(line) = find(&self.buffer, b"\r\n") {
                    let size = usize::from_str_radix(std::str::from_utf8(&self.buffer[..line]).unwrap(), 16).unwrap();
                    if self.buffer.len() < line + 2 + size + 2 {
                        return;
                    }
                    answer.body.extend_from_slice(&self.buffer[line + 2..line + 2 + size]);
                    self.buffer.drain(..line + 2 + size + 2);
                    if size == 0 {
                        answer.end = BodyEnd::Whole;
                        return;
                    }
                }
            }
        }
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut bytes = [0; 64 * 1024];
        let count = self.stream.read(&mut bytes)?;
        self.buffer.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    /// What comes until the connection ends, for whoever expects nothing more.
    #[track_caller]
    pub fn rest(&mut self) -> Vec<u8> {
        loop {
            match self.fill() {
                Ok(0) => break,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    panic!("still open after {PATIENCE:?}");
                }
                Ok(_) => {}
                Err(_) => break,
            }
        }
        std::mem::take(&mut self.buffer)
    }

    /// Whether something has come within this time; an end counts.
    pub fn has_answer(&mut self, within: Duration) -> bool {
        self.stream.set_read_timeout(Some(within)).unwrap();
        let came = !self.buffer.is_empty()
            || !matches!(self.stream.peek(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock);
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        came
    }

    /// For who goes on in another protocol: the socket, and what was read ahead.
    pub fn into_parts(self) -> (TcpStream, Vec<u8>) {
        (self.stream, self.buffer)
    }

    /// Leaves with a FIN.
    pub fn leave(self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Leaves with a RST.
    pub fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {:?}", self.text()))
    }

    /// `error.code` of a refusal.
    pub fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        assert_eq!(self.end, BodyEnd::Whole, "the body was cut");
        self
    }
}

/// A POST of JSON; `lines` are further headers, each ending with CRLF.
pub fn post(path: &str, lines: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\n{lines}content-length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

pub fn get(path: &str, lines: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: gateway\r\n{lines}\r\n").into_bytes()
}

pub fn find(text: &[u8], pattern: &[u8]) -> Option<usize> {
    memchr::memmem::find(text, pattern)
}
