//! A WebSocket client that hides nothing: it sends whatever frames it is told to, and says how a connection ended.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;
use socket2::SockRef;

use super::client::{Answer, Client, PATIENCE, get};

/// What a server sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    /// Its code, if it has one.
    Close(Option<u16>),
    /// The connection ended without a close frame.
    End,
}

pub struct WebSocket {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// The head of the 101.
    pub head: Answer,
}

/// The lines of a handshake.
pub const HANDSHAKE: &str = "upgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-version: 13\r\n\
                             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
/// The proof that belongs to it (RFC 6455, section 1.3).
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

pub const TEXT: u8 = 0x81;
pub const BINARY: u8 = 0x82;
pub const CLOSE: u8 = 0x88;
pub const PING: u8 = 0x89;

/// Asks for a session; a refusal is an answer like any other.
#[track_caller]
pub fn knock(address: SocketAddr, path: &str, lines: &str) -> Result<WebSocket, Answer> {
    let mut client = Client::connect(address);
    client.send(get(path, &format!("{HANDSHAKE}{lines}")));
    let head = client.head();
    if head.status != 101 {
        let mut refusal = head;
        client.finish(&mut refusal);
        return Err(refusal);
    }
    assert_eq!(head.header("sec-websocket-accept"), Some(ACCEPT));
    let (stream, buffer) = client.into_parts();
    Ok(WebSocket { stream, buffer, head })
}

/// A frame as a client sends it, with this first byte.
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x11, 0x22, 0x33, 0x44];
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..=125 => frame.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

impl WebSocket {
    /// Whatever bytes.
    pub fn write(&mut self, bytes: &[u8]) -> &mut Self {
        self.stream.write_all(bytes).unwrap();
        self
    }

    /// For frames that may be refused before they are whole.
    pub fn try_write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    pub fn frame(&mut self, first: u8, payload: &[u8]) -> &mut Self {
        self.write(&masked(first, payload))
    }

    pub fn say(&mut self, event: &Value) -> &mut Self {
        self.frame(TEXT, event.to_string().as_bytes())
    }

    /// The next frame.
    #[track_caller]
    pub fn hear(&mut self) -> Frame {
        loop {
            if let Some(frame) = self.take() {
                return frame;
            }
            let mut bytes = [0; 64 * 1024];
            match self.stream.read(&mut bytes) {
                Ok(0) => return Frame::End,
                Ok(count) => self.buffer.extend_from_slice(&bytes[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    panic!("nothing came for {PATIENCE:?}")
                }
                Err(_) => return Frame::End,
            }
        }
    }

    /// The next event.
    #[track_caller]
    pub fn event(&mut self) -> Value {
        match self.hear() {
            Frame::Text(text) => serde_json::from_str(&text).unwrap(),
            other => panic!("no event but {other:?}"),
        }
    }

    /// Events up to the first of that type, which is the last of them.
    #[track_caller]
    pub fn until(&mut self, kind: &str) -> Vec<Value> {
        let mut events = Vec::new();
        loop {
            let event = self.event();
            let found = event["type"] == kind;
            events.push(event);
            if found {
                return events;
            }
        }
    }

    /// The first event of that type.
    #[track_caller]
    pub fn wait_for(&mut self, kind: &str) -> Value {
        self.until(kind).pop().unwrap()
    }

    /// What comes up to the end, and how that was: the last events and the code of the close frame.
    #[track_caller]
    pub fn end(&mut self) -> (Vec<Value>, Frame) {
        let mut events = Vec::new();
        loop {
            match self.hear() {
                Frame::Text(text) => events.push(serde_json::from_str(&text).unwrap()),
                Frame::Binary(_) | Frame::Ping(_) | Frame::Pong(_) => {}
                end @ (Frame::Close(_) | Frame::End) => return (events, end),
            }
        }
    }

    /// Says goodbye and waits for the answer.
    #[track_caller]
    pub fn close(mut self) {
        self.frame(CLOSE, &1000u16.to_be_bytes());
        assert_eq!(self.end().1, Frame::Close(Some(1000)));
    }

    /// Leaves with a FIN.
    pub fn leave(self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Leaves with a RST.
    pub fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    fn take(&mut self) -> Option<Frame> {
        let [first, second] = *self.buffer.first_chunk()?;
        assert_eq!(second & 0x80, 0, "a server masks nothing");
        assert_eq!(first & 0x80, 0x80, "the gateway sends messages whole");
        let (length, at) = match second {
            126 => (usize::from(u16::from_be_bytes(*self.buffer.get(2..)?.first_chunk()?)), 4),
            127 => (u64::from_be_bytes(*self.buffer.get(2..)?.first_chunk()?) as usize, 10),
            short => (usize::from(short), 2),
        };
        let payload = self.buffer.get(at..at + length)?.to_vec();
        self.buffer.drain(..at + length);
        Some(match first & 0x0f {
            1 => Frame::Text(String::from_utf8(payload).unwrap()),
            2 => Frame::Binary(payload),
            8 => Frame::Close(payload.first_chunk().map(|code| u16::from_be_bytes(*code))),
            9 => Frame::Ping(payload),
            10 => Frame::Pong(payload),
            other => panic!("an unknown frame: {other}"),
        })
    }
}
