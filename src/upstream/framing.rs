//! What the bytes of one connection mean: a pure state machine over everything the peer sends.
//!
//! awc is to see exactly one whole, final answer per request. So interim heads are dropped, ambiguous framing is
//! refused, an answer that ends with the connection is re-framed as chunks, and bytes behind an answer are never
//! passed on. Ordinary bytes are looked at where they lie and not copied. Knows no I/O, no clock and no awc.

use bytes::{Buf, Bytes, BytesMut};

use super::chunks::Chunks;
use super::head::{self, BodyLength, HEAD_LIMIT, Head, Parsed};

/// Interim heads before one answer; nobody honest sends more than two or three.
const INTERIM_LIMIT: u32 = 8;

/// The end of a chunked body.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Why bytes are no acceptable HTTP/1.1 response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    #[error("not an HTTP/1.1 response")]
    NotHttp,
    #[error("malformed header")]
    Header,
    #[error("response head too large")]
    HeadTooLarge,
    #[error("contradictory or malformed content-length")]
    Length,
    #[error("unsupported transfer-encoding")]
    TransferEncoding,
    #[error("unexpected protocol switch")]
    SwitchingProtocols,
    #[error("too many interim responses")]
    TooManyInterim,
    #[error("malformed chunk")]
    Chunk,
}

/// Where the answer to the current request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// No request is under way.
    Idle,
    /// A request is being sent or was sent; its final head is not complete.
    Head,
    Body,
    /// The answer is complete.
    Whole,
    Broken(Violation),
}

/// What is to become of bytes just read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accepted {
    /// So many of them go on as they are; the rest belongs to no answer.
    Pass(usize),
    /// None goes on as it is; what may be delivered instead is in [`Framer::ready`].
    Held,
}

#[derive(Debug)]
pub(super) struct Framer {
    state: State,
    /// An unfinished head.
    held: Vec<u8>,
    /// Rewritten bytes from `ready_at` on wait for delivery.
    ready: Vec<u8>,
    ready_at: usize,
    interim: u32,
    status: u16,
    reusable: bool,
}

#[derive(Debug)]
enum State {
    Idle,
    Head,
    Exactly(u64),
    Chunked(Chunks),
    UntilClose,
    Whole,
    Broken(Violation),
}

impl Framer {
    pub(super) fn new() -> Self {
        Self {
            state: State::Idle,
            held: Vec::new(),
            ready: Vec::new(),
            ready_at: 0,
            interim: 0,
            status: 0,
            reusable: true,
        }
    }

    pub(super) fn progress(&self) -> Progress {
        match self.state {
            State::Idle => Progress::Idle,
            State::Head => Progress::Head,
            State::Exactly(_) | State::Chunked(_) | State::UntilClose => Progress::Body,
            State::Whole => Progress::Whole,
            State::Broken(violation) => Progress::Broken(violation),
        }
    }

    /// The status of the last final head.
    pub(super) fn status(&self) -> u16 {
        self.status
    }

    /// Whether the connection may carry another request once this answer is whole.
    pub(super) fn is_reusable(&self) -> bool {
        self.reusable
    }

    /// A request begins; its answer is the next thing expected.
    pub(super) fn begin(&mut self) {
        debug_assert!(matches!(self.state, State::Idle | State::Whole));
        self.state = State::Head;
        self.interim = 0;
    }

    /// Bytes to deliver before anything newly read.
    pub(super) fn ready(&self) -> &[u8] {
        &self.ready[self.ready_at..]
    }

    /// The first `count` of [`Framer::ready`] were delivered.
    pub(super) fn delivered(&mut self, count: usize) {
        self.ready_at += count;
        if self.ready_at >= self.ready.len() {
            self.ready.clear();
            self.ready_at = 0;
        }
    }

    /// Puts passed bytes aside for later delivery.
    pub(super) fn keep(&mut self, bytes: &[u8]) {
        self.ready.extend_from_slice(bytes);
    }

    /// The peer sent `bytes`.
    pub(super) fn accept(&mut self, bytes: &[u8]) -> Accepted {
        match self.state {
            State::Head if self.held.is_empty() => match head::parse(bytes) {
                Ok(Parsed::Final(head)) if head.rewritten.is_none() => {
                    self.start_body(&head);
                    let body = self.body_part(&bytes[head.len..]);
                    self.pass(head.len + body, bytes.len())
                }
                Ok(Parsed::Final(_) | Parsed::Interim(_) | Parsed::Partial) => self.hold(bytes),
                Err(violation) => self.fail(violation),
            },
            State::Head => self.hold(bytes),
            State::UntilClose => {
                self.enchunk(bytes);
                Accepted::Held
            }
            State::Idle | State::Exactly(_) | State::Chunked(_) | State::Whole | State::Broken(_) => {
                let body = self.body_part(bytes);
                self.pass(body, bytes.len())
            }
        }
    }

    pub(super) fn is_chunked(&self) -> bool {
        matches!(self.state, State::Chunked(_))
    }

    /// Whether a chunk may begin next: from here on the rest of the body can be read without awc.
    pub(super) fn is_between_chunks(&self) -> bool {
        matches!(&self.state, State::Chunked(chunks) if chunks.is_between()) && self.ready().is_empty()
    }

    /// As `accept` inside a chunked body, for a reader that wants no frames: takes the next data out of `bytes`, which are
    /// used up when there is none.
    pub(super) fn unchunk(&mut self, bytes: &mut BytesMut) -> Option<Bytes> {
        let State::Chunked(chunks) = &mut self.state else { return None };
        let mut position = 0;
        match chunks.next_data(bytes, &mut position) {
            Ok(Some(data)) => {
                let is_all = position == bytes.len();
                let mut taken = if is_all { std::mem::take(bytes) } else { bytes.split_to(position) };
                taken.truncate(data.end);
                taken.advance(data.start);
                return Some(taken.freeze());
            }
            Ok(None) if chunks.is_whole() => {
                self.state = State::Whole;
                self.reusable &= position == bytes.len();
            }
            Ok(None) => {}
            Err(violation) => {
                self.fail(violation);
            }
        }
        // Not cleared: that would keep its memory from others.
        *bytes = BytesMut::new();
        None
    }

    /// The body was read to its end by someone else: all that is left for awc is that end.
    pub(super) fn leave_the_end(&mut self) {
        self.ready.extend_from_slice(LAST_CHUNK);
    }

    /// The peer closed its side in good order. `true` when that was a proper end.
    pub(super) fn end(&mut self) -> bool {
        self.reusable = false;
        match self.state {
            State::Idle | State::Whole => true,
            State::UntilClose => {
                self.ready.extend_from_slice(LAST_CHUNK);
                self.state = State::Whole;
                true
            }
            State::Head | State::Exactly(_) | State::Chunked(_) | State::Broken(_) => false,
        }
    }

    fn fail(&mut self, violation: Violation) -> Accepted {
        self.state = State::Broken(violation);
        self.reusable = false;
        Accepted::Held
    }

    fn pass(&mut self, count: usize, of: usize) -> Accepted {
        if count < of {
            self.reusable = false;
        }
        Accepted::Pass(count)
    }

    /// Collects a head that came in pieces or has to be changed.
    fn hold(&mut self, bytes: &[u8]) -> Accepted {
        // A head is parsed when its last line is there and not on every byte, or a slow peer would cost us the square.
        let mut unseen = self.held.len().saturating_sub(3);
        self.held.extend_from_slice(bytes);
        while let Some(end) = head_end(&self.held, unseen) {
            match head::parse(&self.held) {
                Ok(Parsed::Final(head)) => return self.release(&head),
                Ok(Parsed::Interim(len)) => {
                    self.interim += 1;
                    if self.interim > INTERIM_LIMIT {
                        return self.fail(Violation::TooManyInterim);
                    }
                    self.held.drain(..len);
                    unseen = 0;
                }
                // An empty line before the status line looks like an end.
                Ok(Parsed::Partial) => unseen = end,
                Err(violation) => return self.fail(violation),
            }
        }
        if self.held.len() > HEAD_LIMIT {
            return self.fail(Violation::HeadTooLarge);
        }
        if !starts_like_http(&self.held) {
            return self.fail(Violation::NotHttp);
        }
        Accepted::Held
    }

    /// The held bytes contain a whole final head and perhaps some of its body.
    fn release(&mut self, head: &Head) -> Accepted {
        self.start_body(head);
        let mut held = std::mem::take(&mut self.held);
        match &head.rewritten {
            Some(rewritten) => self.ready.extend_from_slice(rewritten),
            None => self.ready.extend_from_slice(&held[..head.len]),
        }
        let rest = &held[head.len..];
        if matches!(self.state, State::UntilClose) {
            self.enchunk(rest);
        } else {
            let body = self.body_part(rest);
            self.ready.extend_from_slice(&rest[..body]);
            if body < rest.len() {
                self.reusable = false;
            }
        }
        held.clear();
        self.held = held;
        Accepted::Held
    }

    fn start_body(&mut self, head: &Head) {
        self.status = head.status;
        self.reusable &= head.keep_alive;
        self.state = match head.body {
            BodyLength::None => State::Whole,
            BodyLength::Exactly(length) => State::Exactly(length),
            BodyLength::Chunked => State::Chunked(Chunks::new()),
            BodyLength::UntilClose => State::UntilClose,
        };
    }

    /// How many of `bytes` belong to the body.
    fn body_part(&mut self, bytes: &[u8]) -> usize {
        match &mut self.state {
            State::Exactly(rest) => {
                let step = (*rest).min(bytes.len() as u64);
                *rest -= step;
                if *rest == 0 {
                    self.state = State::Whole;
                }
                usize::try_from(step).unwrap_or(bytes.len())
            }
            State::Chunked(chunks) => {
                let (taken, result) = chunks.advance(bytes);
                match result {
                    Ok(()) if chunks.is_whole() => self.state = State::Whole,
                    Ok(()) => {}
                    Err(violation) => {
                        self.fail(violation);
                    }
                }
                taken
            }
            State::Idle | State::Head | State::UntilClose | State::Whole | State::Broken(_) => 0,
        }
    }

    /// One chunk for awc out of bytes that only the end of the connection will end.
    fn enchunk(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.ready.extend_from_slice(format!("{:x}\r\n", bytes.len()).as_bytes());
            self.ready.extend_from_slice(bytes);
            self.ready.extend_from_slice(b"\r\n");
        }
    }
}

/// The position behind the first empty line that ends at or after `from`.
fn head_end(bytes: &[u8], from: usize) -> Option<usize> {
    memchr::memchr_iter(b'\n', bytes.get(from..)?).map(|at| from + at).find_map(|at| match bytes.get(at + 1..)? {
        [b'\n', ..] => Some(at + 2),
        [b'\r', b'\n', ..] => Some(at + 3),
        _ => None,
    })
}

fn starts_like_http(bytes: &[u8]) -> bool {
    let text = bytes.trim_ascii_start();
    let length = text.len().min(7);
    text[..length] == b"HTTP/1."[..length]
}

#[cfg(test)]
mod tests;
