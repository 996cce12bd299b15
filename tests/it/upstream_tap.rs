//! Bodies in chunks that take their time, which are read past awc: nothing is lost where the reader changes.

use std::pin::pin;

use aoai_gateway::upstream::client::{UpstreamClient, UpstreamError};
use aoai_gateway::upstream::error::Ending;
use futures_util::{FutureExt, StreamExt};

use crate::support::exchange::{client, post, read, whole};
use crate::support::fake_azure::{Cut, FakeAzure, Gate, Reply, Script, chunk};

const TEXT: &str = "onetwothree and a long one";

/// A stream in chunks of every kind.
fn stream() -> Vec<u8> {
    let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    let odd = b"3;x=\"y\"\r\ntwo\r\n0005 \r\nthree\r\n".to_vec();
    [head, chunk(b"one"), odd, chunk(b" and a long one"), b"0\r\nx-trailer: 1\r\n\r\n".to_vec()].concat()
}

/// The stream up to a point, and what comes once the reader waits for it. Request `n` waits at offset `n` of the body.
struct Waiting {
    azure: FakeAzure,
    gates: Vec<Gate>,
    client: UpstreamClient,
}

impl Waiting {
    fn at_every_offset(then: impl Fn(Reply, &[u8]) -> Reply + Send + Sync + 'static) -> Self {
        let stream = stream();
        let head = stream.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        let gates: Vec<Gate> = (head..stream.len()).map(|_| Gate::default()).collect();
        let opened = gates.clone();
        let azure = FakeAzure::start(Script::each(move |request| match opened.get(request.index) {
            Some(gate) => {
                let (sent, rest) = stream.split_at(head + request.index);
                then(Reply::raw(sent).then_wait(gate), rest)
            }
            None => Reply::json(200, "{}"),
        }));
        Self { azure, gates, client: client() }
    }

    /// What is read of request `n`.
    async fn read(&self, n: usize) -> (Vec<u8>, Option<UpstreamError>, Option<Ending>) {
        let mut response = self.client.send(post(self.azure.endpoint(), "{}")).await.unwrap();
        let (bytes, error) = {
            let mut reading = pin!(read(&mut response.body));
            assert!((&mut reading).now_or_never().is_none(), "it waits at {n}");
            self.gates[n].open();
            reading.await
        };
        (bytes, error, response.body.ending())
    }
}

#[actix_rt::test]
async fn a_stream_that_pauses_anywhere_is_read_whole_and_its_connection_used_again() {
    let waiting = Waiting::at_every_offset(|reply, rest| reply.then(rest.to_vec()));
    for n in 0..waiting.gates.len() {
        assert_eq!(waiting.read(n).await, (TEXT.into(), None, None), "pausing at {n}");
    }
    assert_eq!(waiting.azure.connections(), 1);
}

#[actix_rt::test]
async fn a_stream_that_is_cut_after_a_pause_is_never_whole() {
    for (cut, ending) in [(Cut::Fin, Ending::Closed), (Cut::Reset, Ending::Reset)] {
        let waiting = Waiting::at_every_offset(move |reply, _| reply.then_end(cut));
        for n in 0..waiting.gates.len() {
            let (bytes, error, ended) = waiting.read(n).await;
            assert_eq!((error, ended), (Some(UpstreamError::Truncated), Some(ending)), "cut at {n}");
            assert!(TEXT.as_bytes().starts_with(&bytes));
        }
    }
}

#[actix_rt::test]
async fn bad_framing_after_a_pause_is_refused_and_what_came_before_it_is_given() {
    for bad in ["zz\r\n", "3\r\ntwo!\r\n", "3\ntwo\r\n"] {
        let gate = Gate::default();
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        let reply = Reply::raw([head.as_bytes(), &chunk(b"one")].concat()).then_wait(&gate);
        let azure = FakeAzure::start(Script::always(reply.then([&chunk(b"two"), bad.as_bytes()].concat()).then_hold()));
        let mut response = client().send(post(azure.endpoint(), "{}")).await.unwrap();
        let mut reading = pin!(read(&mut response.body));
        assert!((&mut reading).now_or_never().is_none());
        gate.open();
        let (bytes, error) = reading.await;
        assert!(matches!(error, Some(UpstreamError::Invalid(_))), "{error:?} to {bad:?}");
        assert!(bytes.starts_with(b"onetwo"), "{bad:?}");
        azure.wait_for(|seen| seen.hang_ups == 1);
    }
}

#[actix_rt::test]
async fn bytes_behind_a_stream_that_paused_reach_nobody() {
    let poison = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison";
    let waiting = Waiting::at_every_offset(|reply, rest| reply.then([rest, poison].concat()).then_hold());
    for n in 0..waiting.gates.len() {
        assert_eq!(waiting.read(n).await, (TEXT.into(), None, None), "pausing at {n}");
    }
    assert_eq!(whole(waiting.client.send(post(waiting.azure.endpoint(), "{}")).await).await, (200, "{}".into()));
    assert_eq!(waiting.azure.connections(), waiting.gates.len() + 1, "none of them is used again");
}

#[actix_rt::test]
async fn a_stream_that_is_left_costs_its_connection_at_once() {
    let waiting = Waiting::at_every_offset(|reply, _| reply.then_hold());
    for n in 0..waiting.gates.len() {
        let mut response = waiting.client.send(post(waiting.azure.endpoint(), "{}")).await.unwrap();
        assert!(read(&mut response.body).now_or_never().is_none());
        waiting.gates[n].open();
        drop(response);
        waiting.azure.wait_for(|seen| seen.hang_ups == n + 1);
    }
}

#[actix_rt::test]
async fn the_streams_of_a_thread_are_read_into_the_same_memory() {
    let gates: [Gate; 2] = Default::default();
    let opened = gates.clone();
    let azure = FakeAzure::start(Script::each(move |request| {
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        Reply::raw(head).then_wait(&opened[request.index]).then(chunk(&request.body)).then_hold()
    }));
    let client = client();
    let mut streams = Vec::new();
    for text in ["one", "two"] {
        let mut response = client.send(post(azure.endpoint(), text)).await.unwrap();
        assert!(response.body.next().now_or_never().is_none());
        streams.push((response, text));
    }
    let mut places = Vec::new();
    for ((response, text), gate) in streams.iter_mut().zip(&gates) {
        gate.open();
        let data = response.body.next().await.unwrap().unwrap();
        assert_eq!(data, text.as_bytes());
        places.push(data.as_ptr());
    }
    assert_eq!(places[0], places[1]);
}

#[actix_rt::test]
async fn what_is_still_held_is_not_overwritten() {
    let gates: [Gate; 3] = Default::default();
    let mut reply = Reply::raw("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
    for (gate, text) in gates.iter().zip(["one", "two", "three"]) {
        reply = reply.then_wait(gate).then(chunk(text.as_bytes()));
    }
    let azure = FakeAzure::start(Script::always(reply.then("0\r\n\r\n")));
    let mut response = client().send(post(azure.endpoint(), "{}")).await.unwrap();
    let mut held = Vec::new();
    for gate in &gates {
        assert!(response.body.next().now_or_never().is_none());
        gate.open();
        held.push(response.body.next().await.unwrap().unwrap());
    }
    assert_eq!(held, ["one", "two", "three"]);
}
