//! When a form is sent again, and what becomes of one that is slow, cut, or not wanted.

use std::time::Duration;

use super::{region, transcribe};
use crate::objects::{BOUNDARY, form, post_form};
use crate::support::fake_azure::{FakeAzure, Reply, Script};
use crate::support::gateway::{MODEL, TestGateway, eventually};

const PATH: &str = "/v1/audio/transcriptions";

fn parts(file: &[u8]) -> Vec<(&'static str, Option<&'static str>, &[u8])> {
    vec![("model", None, MODEL.as_bytes()), ("file", Some("a.wav"), file)]
}

#[test]
fn a_short_form_is_sent_elsewhere_and_a_long_one_is_not() {
    let (failing, good) = (FakeAzure::start(Script::always(Reply::json(500, "{}"))), region("west"));
    let gateway = TestGateway::with(|estate| {
        estate.tier(1, "east", failing.address());
        estate.tier(2, "west", good.addr());
    });
    transcribe(&gateway, PATH, &parts(&[1; 100_000])).expect(200);
    gateway.settle();
    assert_eq!(gateway.row().attempts.len(), 2);
    assert_eq!(failing.requests()[0].body, form(&parts(&[1; 100_000])), "the first has had all of it");
    let refused = transcribe(&gateway, PATH, &parts(&vec![1; 4 << 20]));
    assert!(matches!(refused.status, 200 | 503), "{}", refused.text());
    gateway.settle();
    let row = gateway.rows().remove(0);
    assert_eq!(row.attempts.len(), 1, "what has left and is not kept is sent once: {row:?}");
}

#[test]
fn a_refused_connection_costs_a_long_form_nothing() {
    let (gone, good) = (FakeAzure::start(Script::always(Reply::json(500, "{}"))), region("west"));
    let address = gone.address();
    drop(gone);
    let gateway = TestGateway::with(|estate| {
        estate.tier(1, "east", address);
        estate.tier(2, "west", good.addr());
    });
    transcribe(&gateway, PATH, &parts(&vec![1; 4 << 20])).expect(200);
    gateway.settle();
    assert_eq!(gateway.row().attempts.len(), 2);
}

#[test]
fn chunks_without_a_length_pass_as_chunks() {
    let azure = FakeAzure::start(Script::always(Reply::json(200, r#"{"text":"a"}"#)));
    let gateway = TestGateway::before(azure.address());
    let form = form(&parts(&[1; 300_000]));
    let mut client = gateway.client();
    client.send(format!(
        "POST {PATH} HTTP/1.1\r\nhost: a\r\n{}content-type: multipart/form-data; boundary={BOUNDARY}\r\n\
         transfer-encoding: chunked\r\n\r\n",
        gateway.bearer()
    ));
    for piece in form.chunks(70_000) {
        client.send(crate::support::fake_azure::chunk(piece));
    }
    client.send("0\r\n\r\n").answer().expect(200);
    let request = azure.requests().remove(0);
    assert!(request.body == form);
}

#[test]
fn a_client_that_cuts_its_form_or_dawdles_is_told_and_the_upstream_gets_no_whole_form() {
    let azure = region("east");
    let gateway = TestGateway::with(|estate| {
        estate.0.server.body_idle_timeout = Duration::from_millis(150);
        estate.azure("east", azure.addr()).weight
    });
    let bytes = post_form(PATH, &gateway.bearer(), &form(&parts(&[1; 400_000])));
    // It stops half way and waits.
    let refusal = gateway.client().send(&bytes[..200_000]).answer();
    assert_eq!((refusal.status, refusal.code().as_str()), (408, "request_timeout"));
    // It leaves half way.
    let mut leaving = gateway.client();
    leaving.send(&bytes[..200_000]);
    leaving.leave();
    gateway.settle();
    eventually(|| match gateway.rows().len() {
        2 => Ok(()),
        other => Err(format!("{other} rows")),
    });
    assert!(azure.control().journal().is_empty(), "no form was whole");
    assert!(gateway.rows().iter().all(|row| row.attempts.iter().all(|one| one.reason.as_deref() == Some("abandoned"))));
    // Neither is the region's fault.
    transcribe(&gateway, PATH, &parts(b"x")).expect(200);
}

#[test]
fn an_upstream_that_refuses_in_the_middle_of_a_form_is_heard() {
    let refusal = r#"{"error":{"message":"too large","type":"invalid_request_error","code":"x"}}"#;
    let azure = FakeAzure::start(Script::always(Reply::json(400, refusal)).refusing_bodies());
    let gateway = TestGateway::before(azure.address());
    let answer = transcribe(&gateway, PATH, &parts(&vec![1; 20 << 20]));
    assert_eq!((answer.status, answer.text()), (400, refusal));
}

#[test]
fn a_file_larger_than_the_limit_is_refused_while_it_comes() {
    let azure = region("east");
    let gateway = TestGateway::with(|estate| {
        estate.0.server.upload_limit = 1 << 20;
        estate.azure("east", azure.addr()).weight
    });
    let mut client = gateway.client();
    client.send(format!(
        "POST /v1/files HTTP/1.1\r\nhost: a\r\n{}content-type: multipart/form-data; boundary={BOUNDARY}\r\n\
         transfer-encoding: chunked\r\n\r\n",
        gateway.bearer()
    ));
    for _ in 0..20 {
        if client.try_send(crate::support::fake_azure::chunk(&[b'x'; 100_000])).is_err() {
            break;
        }
    }
    assert_eq!(client.answer().expect(413).code(), "request_too_large");
}
