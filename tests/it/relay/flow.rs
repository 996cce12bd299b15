//! Who waits for whom while a stream runs. Nothing here depends on how long something takes.

use std::time::{Duration, Instant};

use super::*;
use crate::support::client::{Client, find};
use crate::support::fake_azure::Gate;

/// An event of some size.
fn large_event(number: usize) -> String {
    content(&format!("{number:06} {}", "x".repeat(32 << 10)))
}

/// More than Linux keeps for four sockets.
const EVENTS: usize = 2_000;

/// Waits until the upstream cannot write any more; gives how much it could.
fn stuck(azure: &FakeAzure) -> usize {
    let (mut written, mut since) = (0, Instant::now());
    while since.elapsed() < Duration::from_millis(400) {
        let now = azure.seen().written;
        if now != written {
            (written, since) = (now, Instant::now());
        }
        std::thread::sleep(Duration::from_millis(10)); // bounded: between two looks
    }
    written
}

/// The beginning of a long stream whose client reads no further.
fn unread(gateway: &TestGateway) -> (Client, Answer) {
    let mut client = Client::connect_narrow(gateway.address);
    client.send(gateway.chat_request(STREAMED_QUESTION));
    let answer = client.head();
    (client, answer)
}

#[test]
fn a_client_that_does_not_read_makes_the_upstream_wait() {
    let events: Vec<_> = (0..EVENTS).map(large_event).collect();
    let all: usize = events.iter().map(String::len).sum();
    let reply = events.iter().fold(Reply::raw(HEAD), |reply, event| reply.then(chunk(event.as_bytes())));
    let (azure, gateway) =
        before(reply.then(chunk(USAGE_CHUNK.as_bytes())).then(chunk(DONE.as_bytes())).then(LAST_CHUNK));
    let (mut client, mut answer) = unread(&gateway);
    let written = stuck(&azure);
    println!("{written} of {all} bytes were taken from the upstream while nobody read");
    assert!(written < all / 5 * 4, "{written} of {all} bytes");
    // Others are served meanwhile.
    assert_eq!(gateway.get("/v1/models").status, 200);
    client.finish(&mut answer);
    assert_eq!(answer.end, BodyEnd::Whole);
    assert!(answer.body == [events.concat().as_str(), DONE].concat().into_bytes(), "{} bytes", answer.body.len());
    gateway.settle();
    assert_eq!(row(&gateway), ends("settled", 200, false, "served"));
}

#[test]
fn a_client_that_leaves_unread_bytes_behind_frees_its_upstream() {
    for leave in [Client::leave, Client::reset] {
        let reply =
            (0..EVENTS).fold(Reply::raw(HEAD), |reply, number| reply.then(chunk(large_event(number).as_bytes())));
        let (azure, gateway) = before(reply);
        let (client, _) = unread(&gateway);
        stuck(&azure);
        leave(client);
        azure.wait_for(|seen| seen.hang_ups == 1);
        gateway.settle();
        assert_eq!(row(&gateway), ends("cancelled", 499, true, "abandoned"));
    }
}

#[test]
fn a_slow_client_gets_all_that_came_before_a_break() {
    let events: Vec<_> = (0..40).map(large_event).collect();
    let reply = events.iter().fold(Reply::raw(HEAD), |reply, event| reply.then(chunk(event.as_bytes())));
    let (azure, gateway) = before(reply.then_end(Cut::Fin));
    let (mut client, mut answer) = unread(&gateway);
    stuck(&azure);
    client.finish(&mut answer);
    assert_eq!(answer.end, BodyEnd::Cut);
    let own = answer.text().strip_prefix(events.concat().as_str()).expect("something is missing");
    assert!(own.contains("upstream_stream_cut"), "{own}");
    assert_eq!(row(&gateway), ends("failed", 200, true, "truncated"));
}

/// An event that comes alone is sent past actix's buffer. Where the client does not take all of it, the rest of it and what
/// comes after it still arrive, in order.
#[test]
fn a_slow_client_of_a_slow_stream_gets_every_byte() {
    let events: Vec<_> = (0..EVENTS / 2).map(|n| content(&format!("{n:06} {}", "x".repeat(15 << 10)))).collect();
    let moment = Duration::from_millis(1);
    let reply =
        events.iter().fold(Reply::raw(HEAD), |reply, event| reply.then(chunk(event.as_bytes())).then_pause(moment));
    let (azure, gateway) =
        before(reply.then(chunk(USAGE_CHUNK.as_bytes())).then(chunk(DONE.as_bytes())).then(LAST_CHUNK));
    let (mut client, mut answer) = unread(&gateway);
    let (all, written) = (events.concat(), stuck(&azure));
    println!("{written} of {} bytes were taken from the upstream while nobody read", all.len());
    assert!(written < all.len(), "the client was not slow");
    client.finish(&mut answer);
    assert_eq!(answer.end, BodyEnd::Whole);
    assert!(answer.body == [all.as_str(), DONE].concat().into_bytes(), "{} bytes", answer.body.len());
    assert_eq!(row(&gateway), ends("settled", 200, false, "served"));
}

/// The upstream writes an event only when the client has told that it has the one before.
#[test]
fn no_event_waits_for_the_next() {
    let events: Vec<_> = (0..30).map(|number| content(&format!(" word{number}"))).collect();
    let gates: Vec<_> = events.iter().map(|_| Gate::default()).collect();
    let (rest, end) = (Gate::default(), Gate::default());
    let reply = events
        .iter()
        .zip(&gates)
        .fold(begun(&[FILTER_CHUNK]), |reply, (event, gate)| reply.then_wait(gate).then(chunk(event.as_bytes())));
    let reply = reply.then_wait(&rest).then(chunk(USAGE_CHUNK.as_bytes())).then(chunk(DONE.as_bytes()));
    let (_azure, gateway) = before(reply.then_wait(&end).then(LAST_CHUNK));
    let mut client = gateway.client();
    client.send(gateway.chat_request(STREAMED_QUESTION));
    gates[0].open();
    let mut answer = client.head();
    for (event, next) in events.iter().zip(gates.iter().skip(1).chain([&rest])) {
        client
            .read_until(&mut answer, |body| body.ends_with(event.as_bytes()) || find(body, DONE.as_bytes()).is_some());
        assert_eq!(answer.end, BodyEnd::Open, "{}", answer.text());
        next.open();
    }
    // Nor does the end wait for the upstream's.
    client.finish(&mut answer);
    assert_eq!(answer.expect(200).text(), [&events.concat(), DONE].concat());
    end.open();
}

/// An event is sent when it is whole; half of the next one is not waited for.
#[test]
fn half_an_event_holds_up_nobody() {
    let gate = Gate::default();
    let (one, two) = (content("Teal"), content(" it is"));
    let (half, rest) = two.split_at(20);
    let reply = begun(&[&(one.clone() + half)]).then_wait(&gate);
    let (_azure, gateway) = before(reply.then(chunk(rest.as_bytes())).then(chunk(DONE.as_bytes())).then(LAST_CHUNK));
    let mut client = gateway.client();
    client.send(gateway.chat_request(STREAMED_QUESTION));
    let mut answer = client.head();
    client.read_until(&mut answer, |body| body.ends_with(b"\n\n"));
    assert_eq!(answer.text(), one);
    gate.open();
    client.finish(&mut answer);
    assert_eq!(answer.expect(200).text(), [one.as_str(), &two, DONE].concat());
}

/// All of them are one worker's.
#[test]
fn a_held_stream_holds_up_nobody_else() {
    let gate = Gate::default();
    let azure = FakeAzure::start(Script::each({
        let gate = gate.clone();
        move |request| match request.index {
            0..8 => begun(&[&content("Teal")]).then_wait(&gate).then(chunk(DONE.as_bytes())).then(LAST_CHUNK),
            _ => answered(),
        }
    }));
    let gateway = TestGateway::before(azure.address());
    let mut held: Vec<_> = (0..8)
        .map(|_| {
            let mut client = gateway.client();
            client.send(gateway.chat_request(STREAMED_QUESTION));
            let mut answer = client.head();
            client.read_until(&mut answer, |body| find(body, b"Teal").is_some());
            (client, answer)
        })
        .collect();
    for _ in 0..20 {
        gateway.chat(QUESTION).expect(200);
    }
    gate.open();
    for (client, answer) in &mut held {
        client.finish(answer);
        assert_eq!(answer.end, BodyEnd::Whole);
    }
}
