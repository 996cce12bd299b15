//! Clients that take their time, on purpose.

use super::*;

const HEAD_BEGUN: &str = "GET /ping HTTP/1.1\r\nhost: test\r\nx-slow: ";

fn status_of(said: &[u8]) -> &str {
    std::str::from_utf8(said).unwrap().lines().next().unwrap_or("")
}

#[test]
fn a_first_head_that_drips_is_ended() {
    let server = TestServer::start(with_deadlines(|d| d.head = SOON));
    let mut client = server.client();
    let began = Instant::now();
    let said = client.send(HEAD_BEGUN).drip();
    assert_eq!(status_of(&said), "HTTP/1.1 408 Request Timeout");
    assert!(began.elapsed() >= SOON);
}

#[test]
fn a_second_head_that_drips_is_ended() {
    let server = TestServer::start(with_deadlines(|d| d.head = SOON));
    let mut client = server.client();
    assert_eq!(client.get("/ping").answer().body, b"pong");
    let said = client.send(HEAD_BEGUN).drip();
    assert_eq!(status_of(&said), "HTTP/1.1 408 Request Timeout");
}

#[test]
fn a_second_head_that_stops_is_ended() {
    let server = TestServer::start(with_deadlines(|d| d.head = SOON));
    let mut client = server.client();
    assert_eq!(client.get("/ping").answer().status, 200);
    let said = client.send(HEAD_BEGUN).until_closed();
    assert_eq!(status_of(&said), "HTTP/1.1 408 Request Timeout");
}

#[test]
fn a_second_head_begun_together_with_the_first_request_is_ended() {
    let server = TestServer::start(with_deadlines(|d| d.head = SOON));
    for first in [
        "GET /ping HTTP/1.1\r\nhost: test\r\n\r\n",
        "POST /echo HTTP/1.1\r\nhost: test\r\ncontent-length: 4\r\n\r\npong",
    ] {
        let mut client = server.client();
        assert_eq!(client.send(format!("{first}{HEAD_BEGUN}")).answer().body, b"pong");
        client.until_closed();
    }
}

#[test]
fn a_second_head_begun_during_the_first_answer_is_ended() {
    let server = TestServer::start(with_deadlines(|d| d.head = SOON));
    let mut client = server.client();
    client.send("POST /echo HTTP/1.1\r\nhost: test\r\ncontent-length: 4\r\n\r\n");
    client.send(format!("pong{HEAD_BEGUN}"));
    assert_eq!(client.answer().body, b"pong");
    client.until_closed();
}

#[test]
fn a_connection_that_never_says_anything_is_ended_without_a_word() {
    let server = TestServer::start(with_deadlines(|d| d.head = SOON));
    assert_eq!(server.client().until_closed(), b"");
}

#[test]
fn an_idle_connection_is_ended_without_a_word() {
    let server = TestServer::start(with_deadlines(|d| d.idle = SOON));
    let mut client = server.client();
    assert_eq!(client.get("/ping").answer().status, 200);
    assert_eq!(client.until_closed(), b"");
}

#[test]
fn a_client_may_rest_between_requests_longer_than_a_head_may_take() {
    let server = TestServer::start(with_deadlines(|d| d.head = SOON));
    let mut client = server.client();
    for request in [
        "GET /ping HTTP/1.1\r\nhost: test\r\n\r\n",
        "POST /echo HTTP/1.1\r\nhost: test\r\ncontent-length: 4\r\n\r\npong",
        "POST /echo HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n4\r\npong\r\n0\r\n\r\n",
    ] {
        assert_eq!(client.send(request).answer().body, b"pong");
        assert!(client.is_quiet_for(SOON * 3), "closed after {request:?}");
    }
}

#[test]
fn a_request_in_progress_is_on_no_clock_of_the_connection() {
    let server = TestServer::start(with_deadlines(|d| (d.head, d.idle) = (SOON, SOON)));
    let mut client = server.client();
    client.get("/stream").head();
    client.send("GET /ping HTTP/1.1\r\nhost: te");
    client.read.fill_buf().map(|chunk| chunk.len()).map(|length| client.read.consume(length)).unwrap();
    assert!(client.is_quiet_for(SOON * 3), "the stream was cut");
}

#[test]
fn a_body_that_drips_is_answered_with_408() {
    let limits = BodyLimits { bytes: BODY_LIMIT, idle: NEVER, total: SOON };
    let server = TestServer::with_bodies(relaxed(), limits);
    let mut client = server.client();
    let said = client.send("POST /echo HTTP/1.1\r\nhost: test\r\ncontent-length: 100000\r\n\r\n").drip();
    assert_eq!(status_of(&said), "HTTP/1.1 408 Request Timeout");
}

#[test]
fn a_body_that_never_comes_is_answered_with_408() {
    let limits = BodyLimits { bytes: BODY_LIMIT, idle: SOON, total: NEVER };
    let server = TestServer::with_bodies(with_deadlines(|d| d.head = SOON), limits);
    for framing in ["content-length: 5", "transfer-encoding: chunked"] {
        let mut client = server.client();
        client.send(format!("POST /echo HTTP/1.1\r\nhost: test\r\n{framing}\r\n\r\n"));
        assert_eq!(client.answer().status, 408, "{framing}");
        client.until_closed();
    }
}

#[test]
fn the_rest_of_a_refused_body_cannot_be_dripped_for_ever() {
    // actix reads the rest of a chunked body that its handler did not want, to keep the connection.
    let server = TestServer::start(with_deadlines(|d| (d.head, d.idle) = (SOON, SOON)));
    let mut client = server.client();
    client.send("POST /refuse HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\nfffff\r\n\r\n\r\n");
    assert_eq!(client.answer().status, 401);
    client.drip();
}

#[test]
fn a_client_that_stops_reading_loses_the_connection() {
    let server = TestServer::start(with_deadlines(|d| d.write_stall = SOON));
    let mut client = server.client();
    client.get("/flood").head();
    server.expect_note("stream dropped");
    client.until_closed();
}

#[test]
fn a_client_that_reads_slowly_keeps_the_connection() {
    let server = TestServer::start(with_deadlines(|d| (d.write_stall, d.idle, d.head) = (SOON, SOON, SOON)));
    let mut client = server.client();
    client.get("/flood").head();
    let began = Instant::now();
    let mut chunk = vec![0; 256 * 1024];
    while began.elapsed() < SOON * 4 {
        client.read.read_exact(&mut chunk).expect("cut");
        std::thread::sleep(Duration::from_millis(5)); // bounded: the slow reader's pace, five hundred times at most
    }
}

#[test]
fn bytes_without_a_body_to_hold_them_cost_nothing() {
    let limits = BodyLimits { bytes: 1 << 30, idle: NEVER, total: NEVER };
    let server = TestServer::with_bodies(relaxed(), limits);
    let before = resident_bytes();
    let mut clients: Vec<_> = (0..32).map(|_| server.client()).collect();
    for client in &mut clients {
        client.send("POST /echo HTTP/1.1\r\nhost: test\r\ncontent-length: 1073741824\r\n\r\n{").send("}");
    }
    // Answered by the same worker, so it has seen all that came before.
    assert_eq!(server.client().get("/ping").answer().status, 200);
    assert!(resident_bytes().saturating_sub(before) < 256 << 20);
}
