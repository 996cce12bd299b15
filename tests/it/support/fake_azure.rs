//! An upstream that does exactly what a script says, byte for byte: a TCP server of its own threads, so that it works
//! beside any runtime.
//!
//! ```ignore
//! let azure = FakeAzure::start(Script::always(Reply::json(200, r#"{"ok":true}"#)));
//! let azure = FakeAzure::start(Script::each(|request| match request.index {
//!     0 => Reply::json(429, "{}").with_header("retry-after-ms: 200"),
//!     _ => Reply::sse(&["data: one\n\n", "data: [DONE]\n\n"]).cut_at(120, Cut::Fin),
//! }));
//! // … azure.endpoint(), azure.url(), azure.requests(), azure.connections(), azure.wait_for(|seen| …)
//! ```

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use aoai_gateway::azure::endpoint::Endpoint;
use aoai_gateway::domain::outbound::Way;
use aoai_gateway::domain::time;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use socket2::SockRef;

use super::identity::Identity;
use super::script::Step;
pub use super::script::{Cut, Gate, Reply, Script, chunk};

/// Runs until dropped.
pub struct FakeAzure {
    address: SocketAddr,
    tls: bool,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Request {
    /// Among all requests, from 0, in the order in which they were read.
    pub index: usize,
    /// Which connection, from 0.
    pub connection: usize,
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Names in lower case, in the order of the wire.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }
}

/// What the server has seen so far.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub connections: usize,
    pub requests: Vec<Request>,
    /// Connections that the client ended.
    pub hang_ups: usize,
    /// Bytes written to sockets.
    pub written: usize,
}

struct Shared {
    script: Script,
    tls: Option<Arc<ServerConfig>>,
    seen: Mutex<Seen>,
    changed: Condvar,
    stopped: Mutex<bool>,
    offers: Arc<Mutex<Vec<Vec<Vec<u8>>>>>,
}

impl FakeAzure {
    pub fn start(script: Script) -> Self {
        Self::listen(script, None)
    }

    pub fn start_tls(script: Script, identity: &Identity) -> Self {
        Self::listen(script, Some(identity))
    }

    fn listen(script: Script, identity: Option<&Identity>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let offers = Arc::default();
        let shared = Arc::new(Shared {
            script,
            tls: identity.map(|identity| identity.server(Arc::clone(&offers))),
            seen: Mutex::default(),
            changed: Condvar::new(),
            stopped: Mutex::new(false),
            offers,
        });
        let acceptor = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Self { address, tls: identity.is_some(), shared, acceptor: Some(acceptor) }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn endpoint(&self) -> Arc<Endpoint> {
        self.endpoint_as("127.0.0.1")
    }

    /// The same server under another name.
    pub fn endpoint_as(&self, host: &str) -> Arc<Endpoint> {
        let (host, port) = (host.to_owned(), self.address.port());
        Arc::new(Endpoint { tls: self.tls, host, port, prefix: String::new(), way: Way::Direct })
    }

    pub fn url(&self) -> String {
        self.endpoint().to_string()
    }

    pub fn requests(&self) -> Vec<Request> {
        self.seen().requests
    }

    pub fn connections(&self) -> usize {
        self.seen().connections
    }

    pub fn seen(&self) -> Seen {
        self.shared.seen().clone()
    }

    /// The protocols each TLS client offered.
    pub fn alpn_offers(&self) -> Vec<Vec<String>> {
        let offers = self.shared.offers.lock().unwrap();
        let text = |protocols: &Vec<Vec<u8>>| {
            protocols.iter().map(|protocol| String::from_utf8_lossy(protocol).into_owned()).collect()
        };
        offers.iter().map(text).collect()
    }

    /// Blocks until `condition` holds; says how long that took. Panics after ten seconds.
    pub fn wait_for(&self, condition: impl Fn(&Seen) -> bool) -> Duration {
        let started = time::now();
        let mut seen = self.shared.seen();
        while !condition(&seen) {
            let waited = time::now().since(started);
            assert!(waited < Duration::from_secs(10), "the fake upstream waited in vain: {seen:?}");
            seen = self.shared.changed.wait_timeout(seen, Duration::from_millis(100)).unwrap().0;
        }
        time::now().since(started)
    }
}

impl Drop for FakeAzure {
    fn drop(&mut self) {
        *self.shared.stopped.lock().unwrap() = true;
        // The acceptor waits for one more connection.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    fn note(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen());
        self.changed.notify_all();
    }

    fn is_stopped(&self) -> bool {
        *self.stopped.lock().unwrap()
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.is_stopped() {
            return;
        }
        let Ok(stream) = stream else { continue };
        let mut number = 0;
        shared.note(|seen| {
            number = seen.connections;
            seen.connections += 1;
        });
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            // Reads come back every now and then, so that a stopped server leaves no thread behind.
            stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            stream.set_nodelay(true).unwrap();
            let wire: Box<dyn Wire> = match &shared.tls {
                None => Box::new(stream),
                Some(tls) => Box::new(StreamOwned::new(ServerConnection::new(Arc::clone(tls)).unwrap(), stream)),
            };
            let mut connection = Connection { wire, number, buffer: Vec::new(), shared: &shared };
            if connection.serve().is_err() {
                shared.note(|seen| seen.hang_ups += 1);
            }
        });
    }
}

trait Wire: Read + Write {
    fn tcp(&self) -> &TcpStream;
    fn close_notify(&mut self);
}

impl Wire for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
    fn close_notify(&mut self) {}
}

impl Wire for StreamOwned<ServerConnection, TcpStream> {
    fn tcp(&self) -> &TcpStream {
        &self.sock
    }
    fn close_notify(&mut self) {
        self.conn.send_close_notify();
        let _ = self.flush();
    }
}

struct Connection<'a> {
    wire: Box<dyn Wire>,
    number: usize,
    buffer: Vec<u8>,
    shared: &'a Shared,
}

impl Connection<'_> {
    /// An error means that the client has left.
    fn serve(&mut self) -> io::Result<()> {
        loop {
            let Some(mut request) = self.read_request()? else { return Ok(()) };
            self.shared.note(|seen| {
                request.index = seen.requests.len();
                seen.requests.push(request.clone());
            });
            let reply = (self.shared.script.answer)(&request);
            for step in reply.0 {
                match step {
                    Step::Write(bytes) => self.write(&bytes)?,
                    Step::Pieces(bytes, size, gap) => {
                        for piece in bytes.chunks(size) {
                            self.write(piece)?;
                            self.pause(gap);
                        }
                    }
                    Step::Pause(delay) => self.pause(delay),
                    Step::Wait(gate) => gate.wait(|| self.shared.is_stopped()),
                    Step::Take(count) => drop(self.take(count)?),
                    Step::Hold => {
                        while self.fill()? {}
                        return Ok(());
                    }
                    Step::End(cut) => {
                        self.end(cut);
                        return Ok(());
                    }
                }
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        for part in bytes.chunks(64 * 1024) {
            self.wire.write_all(part)?;
            self.wire.flush()?;
            self.shared.note(|seen| seen.written += part.len());
        }
        Ok(())
    }

    fn pause(&self, delay: Duration) {
        let started = time::now();
        loop {
            let rest = delay.saturating_sub(time::now().since(started));
            if rest.is_zero() || self.shared.is_stopped() {
                return;
            }
            std::thread::park_timeout(rest.min(Duration::from_millis(100)));
        }
    }

    fn end(&mut self, cut: Cut) {
        match cut {
            Cut::CloseNotify => self.wire.close_notify(),
            Cut::Fin => {
                let _ = self.wire.tcp().shutdown(Shutdown::Both);
            }
            Cut::Reset => SockRef::from(self.wire.tcp()).set_linger(Some(Duration::ZERO)).unwrap(),
        }
    }

    /// None when the server is stopping or the client left between requests.
    fn read_request(&mut self) -> io::Result<Option<Request>> {
        let head = loop {
            if let Some(at) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            match self.fill() {
                Ok(true) => {}
                Ok(false) => return Ok(None),
                Err(error) => return Err(error),
            }
        };
        let mut request = parse_head(&self.buffer[..head], self.number);
        self.buffer.drain(..head);
        if !self.shared.script.refuses_bodies {
            request.body = match request.header("content-length").map(|length| length.parse().unwrap()) {
                Some(length) => self.take(length)?,
                None if request.header("transfer-encoding") == Some("chunked") => self.take_chunks()?,
                None => Vec::new(),
            };
        }
        Ok(Some(request))
    }

    fn take(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < length {
            if !self.fill()? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.buffer.drain(..length).collect())
    }

    fn take_chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = loop {
                if let Some(at) = self.buffer.windows(2).position(|two| two == b"\r\n") {
                    break at;
                }
                if !self.fill()? {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            };
            let line: Vec<u8> = self.take(line + 2)?;
            let size = usize::from_str_radix(std::str::from_utf8(&line).unwrap().trim(), 16).unwrap();
            let data = self.take(size + 2)?;
            if size == 0 {
                return Ok(body);
            }
            body.extend_from_slice(&data[..size]);
        }
    }

    /// Reads some bytes. False when the server is stopping, an error when the client has left.
    fn fill(&mut self) -> io::Result<bool> {
        let mut bytes = [0; 64 * 1024];
        loop {
            match self.wire.read(&mut bytes) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    self.buffer.extend_from_slice(&bytes[..count]);
                    return Ok(true);
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    if self.shared.is_stopped() {
                        return Ok(false);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }
}

fn parse_head(bytes: &[u8], connection: usize) -> Request {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Request::new(&mut headers);
    assert!(parsed.parse(bytes).unwrap().is_complete());
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    Request {
        index: 0,
        connection,
        method: parsed.method.unwrap().to_owned(),
        target: parsed.path.unwrap().to_owned(),
        headers: parsed.headers.iter().map(|header| (header.name.to_ascii_lowercase(), text(header.value))).collect(),
        body: Vec::new(),
    }
}
