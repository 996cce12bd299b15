//! Every split of the bytes gives the same answer; no cut answer is whole.

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
