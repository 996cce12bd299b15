//! Walks over a chunked body without touching it: finds its end, and refuses what could be read in two ways.
//!
//! Stricter than awc's own decoder, so that awc never fails on what passes here. Chunk data is skipped, not looked at.

use std::ops::Range;

use super::framing::Violation;

/// Bytes of one size line with its extensions, and of the trailer.
const LINE_LIMIT: u32 = 1024;
const TRAILER_LIMIT: u32 = 8 * 1024;

/// Hex digits of a size; more would overflow 64 bits.
const DIGIT_LIMIT: u32 = 15;

/// A position inside a chunked body.
#[derive(Debug)]
pub(super) struct Chunks {
    at: At,
    size: u64,
    digits: u32,
    /// Bytes of the current size line, or of the trailer.
    line: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Size,
    SizeSpace,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// The start of a line behind the last chunk: a trailer or the end.
    TrailerStart,
    Trailer,
    TrailerLf,
    EndLf,
    End,
}

impl Chunks {
    pub(super) fn new() -> Self {
        Self { at: At::Size, size: 0, digits: 0, line: 0 }
    }

    pub(super) fn is_whole(&self) -> bool {
        self.at == At::End
    }

    /// Whether the last chunk is over and the next has not begun.
    pub(super) fn is_between(&self) -> bool {
        self.at == At::Size && self.digits == 0
    }

    /// How many of `bytes` belong to this body, up to its end or to the first bad byte.
    pub(super) fn advance(&mut self, bytes: &[u8]) -> (usize, Result<(), Violation>) {
        let mut position = 0;
        loop {
            match self.next_data(bytes, &mut position) {
                Ok(Some(_)) => {}
                Ok(None) => return (position, Ok(())),
                Err(violation) => return (position, Err(violation)),
            }
        }
    }

    /// Where the next data stands among `bytes` from `position` on, which moves behind it. None: there is no more, and
    /// `position` is the end of the body or of what there is of it.
    pub(super) fn next_data(&mut self, bytes: &[u8], position: &mut usize) -> Result<Option<Range<usize>>, Violation> {
        while let Some(byte) = bytes.get(*position) {
            let from = *position;
            if self.at == At::End {
                break;
            }
            if let Some(Range { start, end }) = self.plain(&bytes[from..]) {
                *position = from + end + 2;
                return Ok(Some(from + start..from + end));
            }
            if self.at == At::Data {
                let rest = (bytes.len() - from) as u64;
                let step = self.size.min(rest);
                self.size -= step;
                *position += usize::try_from(step).unwrap_or(bytes.len());
                if self.size == 0 {
                    self.at = At::DataCr;
                }
                return Ok(Some(from..*position));
            }
            self.at = self.step(*byte)?;
            *position += 1;
        }
        Ok(None)
    }

    /// Where the data stands of a chunk at the beginning of `bytes` that is all there, and has a size of a few digits and
    /// nothing beside: nearly every chunk of a stream.
    fn plain(&self, bytes: &[u8]) -> Option<Range<usize>> {
        const MOST_DIGITS: usize = 6;
        if !self.is_between() {
            return None;
        }
        let digits = bytes.iter().take(MOST_DIGITS).take_while(|byte| byte.is_ascii_hexdigit()).count();
        let size = bytes[..digits].iter().fold(0, |size, digit| size * 16 + usize::from(hex_value(*digit)));
        let data = digits + 2;
        let is_plain = size > 0 && bytes.get(digits..data) == Some(b"\r\n");
        (is_plain && bytes.get(data + size..data + size + 2) == Some(b"\r\n")).then_some(data..data + size)
    }

    fn step(&mut self, byte: u8) -> Result<At, Violation> {
        self.line += 1;
        let next = match (self.at, byte) {
            (At::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if self.digits < DIGIT_LIMIT => {
                self.digits += 1;
                self.size = self.size * 16 + u64::from(hex_value(byte));
                At::Size
            }
            (At::Size | At::SizeSpace, b'\r') if self.digits > 0 => At::SizeLf,
            (At::Size | At::SizeSpace, b';') if self.digits > 0 => At::Extension,
            (At::Size | At::SizeSpace, b' ' | b'\t') if self.digits > 0 => At::SizeSpace,
            (At::Extension, b'\r') => At::SizeLf,
            (At::Extension, b'\t' | 0x20..=0x7e | 0x80..) => At::Extension,
            (At::SizeLf, b'\n') if self.size > 0 => At::Data,
            (At::SizeLf, b'\n') => {
                self.line = 0;
                At::TrailerStart
            }
            (At::DataCr, b'\r') => At::DataLf,
            (At::DataLf, b'\n') => {
                *self = Self::new();
                At::Size
            }
            (At::TrailerStart, b'\r') => At::EndLf,
            (At::TrailerStart | At::Trailer, b'\t' | 0x20..=0x7e | 0x80..) => At::Trailer,
            (At::Trailer, b'\r') => At::TrailerLf,
            (At::TrailerLf, b'\n') => At::TrailerStart,
            (At::EndLf, b'\n') => At::End,
            (
                At::Size
                | At::SizeSpace
                | At::Extension
                | At::SizeLf
                | At::Data
                | At::DataCr
                | At::DataLf
                | At::TrailerStart
                | At::Trailer
                | At::TrailerLf
                | At::EndLf
                | At::End,
                _,
            ) => return Err(Violation::Chunk),
        };
        let limit =
            if matches!(next, At::TrailerStart | At::Trailer | At::TrailerLf) { TRAILER_LIMIT } else { LINE_LIMIT };
        if self.line > limit { Err(Violation::Chunk) } else { Ok(next) }
    }
}

fn hex_value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(text: &str) -> (usize, Result<(), Violation>, bool) {
        let mut chunks = Chunks::new();
        let (taken, result) = chunks.advance(text.as_bytes());
        (taken, result, chunks.is_whole())
    }

    /// The data of what comes in these pieces, up to the first bad byte.
    fn data<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
        let (mut chunks, mut data) = (Chunks::new(), Vec::new());
        for piece in pieces {
            let mut position = 0;
            loop {
                match chunks.next_data(piece, &mut position) {
                    Ok(Some(found)) => data.extend_from_slice(&piece[found]),
                    Ok(None) => break,
                    Err(_) => return data,
                }
            }
        }
        data
    }

    /// As many bytes are taken, and the same is found wrong, however they come.
    #[test]
    fn whole_packets_and_single_bytes_are_judged_alike() {
        for text in [
            "5\r\nhello\r\nA\r\n0123456789\r\n0\r\n\r\n",
            "000005\r\nhello\r\n0000005\r\nhello\r\n0\r\n\r\n",
            "5\r\nhello\r\n5\r\nhel",
            "5\r\nhello\r\n5;x\r\nhello\r\n",
            "5\r\nhello\r\n5\r\nhello!\n",
            "5\r\nhello\r\n5\nhello\r\n",
            "5\r\nhello\r\ng\r\n",
            "5\r\nhello\r\n\r\n",
        ] {
            let mut chunks = Chunks::new();
            let mut taken = 0;
            let mut result = Ok(());
            for byte in text.as_bytes() {
                let (count, judged) = chunks.advance(&[*byte]);
                (taken, result) = (taken + count, judged);
                if judged.is_err() || count == 0 {
                    break;
                }
            }
            assert_eq!(walk(text), (taken, result, chunks.is_whole()), "{text:?}");
            let bytes = text.as_bytes();
            assert_eq!(data(std::iter::once(bytes)), data(bytes.chunks(1)), "{text:?}");
        }
    }

    #[test]
    fn the_end_is_found_and_nothing_after_it_is_taken() {
        for body in ["0\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n", "A;x=\"y\"\r\n0123456789\r\n00 \r\nt: 1\r\nu: 2\r\n\r\n"] {
            assert_eq!(walk(body), (body.len(), Ok(()), true), "{body:?}");
            assert_eq!(walk(&format!("{body}HTTP/1.1 200 OK")), (body.len(), Ok(()), true), "{body:?}");
            for cut in 0..body.len() {
                assert_eq!(walk(&body[..cut]), (cut, Ok(()), false), "{:?}", &body[..cut]);
            }
        }
    }

    #[test]
    fn bad_framing_is_found_where_it_is() {
        for (body, at) in [
            ("\r\n", 0),
            (";x\r\n", 0),
            ("-5\r\n", 0),
            ("0x5\r\n", 1),
            ("5\nhello", 1),
            ("5 5\r\n", 2),
            ("5\r\nhello0\r\n\r\n", 8),
            ("5\r\nhello\n", 8),
            ("fffffffffffffffff\r\n", 15),
            ("0\r\n\n", 3),
            ("5;a\0b\r\n", 3),
        ] {
            assert_eq!(walk(body), (at, Err(Violation::Chunk), false), "{body:?}");
        }
        assert!(walk(&format!("5;{}", "x".repeat(2000))).1.is_err());
        assert!(walk(&format!("0\r\nt: {}", "x".repeat(9000))).1.is_err());
    }
}
