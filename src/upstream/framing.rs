//! What the bytes of one connection mean: a pure state machine over everything the peer sends.
//!
//! awc is to see exactly one whole, final answer per request. So interim heads are dropped, ambiguous framing is
//! refused, an answer that ends with the connection is re-framed as chunks, and bytes behind an answer are never
//! passed on. Ordinary bytes are looked at where they lie and not copied. Knows no I/O, no clock and no awc.

use super::chunks::Chunks;
use super::head::{self, BodyLength, HEAD_LIMIT, Head, Parsed};

/// Interim heads before one answer; nobody honest sends more than two or three.
const INTERIM_LIMIT: u32 = 8;

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

    /// The peer closed its side in good order. `true` when that was a proper end.
    pub(super) fn end(&mut self) -> bool {
        self.reusable = false;
        match self.state {
            State::Idle | State::Whole => true,
            State::UntilClose => {
                self.ready.extend_from_slice(b"0\r\n\r\n");
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All that comes of one connection: what awc sees, where it stands, whether it may be used again.
    fn run<'a>(pieces: impl Iterator<Item = &'a [u8]>, closed: bool) -> (Vec<u8>, Progress, bool) {
        let mut framer = Framer::new();
        framer.begin();
        let mut seen = Vec::new();
        for piece in pieces {
            if let Accepted::Pass(count) = framer.accept(piece) {
                assert!(framer.ready().is_empty(), "passed bytes must not overtake held ones");
                seen.extend_from_slice(&piece[..count]);
            }
            seen.extend_from_slice(framer.ready());
            framer.delivered(framer.ready().len());
        }
        if closed {
            framer.end();
            seen.extend_from_slice(framer.ready());
        }
        (seen, framer.progress(), framer.is_reusable())
    }

    fn answers() -> impl Strategy<Value = String> {
        let interim = prop_oneof![
            4 => Just(""),
            1 => Just("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"),
            1 => Just("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n"),
        ];
        let answer = prop_oneof![
            Just("HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\nhello world"),
            Just(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n10;x\r\n0123456789abcdef\r\n0\r\nt: u\r\n\r\n"
            ),
            Just("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n"),
            Just("HTTP/1.1 204 No Content\r\ncontent-length: 7\r\n\r\n"),
            Just("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok"),
            Just("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok"),
            Just("HTTP/1.1 200 OK\r\nupgrade: websocket\r\ncontent-length: 2\r\n\r\nok"),
            Just("\r\nHTTP/1.1 200 OK\ncontent-length: 2\n\nok"),
        ];
        let poison = prop_oneof![3 => Just(""), 1 => Just("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison")];
        (interim, answer, poison).prop_map(|(interim, answer, poison)| format!("{interim}{answer}{poison}"))
    }

    fn pieces<'a>(bytes: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        at.extend([0, bytes.len()]);
        at.sort_unstable();
        at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).filter(|piece| !piece.is_empty()).collect()
    }

    proptest! {
        #[test]
        fn any_split_of_the_bytes_gives_the_same_answer(
            answer in answers(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
            closed in any::<bool>(),
        ) {
            let whole = run(std::iter::once(answer.as_bytes()), closed);
            prop_assert_eq!(run(pieces(answer.as_bytes(), &cuts).into_iter(), closed), whole.clone());
            prop_assert_eq!(run(answer.as_bytes().chunks(1), closed), whole);
        }

        #[test]
        fn an_answer_that_ends_with_the_connection_is_whole_in_any_split(
            body in prop::collection::vec(any::<u8>(), 0..300),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let mut bytes = b"HTTP/1.0 200 OK\r\n\r\n".to_vec();
            bytes.extend_from_slice(&body);
            let (seen, progress, reusable) = run(pieces(&bytes, &cuts).into_iter(), true);
            prop_assert_eq!((progress, reusable), (Progress::Whole, false));
            // What awc sees is itself one whole chunked answer with the same bytes in it.
            let head = seen.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
            let mut framer = Framer::new();
            framer.begin();
            prop_assert_eq!(framer.accept(&seen), Accepted::Pass(seen.len()));
            prop_assert_eq!(framer.progress(), Progress::Whole);
            prop_assert_eq!(unchunk(&seen[head..]), body);
            prop_assert_eq!(run(pieces(&bytes, &cuts).into_iter(), false).1, Progress::Body);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), closed in any::<bool>()) {
            run(bytes.chunks(7), closed);
            let mut answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
            answer.extend_from_slice(&bytes);
            run(answer.chunks(5), closed);
        }
    }

    fn unchunk(mut bytes: &[u8]) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let line = bytes.iter().position(|byte| *byte == b'\r').unwrap();
            let size = usize::from_str_radix(std::str::from_utf8(&bytes[..line]).unwrap(), 16).unwrap();
            if size == 0 {
                return body;
            }
            body.extend_from_slice(&bytes[line + 2..line + 2 + size]);
            bytes = &bytes[line + 2 + size + 2..];
        }
    }

    #[test]
    fn a_cut_answer_is_never_whole() {
        for answer in [
            "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\nhello world",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ] {
            for cut in 0..answer.len() {
                let mut framer = Framer::new();
                framer.begin();
                framer.accept(&answer.as_bytes()[..cut]);
                assert!(!framer.end(), "cut at {cut} of {answer:?}");
                assert_ne!(framer.progress(), Progress::Whole);
            }
            let (_, progress, reusable) = run(std::iter::once(answer.as_bytes()), false);
            assert_eq!((progress, reusable), (Progress::Whole, true));
        }
    }

    #[test]
    fn interim_heads_are_bounded() {
        let flood = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(20);
        assert_eq!(run(flood.as_bytes().chunks(10), false).1, Progress::Broken(Violation::TooManyInterim));
        let endless = format!("HTTP/1.1 103 Early Hints\r\nx: {}", "y".repeat(HEAD_LIMIT));
        assert_eq!(run(endless.as_bytes().chunks(100), false).1, Progress::Broken(Violation::HeadTooLarge));
    }

    #[test]
    fn bytes_without_a_request_make_the_connection_unusable() {
        let mut framer = Framer::new();
        assert_eq!(framer.accept(b"HTTP/1.1 408 Request Timeout\r\n\r\n"), Accepted::Pass(0));
        assert!(!framer.is_reusable());
    }
}
