//! Messages out of frames and frames out of messages, for both ends of a relay; knows no I/O.
//!
//! A message has an end: what is announced beyond the limit is refused when it is announced and not when it has come,
//! and so is a message in too many pieces. Text is UTF-8. Pings are messages like any other here: who answers them is
//! decided above.

use actix_http::ws::{OpCode, Parser, ProtocolError};
use bytes::{Bytes, BytesMut};

/// A fragment may be empty; a message of nothing else would have no end.
const MOST_FRAGMENTS: u32 = 16 * 1024;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// UTF-8.
    Text(Bytes),
    Binary(Bytes),
    Ping(Bytes),
    Pong(Bytes),
    Close(Option<Reason>),
}

/// Why a connection is closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    pub code: u16,
    /// At most 123 bytes go out.
    pub text: String,
}

/// Who is at the other end: what a client sends is masked, and only that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Client,
    Server,
}

/// What a peer must not send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    #[error("a frame breaks the WebSocket protocol")]
    Protocol,
    #[error("a message is too large")]
    TooLarge,
    #[error("a text message is not UTF-8")]
    NotText,
}

impl Violation {
    /// RFC 6455, section 7.4.1.
    pub fn close_code(self) -> u16 {
        match self {
            Self::Protocol => 1002,
            Self::NotText => 1007,
            Self::TooLarge => 1009,
        }
    }
}

/// What a peer has sent so far.
#[derive(Debug)]
pub struct Messages {
    peer: Peer,
    limit: usize,
    buffer: BytesMut,
    partial: Option<Partial>,
}

#[derive(Debug)]
struct Partial {
    code: OpCode,
    bytes: BytesMut,
    fragments: u32,
}

impl Messages {
    /// From `peer`, none of more than `limit` bytes.
    pub fn new(peer: Peer, limit: usize) -> Self {
        Self { peer, limit, buffer: BytesMut::new(), partial: None }
    }

    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Where a socket may read into.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The next message that is whole.
    pub fn pop(&mut self) -> Result<Option<Message>, Violation> {
        loop {
            let gathered = self.partial.as_ref().map_or(0, |partial| partial.bytes.len());
            if announced(&self.buffer).is_some_and(|length| length > (self.limit - gathered) as u64) {
                return Err(Violation::TooLarge);
            }
            let from_client = self.peer == Peer::Client;
            let parsed = Parser::parse(&mut self.buffer, from_client, self.limit).map_err(|error| match error {
                ProtocolError::Overflow => Violation::TooLarge,
                _ => Violation::Protocol,
            })?;
            let Some((is_last, code, payload)) = parsed else { return Ok(None) };
            let payload = payload.unwrap_or_default();
            if let Some(message) = self.take(is_last, code, payload)? {
                return Ok(Some(message));
            }
        }
    }

    fn take(&mut self, is_last: bool, code: OpCode, payload: BytesMut) -> Result<Option<Message>, Violation> {
        match (code, is_last) {
            (OpCode::Ping, true) => Ok(Some(Message::Ping(payload.freeze()))),
            (OpCode::Pong, true) => Ok(Some(Message::Pong(payload.freeze()))),
            (OpCode::Close, true) => {
                let reason = Parser::try_parse_close_payload(&payload).map_err(|_| Violation::Protocol)?;
                let reason = reason
                    .map(|reason| Reason { code: reason.code.into(), text: reason.description.unwrap_or_default() });
                Ok(Some(Message::Close(reason)))
            }
            (OpCode::Text | OpCode::Binary, _) if self.partial.is_some() => Err(Violation::Protocol),
            (OpCode::Text | OpCode::Binary, true) => whole(code, payload).map(Some),
            (OpCode::Text | OpCode::Binary, false) => {
                self.partial = Some(Partial { code, bytes: payload, fragments: 1 });
                Ok(None)
            }
            (OpCode::Continue, _) => {
                let Some(mut partial) = self.partial.take() else { return Err(Violation::Protocol) };
                partial.bytes.extend_from_slice(&payload);
                partial.fragments += 1;
                if is_last {
                    return whole(partial.code, partial.bytes).map(Some);
                }
                if partial.fragments >= MOST_FRAGMENTS {
                    return Err(Violation::TooLarge);
                }
                self.partial = Some(partial);
                Ok(None)
            }
            (OpCode::Ping | OpCode::Pong | OpCode::Close, false) | (OpCode::Bad, _) => Err(Violation::Protocol),
        }
    }
}

fn whole(code: OpCode, bytes: BytesMut) -> Result<Message, Violation> {
    if code == OpCode::Binary {
        return Ok(Message::Binary(bytes.freeze()));
    }
    match std::str::from_utf8(&bytes) {
        Ok(_) => Ok(Message::Text(bytes.freeze())),
        Err(_) => Err(Violation::NotText),
    }
}

/// The length that the first frame of these bytes says it has, as soon as it says it.
fn announced(bytes: &[u8]) -> Option<u64> {
    let (head, rest) = bytes.split_at_checked(2)?;
    match head[1] & 0x7f {
        126 => rest.first_chunk().map(|length| u64::from(u16::from_be_bytes(*length))),
        127 => rest.first_chunk().map(|length| u64::from_be_bytes(*length)),
        short => Some(u64::from(short)),
    }
}

/// Appends a message in one frame for `to`.
pub fn write(message: &Message, to: Peer, out: &mut BytesMut) {
    let mask = to == Peer::Server;
    match message {
        Message::Text(bytes) => Parser::write_message(out, bytes, OpCode::Text, true, mask),
        Message::Binary(bytes) => Parser::write_message(out, bytes, OpCode::Binary, true, mask),
        Message::Ping(bytes) => Parser::write_message(out, bytes, OpCode::Ping, true, mask),
        Message::Pong(bytes) => Parser::write_message(out, bytes, OpCode::Pong, true, mask),
        Message::Close(None) => Parser::write_message(out, b"", OpCode::Close, true, mask),
        Message::Close(Some(Reason { code, text })) => {
            let mut payload = code.to_be_bytes().to_vec();
            payload.extend_from_slice(&text.as_bytes()[..text.floor_char_boundary(123)]);
            Parser::write_message(out, payload, OpCode::Close, true, mask);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of a server, in its first byte and what follows.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        [&[first, u8::try_from(payload.len()).unwrap()], payload].concat()
    }

    fn read(bytes: &[u8]) -> Result<Vec<Message>, Violation> {
        let mut messages = Messages::new(Peer::Server, 100);
        let mut found = Vec::new();
        // Byte by byte: a frame may come in any pieces.
        for byte in bytes {
            messages.feed(&[*byte]);
            while let Some(message) = messages.pop()? {
                found.push(message);
            }
        }
        Ok(found)
    }

    #[test]
    fn fragments_become_a_message_and_a_ping_may_come_between() {
        let bytes = [frame(0x01, b"caf"), frame(0x89, b"?"), frame(0x00, b"\xc3"), frame(0x80, b"\xa9")].concat();
        let expected = [Message::Ping("?".into()), Message::Text("café".into())];
        assert_eq!(read(&bytes).unwrap(), expected);
        assert_eq!(read(&frame(0x82, &[0xff])).unwrap(), [Message::Binary(Bytes::from_static(&[0xff]))]);
    }

    #[test]
    fn what_breaks_the_rules_is_named_by_its_code() {
        let masked = [&[0x81, 0x81, 1, 2, 3, 4][..], b"x"].concat();
        let huge = [&[0x82, 127][..], &(1u64 << 62).to_be_bytes()].concat();
        let parts = [frame(0x01, &[b'a'; 60]), frame(0x80, &[b'a'; 60])].concat();
        for (bytes, code) in [
            (frame(0xc1, b"x"), 1002),
            (frame(0x83, b"x"), 1002),
            (frame(0x09, b"x"), 1002),
            (frame(0x80, b"x"), 1002),
            ([frame(0x01, b"x"), frame(0x81, b"x")].concat(), 1002),
            (frame(0x88, &[3]), 1002),
            (frame(0x88, &999u16.to_be_bytes()), 1002),
            (masked, 1002),
            (frame(0x81, b"\xff"), 1007),
            (frame(0x82, &[0; 101]), 1009),
            (huge, 1009),
            (parts, 1009),
        ] {
            assert_eq!(read(&bytes).map_err(Violation::close_code), Err(code), "{bytes:?}");
        }
    }

    #[test]
    fn a_message_of_empty_fragments_has_an_end() {
        let mut bytes = frame(0x01, b"");
        for _ in 0..MOST_FRAGMENTS {
            bytes.extend(frame(0x00, b""));
        }
        assert_eq!(read(&bytes), Err(Violation::TooLarge));
    }

    #[test]
    fn what_is_written_can_be_read_by_whom_it_is_for() {
        let messages = [
            Message::Text("x".repeat(70_000).into()),
            Message::Binary(Bytes::from_static(&[0, 1])),
            Message::Ping(Bytes::new()),
            Message::Pong("p".into()),
            Message::Close(Some(Reason { code: 4000, text: "bye".into() })),
            Message::Close(None),
        ];
        for (from, to) in [(Peer::Client, Peer::Server), (Peer::Server, Peer::Client)] {
            let mut out = BytesMut::new();
            let mut reader = Messages::new(from, 1 << 20);
            for message in &messages {
                write(message, to, &mut out);
            }
            reader.feed(&out);
            for message in &messages {
                assert_eq!(reader.pop(), Ok(Some(message.clone())));
            }
            assert_eq!(reader.pop(), Ok(None));
        }
    }
}
