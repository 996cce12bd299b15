//! WebSocket frames as a server reads and writes them (RFC 6455, section 5), in the simulator's own hand.

use bytes::{Buf, BytesMut};

/// What a client sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Frame {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    /// Code and text; a close frame may have neither.
    Close(Vec<u8>),
}

/// The client does not speak the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Garbled;

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const MOST: u64 = 64 << 20;

/// The fragments of a message whose last one has not come.
#[derive(Debug, Default)]
pub(in super::super) struct Fragments(Option<(u8, Vec<u8>)>);

/// Takes the next whole message from `buffer`, if it is there.
pub(in super::super) fn read(buffer: &mut BytesMut, fragments: &mut Fragments) -> Result<Option<Frame>, Garbled> {
    loop {
        let Some((first, payload)) = take(buffer)? else { return Ok(None) };
        let (last, code) = (first & 0x80 != 0, first & 0x0f);
        match (code, last, fragments.0.take()) {
            (PING, true, open) => {
                fragments.0 = open;
                return Ok(Some(Frame::Ping(payload)));
            }
            (PONG, true, open) => {
                fragments.0 = open;
                return Ok(Some(Frame::Pong));
            }
            (CLOSE, true, _) => return Ok(Some(Frame::Close(payload))),
            (TEXT, true, None) => return Ok(Some(Frame::Text(payload))),
            (BINARY, true, None) => return Ok(Some(Frame::Binary(payload))),
            (TEXT | BINARY, false, None) => fragments.0 = Some((code, payload)),
            (0, last, Some((code, mut bytes))) => {
                bytes.extend(payload);
                match (last, code) {
                    (true, TEXT) => return Ok(Some(Frame::Text(bytes))),
                    (true, _) => return Ok(Some(Frame::Binary(bytes))),
                    (false, _) => fragments.0 = Some((code, bytes)),
                }
            }
            (_, _, _) => return Err(Garbled),
        }
    }
}

/// The first byte of a frame and its payload without the mask.
fn take(buffer: &mut BytesMut) -> Result<Option<(u8, Vec<u8>)>, Garbled> {
    let [first, second, ..] = **buffer else { return Ok(None) };
    if first & 0x70 != 0 || second & 0x80 == 0 {
        return Err(Garbled);
    }
    let (length, at) = match second & 0x7f {
        126 => match buffer.get(2..4) {
            Some(bytes) => (bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)), 4),
            None => return Ok(None),
        },
        127 => match buffer.get(2..10) {
            Some(bytes) => (bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)), 10),
            None => return Ok(None),
        },
        short => (u64::from(short), 2),
    };
    if length > MOST {
        return Err(Garbled);
    }
    let length = usize::try_from(length).map_err(|_| Garbled)?;
    let (Some(mask), Some(payload)) = (buffer.get(at..at + 4), buffer.get(at + 4..at + 4 + length)) else {
        return Ok(None);
    };
    let plain = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    buffer.advance(at + 4 + length);
    Ok(Some((first, plain)))
}

pub(in super::super) fn text(out: &mut Vec<u8>, payload: &str) {
    write(out, TEXT, payload.as_bytes());
}

pub(in super::super) fn pong(out: &mut Vec<u8>, payload: &[u8]) {
    write(out, PONG, payload);
}

/// With what the client sent, or with a code of our own.
pub(in super::super) fn close(out: &mut Vec<u8>, payload: &[u8]) {
    write(out, CLOSE, payload);
}

fn write(out: &mut Vec<u8>, code: u8, payload: &[u8]) {
    out.push(0x80 | code);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short @ 0..=125), _) => out.push(short),
        (_, Ok(length)) => {
            out.push(126);
            out.extend(length.to_be_bytes());
        }
        (_, Err(_)) => {
            out.push(127);
            out.extend((payload.len() as u64).to_be_bytes());
        }
    }
    out.extend(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_rfc_are_read_and_written() {
        // Section 5.7: a masked "Hello", and the same without a mask.
        let mut buffer = BytesMut::from(&[0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58][..]);
        let mut fragments = Fragments::default();
        assert_eq!(read(&mut buffer, &mut fragments), Ok(Some(Frame::Text(b"Hello".to_vec()))));
        let mut out = Vec::new();
        text(&mut out, "Hello");
        assert_eq!(out, [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
        let mut unmasked = BytesMut::from(&out[..]);
        assert_eq!(read(&mut unmasked, &mut fragments), Err(Garbled));
    }

    #[test]
    fn lengths_have_three_forms() {
        for length in [125, 126, 65_535, 65_536] {
            let mut out = Vec::new();
            text(&mut out, &"x".repeat(length));
            out[1] |= 0x80;
            let at = out.len() - length;
            out.splice(at..at, [0; 4]);
            let mut buffer = BytesMut::from(&out[..]);
            let read = read(&mut buffer, &mut Fragments::default()).unwrap().unwrap();
            assert_eq!(read, Frame::Text(vec![b'x'; length]));
        }
    }
}
