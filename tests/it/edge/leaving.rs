//! Clients that leave: whatever worked for them must stop.

use std::net::Shutdown;

use super::*;

/// What actix's default takes is as long as the handler does.
const AT_ONCE: Duration = Duration::from_millis(100);

/// The best of a few tries, as the machine may be busy: `leave` gives when the client left.
#[track_caller]
fn expect_at_once(server: &TestServer, text: &str, leave: impl Fn() -> Instant) {
    let mut quickest = PATIENCE;
    for _ in 0..10 {
        let left = leave();
        server.expect_note(text);
        quickest = quickest.min(left.elapsed());
        if quickest < AT_ONCE {
            return;
        }
    }
    panic!("{text} only after {quickest:?}");
}

#[test]
fn a_client_that_closes_ends_its_handler() {
    let server = TestServer::start(relaxed());
    expect_at_once(&server, "handler dropped", || {
        let mut client = server.client();
        client.get("/hang");
        server.expect_note("handler began");
        let left = Instant::now();
        client.write.shutdown(Shutdown::Write).unwrap();
        assert_eq!(client.until_closed(), b"");
        left
    });
}

#[test]
fn a_client_that_closes_after_a_body_ends_its_handler() {
    let server = TestServer::start(relaxed());
    expect_at_once(&server, "handler dropped", || {
        let mut client = server.client();
        client.send("POST /hang HTTP/1.1\r\nhost: test\r\ncontent-length: 2\r\n\r\n{}");
        server.expect_note("handler began");
        Instant::now()
    });
}

#[test]
fn a_client_that_closes_ends_its_stream() {
    let server = TestServer::start(relaxed());
    expect_at_once(&server, "stream dropped", || {
        let mut client = server.client();
        assert_eq!(client.get("/stream").head().status, 200);
        let left = Instant::now();
        client.write.shutdown(Shutdown::Write).unwrap();
        client.until_closed();
        left
    });
}

#[test]
fn a_client_that_resets_ends_its_stream() {
    let server = TestServer::start(relaxed());
    expect_at_once(&server, "stream dropped", || {
        let mut client = server.client();
        client.get("/stream");
        // Closing with bytes unread makes the kernel send a reset.
        client.write.peek(&mut [0; 1]).unwrap();
        Instant::now()
    });
}

#[test]
fn a_client_that_closes_in_mid_body_ends_its_handler() {
    let server = TestServer::start(relaxed());
    let mut client = server.client();
    client.send("POST /echo HTTP/1.1\r\nhost: test\r\ncontent-length: 100\r\n\r\n{");
    client.write.shutdown(Shutdown::Write).unwrap();
    client.until_closed();
    assert_eq!(server.client().get("/ping").answer().status, 200);
}

#[test]
fn a_stop_closes_idle_connections_and_lets_requests_finish() {
    let server = TestServer::start(relaxed());
    let mut idle = server.client();
    assert_eq!(idle.get("/ping").answer().status, 200);
    let mut busy = server.client();
    busy.send("POST /echo HTTP/1.1\r\nhost: test\r\ncontent-length: 4\r\n\r\npo");
    assert_eq!(server.client().get("/ping").answer().status, 200);
    let stop = server.handle.stop(true);
    assert_eq!(idle.until_closed(), b"");
    let answer = busy.send("ng").answer();
    assert_eq!((answer.status, answer.body.as_slice()), (200, b"pong".as_slice()));
    assert!(answer.head.contains("connection: close"), "{}", answer.head);
    busy.until_closed();
    actix_rt::System::new().block_on(stop);
}

/// A WebSocket's client says goodbye, and then waits for the server to close the connection.
#[test]
fn a_session_that_has_ended_takes_its_connection_along() {
    let server = TestServer::start(Edge { disconnect_timeout: NEVER, ..relaxed() });
    let mut client = server.client();
    client.send("GET /session HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
    assert_eq!(client.head().status, 101);
    assert_eq!(client.send("goodbye").until_closed(), b"bye");
}
