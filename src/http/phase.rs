//! Where a connection is between two requests, told from the bytes that come and from what actix says.
//!
//! The hard part is the end of an answer: is the rest of actix's buffer empty (the client may rest) or does it hold
//! the beginning of the next head (whose clock runs)? The buffer cannot be seen from here, so bytes are counted from
//! the empty line that ended the head. Where counting cannot tell (pipelined requests, a head cut by packets), the
//! shorter deadline holds.

use std::cell::Cell;
use std::sync::LazyLock;
use std::time::Duration;

use actix_web::http::header::{CONTENT_LENGTH, HeaderMap, TRANSFER_ENCODING};
use memchr::memmem::Finder;

use super::outlet::Outlet;
use crate::domain::time::{self, Timestamp};

const EMPTY_LINE: &[u8] = b"\r\n\r\n";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing of a request has come since the last answer.
    Idle(Timestamp),
    /// The next head may have begun, since here its clock runs.
    Perhaps(Timestamp),
    /// A head is coming in.
    Head(Timestamp),
    /// An empty line came, so actix should begin a request at once. Should it not (these bytes were the rest of a
    /// body that nobody wanted), the client gets no more than `idle` out of it.
    Whole(Timestamp),
    /// A request is being answered.
    Busy,
}

/// How the current request said its body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    None,
    Length(u64),
    Chunked,
}

/// Whether the answer is the connection's last, and how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    No,
    Broken,
    Session,
}

/// What did not come in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overdue {
    /// The rest of a head.
    Head,
    /// Anything at all.
    Request,
}

/// Shared by a connection and its requests, on one thread. Begins with a line of the processor's caches, so that it takes no
/// more of them than it must: it is looked at with every chunk of a stream.
#[repr(align(64))]
pub struct Watch {
    phase: Cell<Phase>,
    /// Bytes that came after the current head's empty line, where that was seen.
    after_head: Cell<Option<u64>>,
    framing: Cell<Framing>,
    /// The last four bytes received.
    tail: Cell<[u8; 4]>,
    last: Cell<Last>,
    outlet: Outlet,
}

impl Watch {
    /// The first head's clock starts with the connection.
    pub fn new(accepted: Timestamp) -> Self {
        Self {
            phase: Cell::new(Phase::Perhaps(accepted)),
            after_head: Cell::new(None),
            framing: Cell::new(Framing::None),
            tail: Cell::new([0; 4]),
            last: Cell::new(Last::No),
            outlet: Outlet::default(),
        }
    }

    /// Told by the connection, for all that it reads.
    pub fn received(&self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        match self.phase.get() {
            Phase::Idle(_) => self.head_began(bytes, time::now()),
            Phase::Perhaps(since) => self.head_began(bytes, since),
            Phase::Head(_) => {}
            Phase::Whole(_) | Phase::Busy => {
                self.after_head.set(self.after_head.get().map(|count| count + bytes.len() as u64))
            }
        }
        self.tail.set(shifted(self.tail.get(), bytes));
    }

    /// Told by the service, for each request that it is given.
    pub fn request_began(&self, headers: &HeaderMap) {
        self.phase.set(Phase::Busy);
        self.framing.set(Framing::of(headers));
    }

    /// Where the body of an answer leaves what goes to the client past actix.
    pub(super) fn outlet(&self) -> &Outlet {
        &self.outlet
    }

    /// Whether all of the current request's body is there already. One that comes in chunks may look whole and not be so.
    pub fn has_whole_body(&self) -> bool {
        match (self.framing.get(), self.after_head.get()) {
            (Framing::Length(length), Some(count)) => count >= length,
            (Framing::None, _) => true,
            (Framing::Length(_), None) | (Framing::Chunked, _) => false,
        }
    }

    /// Told by the service when an answer's last byte was handed to actix, or the answer was given up.
    pub fn request_ended(&self) {
        // No unfinished head ends with an empty line, and a chunked body ends with one.
        let at_an_end = self.tail.get() == EMPTY_LINE;
        let nothing_left = match (self.framing.get(), self.after_head.get()) {
            (Framing::None, Some(count)) => count == 0,
            (Framing::None, None) => at_an_end,
            (Framing::Length(length), count) => count == Some(length),
            (Framing::Chunked, count) => at_an_end && count != Some(0),
        };
        let now = time::now();
        self.phase.set(if nothing_left { Phase::Idle(now) } else { Phase::Perhaps(now) });
        self.after_head.set(None);
    }

    /// Told by the service when an answer broke off: the connection ends as soon as what there is of it is written.
    pub fn answer_broke(&self) {
        self.last.set(Last::Broken);
    }

    pub fn is_broken(&self) -> bool {
        self.last.get() == Last::Broken
    }

    /// Told by the service when the session that a connection was given over to is at its end: no request follows.
    pub fn session_ended(&self) {
        self.last.set(Last::Session);
    }

    pub fn is_over(&self) -> bool {
        self.last.get() == Last::Session
    }

    /// The wait for a request begins anew: until now the client was busy taking an answer.
    pub fn rest_began(&self, now: Timestamp) {
        match self.phase.get() {
            Phase::Idle(_) => self.phase.set(Phase::Idle(now)),
            Phase::Perhaps(_) => self.phase.set(Phase::Perhaps(now)),
            Phase::Head(_) | Phase::Whole(_) | Phase::Busy => {}
        }
    }

    /// When the client will have used up its time, and for what.
    pub fn deadline(&self, head: Duration, idle: Duration) -> Option<(Timestamp, Overdue)> {
        match self.phase.get() {
            Phase::Idle(since) | Phase::Whole(since) => Some((since.after(idle), Overdue::Request)),
            Phase::Perhaps(since) => Some((since.after(head), Overdue::Request)),
            Phase::Head(since) => Some((since.after(head), Overdue::Head)),
            Phase::Busy => None,
        }
    }

    /// A head that is whole in its first packet, as nearly all are, needs no clock.
    fn head_began(&self, bytes: &[u8], since: Timestamp) {
        static END: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(EMPTY_LINE));
        // Empty lines before a request are skipped by actix, so they must not be taken for the end of a head.
        let end = match bytes.first() {
            Some(b'\r' | b'\n') => None,
            _ => END.find(bytes),
        };
        match end {
            Some(at) => {
                self.phase.set(Phase::Whole(since));
                self.after_head.set(Some((bytes.len() - at - EMPTY_LINE.len()) as u64));
            }
            None => self.phase.set(Phase::Head(since)),
        }
    }
}

impl Framing {
    fn of(headers: &HeaderMap) -> Self {
        if headers.contains_key(TRANSFER_ENCODING) {
            return Self::Chunked;
        }
        match headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.trim().parse().ok()) {
            Some(length) if length > 0 => Self::Length(length),
            _ => Self::None,
        }
    }
}

fn shifted(tail: [u8; 4], bytes: &[u8]) -> [u8; 4] {
    match bytes.last_chunk::<4>() {
        Some(last) => *last,
        None => {
            let mut next = tail;
            next.rotate_left(bytes.len());
            next[4 - bytes.len()..].copy_from_slice(bytes);
            next
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    const HEAD: Duration = Duration::from_secs(10);
    const IDLE: Duration = Duration::from_secs(60);

    const LENGTH_2: &str = "content-length: 2\r\n";
    const CHUNKED: &str = "transfer-encoding: chunked\r\n";

    /// A request that came in these pieces, of a head with this line.
    fn begun(line: &str, pieces: &[&str]) -> Watch {
        let watch = Watch::new(Timestamp::ZERO);
        for piece in pieces {
            watch.received(piece.replace("LINE", line).as_bytes());
        }
        let mut headers = HeaderMap::new();
        if let Some((name, value)) = line.trim().split_once(": ") {
            headers.insert(name.parse().unwrap(), HeaderValue::from_str(value).unwrap());
        }
        watch.request_began(&headers);
        watch
    }

    /// After the answer to it.
    fn answered(line: &str, pieces: &[&str]) -> Watch {
        let watch = begun(line, pieces);
        watch.request_ended();
        watch
    }

    fn rests(watch: &Watch) -> bool {
        matches!(watch.phase.get(), Phase::Idle(_))
    }

    #[test]
    fn a_client_that_sent_one_whole_request_may_rest() {
        for (line, pieces) in [
            ("", &["GET / HTTP/1.1\r\nhost: a\r\n\r\n"][..]),
            ("", &["GET / HT", "TP/1.1\r\n\r\n"]),
            (LENGTH_2, &["POST / HTTP/1.1\r\nLINE\r\n{}"]),
            (LENGTH_2, &["POST / HTTP/1.1\r\nLINE\r\n", "{", "}"]),
            (CHUNKED, &["POST / HTTP/1.1\r\nLINE\r\n2\r\n{}\r\n0\r\n\r\n"]),
            (CHUNKED, &["POST / HTTP/1.1\r\nLINE\r\n2\r\n{}\r\n0\r\n", "\r", "\n"]),
        ] {
            assert!(rests(&answered(line, pieces)), "{line:?} {pieces:?}");
        }
    }

    #[test]
    fn a_body_is_whole_when_as_much_of_it_is_there_as_was_announced() {
        for (line, pieces, is_whole) in [
            ("", &["GET / HTTP/1.1\r\n\r\n"][..], true),
            (LENGTH_2, &["POST / HTTP/1.1\r\nLINE\r\n"], false),
            (LENGTH_2, &["POST / HTTP/1.1\r\nLINE\r\n{"], false),
            (LENGTH_2, &["POST / HTTP/1.1\r\nLINE\r\n{", "}"], true),
            (LENGTH_2, &["POST / HTTP/1.1\r\nLINE\r", "\n{}"], false),
            (CHUNKED, &["POST / HTTP/1.1\r\nLINE\r\n4\r\n\r\n\r\n"], false),
        ] {
            let watch = begun(line, pieces);
            assert_eq!(watch.has_whole_body(), is_whole, "{pieces:?}");
        }
    }

    #[test]
    fn what_came_behind_a_request_is_on_the_clock_and_so_is_what_did_not_come() {
        for (line, pieces) in [
            ("", &["GET / HTTP/1.1\r\nhost: a\r\n\r\nGET"][..]),
            (LENGTH_2, &["POST / HTTP/1.1\r\nLINE\r\n{}G"]),
            (LENGTH_2, &["POST / HTTP/1.1\r\nLINE\r\n", "{}", "G"]),
            (LENGTH_2, &["POST / HTTP/1.1\r\nLINE\r\n", "{"]),
            (CHUNKED, &["POST / HTTP/1.1\r\nLINE\r\n0\r\n\r\nPO"]),
            (CHUNKED, &["POST / HTTP/1.1\r\nLINE\r\n"]),
        ] {
            assert!(!rests(&answered(line, pieces)), "{line:?} {pieces:?}");
        }
    }

    #[test]
    fn a_head_is_on_the_clock_from_its_first_byte_to_its_last() {
        let watch = answered("", &["GET / HTTP/1.1\r\n\r\n"]);
        watch.received(b"G");
        let (deadline, overdue) = watch.deadline(HEAD, IDLE).unwrap();
        assert_eq!(overdue, Overdue::Head);
        watch.received(b"ET / HTTP/1.1\r\n");
        assert_eq!(watch.deadline(HEAD, IDLE), Some((deadline, Overdue::Head)), "a drip moves nothing");
        watch.request_began(&HeaderMap::new());
        assert_eq!(watch.deadline(HEAD, IDLE), None);
    }

    #[test]
    fn empty_lines_do_not_pass_for_a_head() {
        let watch = Watch::new(Timestamp::ZERO);
        watch.received(b"\r\n\r\n");
        assert_eq!(watch.deadline(HEAD, IDLE), Some((Timestamp::ZERO.after(HEAD), Overdue::Head)));
    }

    #[test]
    fn the_dripped_rest_of_an_unwanted_body_passes_for_no_request() {
        let watch = answered(CHUNKED, &["POST / HTTP/1.1\r\nLINE\r\n"]);
        let (deadline, _) = watch.deadline(HEAD, IDLE).unwrap();
        for _ in 0..100 {
            watch.received(b"4\r\n\r\n\r\n\r\n");
            assert!(watch.deadline(HEAD, IDLE).unwrap().0 <= deadline.after(IDLE));
        }
    }

    #[test]
    fn a_silent_stranger_has_a_heads_time() {
        let watch = Watch::new(Timestamp::ZERO);
        assert_eq!(watch.deadline(HEAD, IDLE), Some((Timestamp::ZERO.after(HEAD), Overdue::Request)));
        watch.received(b"");
        assert_eq!(watch.deadline(HEAD, IDLE), Some((Timestamp::ZERO.after(HEAD), Overdue::Request)));
    }
}
