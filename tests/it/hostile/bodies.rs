//! Bodies that are too large, too slow, compressed or not what the head said, sent with a good key.

use std::time::Duration;

use super::*;
use crate::support::client::Client;

const LIMIT: usize = 64 * 1024;

fn small(azure: &FakeAzure) -> TestGateway {
    TestGateway::with(|estate| {
        estate.azure("east", azure.address());
        estate.0.server.body_limit = LIMIT;
    })
}

fn head(gateway: &TestGateway, lines: &str) -> String {
    format!("POST {CHAT} HTTP/1.1\r\nhost: g\r\n{}{lines}\r\n\r\n", gateway.bearer())
}

/// Whether the connection ends now.
#[track_caller]
fn is_closed(client: &mut Client) {
    let rest = client.rest();
    assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
}

#[test]
fn too_large_is_413_before_the_body_is_sent_and_as_soon_as_it_is() {
    let azure = azure();
    let gateway = small(&azure);
    for length in [LIMIT.to_string() + "0", "18446744073709551615".into(), (LIMIT + 1).to_string()] {
        let mut client = gateway.client();
        refused(&client.send(head(&gateway, &format!("content-length: {length}"))).answer(), 413, "request_too_large");
        is_closed(&mut client);
    }
    // One byte less than what is too much, then one more; the end of the body is never sent.
    let mut client = gateway.client();
    client.send(head(&gateway, "transfer-encoding: chunked"));
    client.send(format!("{LIMIT:x}\r\n")).send(vec![b' '; LIMIT]).send("\r\n");
    let _ = client.try_send("1\r\n \r\n");
    refused(&client.answer(), 413, "request_too_large");
    assert!(azure.requests().is_empty() && gateway.rows().is_empty());

    let question = QUESTION.to_owned() + &" ".repeat(LIMIT - QUESTION.len());
    gateway.chat(&question).expect(200);
    assert_eq!(azure.requests()[0].body.len(), LIMIT, "as large as may be, and forwarded whole");
}

#[test]
fn compressed_is_415_and_never_unpacked() {
    let azure = azure();
    let gateway = small(&azure);
    for line in [
        "content-encoding: gzip",
        "content-encoding: br",
        "content-encoding: identity, gzip",
        "content-encoding: identity\r\ncontent-encoding: zstd",
        "Content-Encoding: GZIP",
        "content-encoding: ",
    ] {
        let request = head(&gateway, &format!("{line}\r\ncontent-length: {}", QUESTION.len())) + QUESTION;
        refused(&gateway.client().send(request).answer(), 415, "unsupported_encoding");
    }
    // What is compressed without saying so is not JSON.
    let gzip = [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3][..], &[0xed; 1000]].concat();
    refused(&gateway.client().send(chat_bytes(&gateway, &gzip)).answer(), 400, "invalid_json");
    assert!(azure.requests().is_empty());
    serves(&gateway);
}

#[test]
fn slow_is_408() {
    let azure = azure();
    let gateway = TestGateway::with(|estate| {
        estate.azure("east", azure.address());
        estate.0.server.body_idle_timeout = Duration::from_millis(200);
        estate.0.server.body_timeout = Duration::from_millis(500);
    });
    for framing in ["content-length: 10", "transfer-encoding: chunked"] {
        let mut client = gateway.client();
        refused(&client.send(head(&gateway, framing)).answer(), 408, "request_timeout");
        is_closed(&mut client);
    }
    // A drip never pauses for long, and still comes to an end.
    let mut client = gateway.client();
    client.send(head(&gateway, "content-length: 100000"));
    while !client.has_answer(Duration::from_millis(50)) {
        let _ = client.try_send(" ");
    }
    refused(&client.answer(), 408, "request_timeout");
    assert!(azure.requests().is_empty() && gateway.rows().is_empty());
    serves(&gateway);
}

#[test]
fn chunks_that_are_none_are_400() {
    let azure = azure();
    let gateway = small(&azure);
    for chunks in ["zz\r\n", "5\r\n{}\r\n0\r\n\r\n", "-1\r\n{}\r\n", "ffffffffffffffffff\r\n{}"] {
        let request = head(&gateway, "transfer-encoding: chunked") + chunks;
        refused(&gateway.client().send(request).answer(), 400, "incomplete_body");
    }
    assert!(azure.requests().is_empty());
    serves(&gateway);
}

#[test]
fn what_follows_a_refused_body_is_no_request() {
    let azure = azure();
    let gateway = small(&azure);
    let smuggled = String::from_utf8(gateway.chat_request(QUESTION)).unwrap();
    for lines in [
        format!("content-encoding: gzip\r\ncontent-length: {}", smuggled.len()),
        format!("expect: miracles\r\ncontent-length: {}", smuggled.len()),
        format!("upgrade: websocket\r\nconnection: upgrade\r\ncontent-length: {}", smuggled.len()),
    ] {
        let mut client = gateway.client();
        let answer = client.send(head(&gateway, &lines) + &smuggled).answer();
        assert!(answer.status >= 400, "{}", answer.text());
        is_closed(&mut client);
    }
    assert!(azure.requests().is_empty(), "a body was taken for a request");
}
