//! The server's edge with a small app behind it: what a connection may cost, whoever is at the other end.
//!
//! Deadlines are tenths of seconds here. A test waits for what must happen, for at most [`PATIENCE`]; what must not
//! happen is given a deadline far beyond that.

mod leaving;
mod protocol;
mod slow;

use std::future::pending;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use actix_web::dev::ServerHandle;
use actix_web::http::StatusCode;
use actix_web::{App, HttpRequest, HttpResponse, web};
use aoai_gateway::http::body::{self, BodyError, BodyLimits};
use aoai_gateway::http::connection::Deadlines;
use aoai_gateway::http::listener::{Edge, serve};
use bytes::Bytes;
use futures_util::{StreamExt, stream};

/// Enough for a loaded machine, and far from every deadline that must not be the one that ends a test.
const PATIENCE: Duration = Duration::from_secs(10);
const NEVER: Duration = Duration::from_secs(3600);
const SOON: Duration = Duration::from_millis(300);
const BODY_LIMIT: usize = 1 << 20;

/// Nothing but the deadline under test is near.
fn relaxed() -> Edge {
    Edge {
        workers: NonZeroUsize::MIN,
        max_connections: 64,
        deadlines: Deadlines { head: NEVER, idle: NEVER, write_stall: NEVER },
        disconnect_timeout: Duration::from_secs(1),
        shutdown_timeout: PATIENCE,
    }
}

fn with_deadlines(change: impl FnOnce(&mut Deadlines)) -> Edge {
    let mut edge = relaxed();
    change(&mut edge.deadlines);
    edge
}

#[derive(Clone)]
struct Bodies(BodyLimits);

/// What the app saw: handlers and streams that began or were dropped.
#[derive(Clone)]
struct Notes(Arc<Mutex<Sender<&'static str>>>);

impl Notes {
    fn note(&self, text: &'static str) {
        let _ = self.0.lock().unwrap().send(text);
    }
}

struct NoteDrop(Notes, &'static str);

impl Drop for NoteDrop {
    fn drop(&mut self) {
        self.0.note(self.1);
    }
}

struct TestServer {
    address: SocketAddr,
    handle: ServerHandle,
    notes: Receiver<&'static str>,
    thread: Option<JoinHandle<()>>,
}

impl TestServer {
    fn start(edge: Edge) -> Self {
        Self::with_bodies(edge, BodyLimits { bytes: BODY_LIMIT, idle: NEVER, total: NEVER })
    }

    fn with_bodies(edge: Edge, limits: BodyLimits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (notes, seen) = channel();
        let notes = Notes(Arc::new(Mutex::new(notes)));
        let (started, handle) = channel();
        let thread = std::thread::spawn(move || {
            actix_rt::System::new().block_on(async move {
                let app = move || {
                    App::new()
                        .app_data(web::Data::new(notes.clone()))
                        .app_data(web::Data::new(Bodies(limits)))
                        .route("/ping", web::get().to(async || "pong"))
                        .route("/number/{n}", web::get().to(async |n: web::Path<u32>| n.to_string()))
                        .route("/echo", web::post().to(echo))
                        .route("/refuse", web::post().to(HttpResponse::Unauthorized))
                        .route("/hang", web::route().to(hang))
                        .route("/stream", web::get().to(one_chunk_and_silence))
                        .route("/flood", web::get().to(flood))
                        .route("/session", web::get().to(one_word))
                        .route("/panic", web::get().to(panic_now))
                };
                let server = serve(listener, edge, app).unwrap();
                started.send(server.handle()).unwrap();
                server.await.unwrap();
            });
        });
        Self { address, handle: handle.recv().unwrap(), notes: seen, thread: Some(thread) }
    }

    fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// The next thing that the app noted.
    #[track_caller]
    fn expect_note(&self, text: &str) {
        assert_eq!(self.notes.recv_timeout(PATIENCE), Ok(text));
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        let stop = self.handle.stop(false);
        actix_rt::System::new().block_on(stop);
        self.thread.take().unwrap().join().unwrap();
    }
}

async fn echo(
    request: HttpRequest,
    payload: web::Payload,
    bodies: web::Data<Bodies>,
    notes: web::Data<Notes>,
) -> HttpResponse {
    match body::read(&request, &mut payload.into_inner(), bodies.0).await {
        Ok(body) => HttpResponse::Ok().body(body),
        Err(error) => {
            let status = match error {
                BodyError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
                BodyError::Encoded => StatusCode::UNSUPPORTED_MEDIA_TYPE,
                BodyError::Expectation => StatusCode::EXPECTATION_FAILED,
                BodyError::Slow => StatusCode::REQUEST_TIMEOUT,
                BodyError::Upgrade | BodyError::Broken | BodyError::Form(_) => StatusCode::BAD_REQUEST,
                BodyError::Disk => StatusCode::INSUFFICIENT_STORAGE,
            };
            notes.note("body refused");
            HttpResponse::build(status).body(error.to_string())
        }
    }
}

async fn hang(notes: web::Data<Notes>) -> HttpResponse {
    let _dropped = NoteDrop(notes.as_ref().clone(), "handler dropped");
    notes.note("handler began");
    pending().await
}

async fn one_chunk_and_silence(notes: web::Data<Notes>) -> HttpResponse {
    let dropped = NoteDrop(notes.as_ref().clone(), "stream dropped");
    let body = stream::iter([Ok::<_, actix_web::Error>(Bytes::from_static(b"data: 1\n\n"))]).chain(stream::pending());
    HttpResponse::Ok().streaming(body.inspect(move |_| _ = &dropped))
}

async fn flood(notes: web::Data<Notes>) -> HttpResponse {
    let dropped = NoteDrop(notes.as_ref().clone(), "stream dropped");
    let chunk = Bytes::from(vec![b'x'; 64 * 1024]);
    let body = stream::repeat_with(move || Ok::<_, actix_web::Error>(chunk.clone()));
    HttpResponse::Ok().streaming(body.inspect(move |_| _ = &dropped))
}

/// Waits for the client's first bytes, and says its last.
async fn one_word(mut payload: web::Payload) -> HttpResponse {
    let body = stream::once(async move {
        let _ = payload.next().await;
        Ok::<_, actix_web::Error>(Bytes::from_static(b"bye"))
    });
    HttpResponse::SwitchingProtocols().upgrade("websocket").streaming(body)
}

async fn panic_now() -> HttpResponse {
    panic!("a handler's bug")
}

struct Answer {
    status: u16,
    /// Lower case.
    head: String,
    body: Vec<u8>,
}

struct Client {
    read: BufReader<TcpStream>,
    write: TcpStream,
}

impl Client {
    fn connect(address: SocketAddr) -> Self {
        let write = TcpStream::connect(address).unwrap();
        write.set_nodelay(true).unwrap();
        write.set_read_timeout(Some(PATIENCE)).unwrap();
        write.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { read: BufReader::new(write.try_clone().unwrap()), write }
    }

    fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.write.write_all(bytes.as_ref()).unwrap();
        self
    }

    fn get(&mut self, path: &str) -> &mut Self {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n"))
    }

    /// Also an interim one.
    #[track_caller]
    fn head(&mut self) -> Answer {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(self.read.read_line(&mut head).unwrap(), 0, "connection closed after {head:?}");
        }
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: head.to_ascii_lowercase(), body: Vec::new() }
    }

    #[track_caller]
    fn answer(&mut self) -> Answer {
        let mut answer = self.head();
        let length = answer.head.split("\r\n").find_map(|line| line.strip_prefix("content-length: "));
        answer.body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        self.read.read_exact(&mut answer.body).unwrap();
        answer
    }

    /// Reads until the server closes; a reset counts.
    #[track_caller]
    fn until_closed(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        match self.read.read_to_end(&mut rest) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("still open after {PATIENCE:?}"),
            Ok(_) | Err(_) => rest,
        }
    }

    /// Sends a byte every so often until the server closes or answers; gives what it said.
    #[track_caller]
    fn drip(&mut self) -> Vec<u8> {
        let began = Instant::now();
        let pace = Duration::from_millis(20);
        self.write.set_read_timeout(Some(pace)).unwrap();
        let mut said = Vec::new();
        loop {
            assert!(began.elapsed() < PATIENCE, "still open");
            match self.read.read_to_end(&mut said) {
                Err(error) if error.kind() == ErrorKind::WouldBlock && said.is_empty() => {}
                Ok(_) | Err(_) => return said,
            }
            let _ = self.write.write_all(b"x");
        }
    }

    /// Whether nothing comes, not even an end, for so long.
    fn is_quiet_for(&mut self, time: Duration) -> bool {
        self.write.set_read_timeout(Some(time)).unwrap();
        let quiet = matches!(self.read.fill_buf(), Err(error) if error.kind() == ErrorKind::WouldBlock);
        self.write.set_read_timeout(Some(PATIENCE)).unwrap();
        quiet
    }
}

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}
