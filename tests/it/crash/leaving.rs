//! Clients that leave at random moments, by every way to leave: what they cost is known, nothing stays behind.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aoai_gateway::simulator::{Knobs, StreamMode};
use aoai_gateway::storage::requests::RequestView;
use socket2::SockRef;

use super::books::{Books, spread};
use super::client::{Ask, Kind, read};
use super::load::Tried;
use crate::support::client::find;
use crate::support::process::{Estate, Gateway, PATIENCE};
use crate::support::tries::once_in_three;
use crate::support::variable;

/// So many hang up in each phase, of each of the two ways to treat those who leave; `ROUNDS=1000` asks for more.
const ROUNDS: usize = 60;
const AT_ONCE: u64 = 20;
/// Tokens of an answer, two milliseconds each.
const LENGTH: u32 = 100;
/// Some stay to the end.
const LATEST: u64 = 300;

/// How a client leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// It says that it is done (FIN) and stays to see what happens.
    Fin,
    /// It closes the socket; unread bytes make that a RST.
    Close,
    /// RST at once.
    Reset,
}

/// When it leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// In the middle of the request's head, or of its body: there is no request then.
    Head,
    Body,
    /// When all is sent.
    Sent,
    /// When the answer's head has come, or some of it, or its last word.
    Answered,
    Begun,
    LastWord,
    /// At any moment.
    AnyTime,
}

const PHASES: [Phase; 8] = [
    Phase::Head,
    Phase::Body,
    Phase::Sent,
    Phase::Answered,
    Phase::Begun,
    Phase::LastWord,
    Phase::AnyTime,
    Phase::AnyTime,
];

struct Left {
    tried: Tried,
    phase: Phase,
    /// Microseconds since the Unix epoch.
    at: i64,
    /// Kept open until the books are closed.
    _socket: Option<TcpStream>,
}

/// Lets clients leave, and closes the books when all is quiet.
fn leave(settings: &str) -> (Books, BTreeMap<String, i64>) {
    let knobs =
        Knobs { ttft_ms: 10, token_ms: 2, output_tokens: LENGTH, stream: StreamMode::NoFilter, ..Knobs::default() };
    let estate = Estate::new(&knobs, settings);
    let gateway = estate.start();
    let left: Vec<Left> = std::thread::scope(|scope| {
        let clients = |thread| {
            let (key, address) = (&estate.key, gateway.address);
            let mut random = fastrand::Rng::with_seed(thread);
            let clients = (thread as usize..variable("ROUNDS", ROUNDS) * PHASES.len()).step_by(AT_ONCE as usize);
            move || -> Vec<Left> {
                clients
                    .map(|n| {
                        visit(address, key, &format!("l{n}"), PHASES[n / AT_ONCE as usize % PHASES.len()], &mut random)
                    })
                    .collect()
            }
        };
        let threads: Vec<_> = (0..AT_ONCE).map(|thread| scope.spawn(clients(thread))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    quiet(&gateway);
    // With nothing in flight: every permit of a key is back.
    gateway.stop();
    let unsent = |left: &&Left| matches!(left.phase, Phase::Head | Phase::Body);
    let half: Vec<_> = left.iter().filter(unsent).map(|left| left.tried.id.clone()).collect();
    let (tried, left_at): (Vec<_>, BTreeMap<_, _>) =
        left.iter().map(|left| (left.tried.clone(), (left.tried.id.clone(), left.at))).unzip();
    let books = Books::close(&estate, tried);
    let figures = books.figures();
    println!("{figures}");
    assert_eq!(figures.unknown, 0, "every region that was asked is in the ledger");
    assert!(half.iter().all(|id| !books.rows.contains_key(id)), "a row of half a request");
    assert_eq!(figures.state("settled") + figures.state("cancelled"), books.rows.len());
    // How many get it all depends on the machine; that both happen does not.
    assert!(figures.received > 2 && figures.state("cancelled") > 100, "{figures}");
    assert!(figures.state("settled") >= figures.received);
    (books, left_at)
}

#[test]
fn what_leaving_clients_cost_is_known_and_nothing_stays_behind() {
    once_in_three(|| {
        let (books, left_at) = leave("");
        estimates_are_close(&books)?;
        upstreams_are_told(&books, &left_at)
    });
}

#[test]
fn with_draining_what_leaving_clients_cost_is_known_exactly() {
    once_in_three(drained);
}

fn drained() -> Result<(), String> {
    let (books, _) = leave("[accounting]\non_disconnect = \"drain\"\n");
    let asked = |row: &&RequestView| row.state == "cancelled" && !row.attempts.is_empty();
    let (exact, rough): (Vec<_>, Vec<_>) = books.rows.values().filter(asked).partition(|row| !row.estimated);
    println!("drained      {} exact, {} by estimate", exact.len(), rough.len());
    // That the figures are the regions' own, `Books::close` has seen; too many at once are given up.
    assert!(exact.iter().all(|row| row.attempts.iter().all(|attempt| attempt.charged.as_deref() == Some("exact"))));
    match exact.len() > 100 && rough.len() * 20 <= exact.len() {
        true => Ok(()),
        false => Err(format!("{} exact, and by estimate {rough:#?}", exact.len())),
    }
}

fn visit(address: SocketAddr, key: &str, id: &str, phase: Phase, random: &mut fastrand::Rng) -> Left {
    let kinds = [Kind::Stream, Kind::Stream, Kind::StreamWithUsage, Kind::Whole];
    let kind = kinds[random.usize(..kinds.len())];
    let way = [Way::Fin, Way::Close, Way::Reset][random.usize(..3)];
    let mut socket = TcpStream::connect(address).unwrap();
    let ask = Ask::post(kind, key, id, &format!("nonce:{id}"), LENGTH).bytes;
    let head = find(&ask, b"\r\n\r\n").unwrap();
    let sent = match phase {
        Phase::Head => &ask[..random.usize(1..head)],
        Phase::Body => &ask[..random.usize(head + 4..ask.len())],
        Phase::Sent | Phase::Answered | Phase::Begun | Phase::LastWord | Phase::AnyTime => &ask[..],
    };
    socket.write_all(sent).unwrap();
    let wait = match phase {
        Phase::Head | Phase::Body | Phase::Sent => Duration::ZERO,
        Phase::Answered | Phase::Begun | Phase::LastWord => PATIENCE,
        Phase::AnyTime => Duration::from_millis(random.u64(..LATEST)),
    };
    let pieces = random.usize(1..20);
    let bytes = read_until(&mut socket, Instant::now() + wait, |bytes| match phase {
        Phase::Answered => find(bytes, b"\r\n\r\n").is_some(),
        Phase::Begun => memchr::memmem::find_iter(bytes, b"data: ").count() >= pieces,
        Phase::LastWord => find(bytes, b"[DONE]").is_some(),
        Phase::Head | Phase::Body | Phase::Sent | Phase::AnyTime => false,
    });
    let end = read(&mut &*bytes);
    let at = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap();
    let kept = match way {
        Way::Fin => socket.shutdown(Shutdown::Write).ok().map(|()| socket),
        Way::Close => None,
        Way::Reset => SockRef::from(&socket).set_linger(Some(Duration::ZERO)).map(|()| None).unwrap(),
    };
    Left { tried: Tried { id: id.to_owned(), kind, end }, phase, at, _socket: kept }
}

/// What comes until the deadline, until it is enough, or until the answer is whole.
fn read_until(socket: &mut TcpStream, deadline: Instant, enough: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 16 << 10];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || enough(&bytes) || bytes.ends_with(b"\r\n0\r\n\r\n") || bytes.ends_with(b"}") {
            return bytes;
        }
        socket.set_read_timeout(Some(left)).unwrap();
        match socket.read(&mut buffer) {
            Ok(0) => return bytes,
            Ok(length) => bytes.extend_from_slice(&buffer[..length]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return bytes,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Waits until the gateway has nothing more to do.
fn quiet(gateway: &Gateway) {
    let deadline = Instant::now() + PATIENCE;
    let busy = || ["aoai_gateway_inflight_requests", "aoai_gateway_ledger_pending"].map(|name| gateway.metric(name));
    while busy() != [0.0, 0.0] {
        assert!(Instant::now() < deadline, "requests in flight and records pending: {:?}", busy());
    }
}

/// A stream that was left is charged what was sent of it.
fn estimates_are_close(books: &Books) -> Result<(), String> {
    let mut off = BTreeMap::<i64, usize>::new();
    for (row, attempt) in books.attempts().filter(|(row, _)| row.stream && row.state == "cancelled") {
        let entry = match &attempt.upstream_id {
            Some(id) => &books.charged[id],
            None => continue,
        };
        assert!(row.estimated || attempt.charged.as_deref() == Some("exact"), "{row:?}");
        let difference = attempt.output_tokens - i64::try_from(entry.tokens_sent).unwrap();
        *off.entry(difference).or_default() += 1;
    }
    println!("estimates    ledger minus region, in tokens, and how often: {off:?}");
    // The beginning is an id, whose letters are a token each and not one together; and what the region had sent, the
    // gateway may not have read yet when its client left, which on a busy machine is more.
    let usual: usize = off.range(-8..=24).map(|(_, times)| times).sum();
    let all: usize = off.values().sum();
    assert!(off.keys().all(|difference| *difference <= 24), "more than was sent: {off:?}");
    if usual * 10 >= all * 9 { Ok(()) } else { Err(format!("{usual} of {all} estimates are close: {off:?}")) }
}

/// Whoever leaves stops what he asked for.
fn upstreams_are_told(books: &Books, left_at: &BTreeMap<String, i64>) -> Result<(), String> {
    let mut lags = Vec::new();
    let mut went_on = 0;
    for row in books.rows.values().filter(|row| row.state == "cancelled") {
        let asked = books.charged.values().filter(|e| e.x_ms_client_request_id.as_ref() == Some(&row.request_id));
        for entry in asked {
            if entry.completed {
                went_on += 1;
            } else {
                let ended = entry.arrived_us + i64::try_from(entry.duration_us).unwrap();
                lags.push((ended - left_at[&row.request_id]) / 1_000);
            }
        }
    }
    let (median, longest) = spread(&lags);
    let soon = lags.iter().filter(|lag| **lag < 100).count();
    println!(
        "cancelled    after {median} ms (median), {longest} ms (longest), {soon} of {} within 100 ms; {went_on} had been \
         written whole",
        lags.len()
    );
    // Of those that were written whole, each ended at the moment when its client left.
    match median < 100 && longest < 2_000 && went_on * 20 <= lags.len() {
        true => Ok(()),
        false => Err(format!("cancelled after {median} ms, {longest} at the longest; {went_on} were written whole")),
    }
}
