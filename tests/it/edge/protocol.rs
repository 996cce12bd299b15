//! Requests as they should not be, and those that only look so.

use super::*;

#[track_caller]
fn refused(server: &TestServer, request: impl AsRef<[u8]>) -> u16 {
    let mut client = server.client();
    let answer = client.send(request).answer();
    client.until_closed();
    answer.status
}

/// 4 GiB in 128 KiB: a frame of zstd with run-length blocks of 128 KiB each.
fn zstd_bomb() -> Vec<u8> {
    let mut frame = vec![0x28, 0xB5, 0x2F, 0xFD, 0x00, 0x58];
    let blocks: u32 = 32 * 1024;
    for block in 1..=blocks {
        let header = (128 * 1024) << 3 | 1 << 1 | u32::from(block == blocks);
        frame.extend_from_slice(&header.to_le_bytes()[..3]);
        frame.push(b' ');
    }
    frame
}

#[test]
fn a_compressed_bomb_is_refused_and_not_unpacked() {
    let server = TestServer::start(relaxed());
    let bomb = zstd_bomb();
    let before = resident_bytes();
    for encoding in ["zstd", "gzip", "br", "deflate"] {
        let mut client = server.client();
        client.send(format!(
            "POST /echo HTTP/1.1\r\nhost: test\r\ncontent-encoding: {encoding}\r\ncontent-length: {}\r\n\r\n",
            bomb.len()
        ));
        client.send(&bomb);
        assert_eq!(client.answer().status, 415, "{encoding}");
    }
    assert!(resident_bytes().saturating_sub(before) < 512 << 20, "unpacked");
}

#[test]
fn http2_is_not_spoken() {
    let server = TestServer::start(relaxed());
    let mut client = server.client();
    let said = client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").until_closed();
    assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 400"), "{said:?}");
}

#[test]
fn an_offer_of_http2_is_passed_over() {
    let server = TestServer::start(relaxed());
    let mut client = server.client();
    let offer = "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n";
    client.send(format!("POST /echo HTTP/1.1\r\nhost: test\r\n{offer}content-length: 4\r\n\r\npong"));
    let answer = client.answer();
    assert_eq!((answer.status, answer.body.as_slice()), (200, b"pong".as_slice()));
    assert!(answer.head.contains("connection: close"), "{}", answer.head);
    client.until_closed();
}

#[test]
fn a_hundred_pipelined_requests_are_answered_in_order() {
    let server = TestServer::start(with_deadlines(|d| d.head = PATIENCE));
    let mut client = server.client();
    let requests: String = (0..100).map(|n| format!("GET /number/{n} HTTP/1.1\r\nhost: test\r\n\r\n")).collect();
    client.send(requests);
    for n in 0..100 {
        assert_eq!(client.answer().body, n.to_string().as_bytes());
    }
    assert_eq!(client.get("/ping").answer().body, b"pong");
}

#[test]
fn a_head_has_a_largest_size_and_a_largest_count() {
    let server = TestServer::start(relaxed());
    let long = format!("GET /ping HTTP/1.1\r\nhost: test\r\nx: {}", "x".repeat(140_000));
    let mut client = server.client();
    // The server may close with some of it unread, which resets the connection: what matters is that it ends.
    let _ = client.write.write_all(long.as_bytes());
    let said = client.until_closed();
    assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&said));

    let many: String = (0..97).map(|n| format!("x-{n}: 1\r\n")).collect();
    assert_eq!(refused(&server, format!("GET /ping HTTP/1.1\r\nhost: test\r\n{many}\r\n")), 431);
}

#[test]
fn chunked_bodies_need_no_length_however_they_are_cut() {
    let server = TestServer::start(relaxed());
    let body = "4\r\npong\r\n3;name=value\r\n, p\r\nb\r\nong, pong.\n\r\n0\r\n\r\n";
    for step in [1, 2, 3, 5, 7, 100] {
        let mut client = server.client();
        client.send("POST /echo HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n");
        for piece in body.as_bytes().chunks(step) {
            client.send(piece);
        }
        assert_eq!(client.answer().body, b"pong, pong, pong.\n", "in steps of {step}");
    }
}

#[test]
fn a_malformed_chunk_is_400() {
    let server = TestServer::start(relaxed());
    for body in ["4\r\npong!\r\n0\r\n\r\n", "x\r\n", "fffffffffffffffff\r\n", "0x4\r\npong\r\n0\r\n\r\n"] {
        let request = format!("POST /echo HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n{body}");
        assert_eq!(refused(&server, request), 400, "{body:?}");
    }
}

#[test]
fn a_large_body_arrives_whole_and_a_larger_one_is_413() {
    let server = TestServer::start(relaxed());
    let body: Vec<u8> = (0..BODY_LIMIT).map(|n| n as u8).collect();
    let mut client = server.client();
    client.send(format!("POST /echo HTTP/1.1\r\nhost: test\r\ncontent-length: {BODY_LIMIT}\r\n\r\n"));
    let mut sender = client.write.try_clone().unwrap();
    let sent = body.clone();
    let sending = std::thread::spawn(move || sender.write_all(&sent).unwrap());
    assert!(client.answer().body == body);
    sending.join().unwrap();

    let head = format!("POST /echo HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n", BODY_LIMIT + 1);
    assert_eq!(refused(&server, head), 413);
    let mut chunked = b"POST /echo HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    chunked.extend_from_slice(format!("{:x}\r\n", BODY_LIMIT + 1).as_bytes());
    chunked.extend(std::iter::repeat_n(b'x', BODY_LIMIT + 1));
    let mut client = server.client();
    assert_eq!(client.send(chunked).answer().status, 413);
}

#[test]
fn bodies_with_two_lengths_are_refused() {
    let server = TestServer::start(relaxed());
    for framing in [
        "content-length: 4\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 4",
        "content-length: 4\r\ncontent-length: 5",
        "content-length: +4",
        "content-length: 4, 4",
        "transfer-encoding: gzip, chunked",
        "transfer-encoding: chunked, identity",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
    ] {
        let request =
            format!("POST /echo HTTP/1.1\r\nhost: test\r\n{framing}\r\n\r\n0\r\n\r\nGET /ping HTTP/1.1\r\n\r\n");
        assert_eq!(refused(&server, request), 400, "{framing}");
    }
}

#[test]
fn a_body_is_asked_for_when_the_client_waits_to_be_asked() {
    let server = TestServer::start(relaxed());
    let mut client = server.client();
    client.send("POST /echo HTTP/1.1\r\nhost: test\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n");
    assert_eq!(client.head().status, 100);
    assert_eq!(client.send("pong").answer().body, b"pong");
    assert_eq!(client.get("/ping").answer().body, b"pong");

    let request = "POST /echo HTTP/1.1\r\nhost: test\r\nexpect: miracles\r\ncontent-length: 4\r\n\r\npong";
    assert_eq!(server.client().send(request).answer().status, 417);
}

#[test]
fn a_websocket_handshake_elsewhere_is_400() {
    let server = TestServer::start(relaxed());
    let request = "POST /echo HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: websocket\r\ncontent-length: 4\r\n\r\npong";
    assert_eq!(refused(&server, request), 400);
}

#[test]
fn an_answer_reaches_a_client_that_is_still_sending() {
    let server = TestServer::start(relaxed());
    let mut client = server.client();
    client.send("POST /refuse HTTP/1.1\r\nhost: test\r\ncontent-length: 500000\r\n\r\n").send(vec![b'x'; 100_000]);
    assert_eq!(client.answer().status, 401);
    client.until_closed();
}

#[test]
fn a_handlers_panic_is_answered_and_harms_no_one_else() {
    let server = TestServer::start(relaxed());
    let mut bystander = server.client();
    bystander.get("/stream").head();
    let mut client = server.client();
    let answer = client.get("/panic").answer();
    assert_eq!(answer.status, 500);
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(body["error"]["code"], "internal_error");
    client.until_closed();
    assert_eq!(server.client().get("/ping").answer().body, b"pong");
    bystander.read.fill_buf().map(|chunk| assert!(!chunk.is_empty())).unwrap();
}

#[test]
fn connections_beyond_the_limit_wait_for_their_turn() {
    let mut edge = relaxed();
    edge.max_connections = 2;
    let server = TestServer::start(edge);
    let mut first = server.client();
    let mut second = server.client();
    assert_eq!(first.get("/ping").answer().status, 200);
    assert_eq!(second.get("/ping").answer().status, 200);
    let mut third = server.client();
    third.get("/ping");
    assert!(third.is_quiet_for(SOON));
    drop(first);
    assert_eq!(third.answer().status, 200);
}
