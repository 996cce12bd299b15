//! The pace of a typewriter: `server.typewriter`.

use std::time::{Duration, Instant};

use crate::support::answers::{DONE, USAGE_CHUNK, content_with_null, streamed};
use crate::support::fake_azure::{FakeAzure, Script};
use crate::support::gateway::{MODEL, TestGateway, eventually};

const PAUSE: Duration = Duration::from_millis(20);
const LETTERS: usize = 150;

fn azure() -> FakeAzure {
    let mut events: Vec<String> = (0..LETTERS).map(|_| content_with_null("ü")).collect();
    // With usage, so that nothing has to be estimated.
    events.extend([USAGE_CHUNK.to_owned(), DONE.to_owned()]);
    FakeAzure::start(Script::always(streamed(&events)))
}

fn body() -> String {
    format!(r#"{{"model":"{MODEL}","stream":true,"messages":[{{"role":"user","content":"x"}}]}}"#)
}

fn gateway(azure: &FakeAzure) -> TestGateway {
    TestGateway::with(|estate| {
        estate.0.server.typewriter = Some(PAUSE);
        estate.azure("east", azure.address()).weight
    })
}

#[test]
fn events_are_typed_whole_while_the_books_are_closed_already() {
    let azure = azure();
    let gateway = gateway(&azure);
    let mut client = gateway.client();
    let began = Instant::now();
    let mut answer = client.send(gateway.chat_request(&body())).head();
    client.read_until(&mut answer, |body| body.windows(6).any(|window| window == b"data: "));
    // Long before the last letter is typed, the request is settled.
    let row = eventually(|| match gateway.rows().pop() {
        Some(row) if row.status == Some(200) => Ok(row),
        other => Err(format!("it is not settled: {other:?}")),
    });
    assert!(began.elapsed() < PAUSE * LETTERS as u32 / 2, "settled after {:?}", began.elapsed());
    client.finish(&mut answer);
    assert!(began.elapsed() >= PAUSE * LETTERS as u32, "typed in {:?}", began.elapsed());
    assert_eq!(answer.text().matches("ü").count(), LETTERS);
    assert!(answer.text().ends_with("data: [DONE]\n\n"));
    assert_eq!(gateway.row().id, row.id);
}

#[test]
fn a_client_that_leaves_ends_it_at_once() {
    let azure = azure();
    let gateway = gateway(&azure);
    let began = Instant::now();
    let mut client = gateway.client();
    let mut answer = client.send(gateway.chat_request(&body())).head();
    client.read_until(&mut answer, |body| !body.is_empty());
    client.leave();
    // Its place among the requests in flight is free again.
    gateway.settle();
    assert!(began.elapsed() < PAUSE * LETTERS as u32, "after {:?}", began.elapsed());
}
