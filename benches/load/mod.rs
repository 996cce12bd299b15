//! The real gateway before a simulated region, asked over HTTP: its start, its answers, and a load at a fixed rate.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aoai_gateway::simulator::{self, Knobs, SimulatedDeployment, SimulatedResource, Simulator};
use serde_json::{Value, json};

use crate::samples::Samples;

pub mod month;
pub mod questions;

const ADMIN_KEY: &str = "an-admin-key-for-benchmarks-0123456789";
const MODEL: &str = "gpt-4o-mini";
const AZURE_KEY: &str = "key-of-the-simulated-region";
/// Connections that the load is spread over.
const CONNECTIONS: u32 = 4;
const PATIENCE: Duration = Duration::from_secs(120);

/// A number of the environment.
pub fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().expect("a number in the environment"))
}

/// Two models in three regions, asked by so many keys.
pub fn samples(keys: u64) -> Samples {
    let (models, resources) = (&["gpt-4o-mini", "gpt-4.1"], &["eastus2", "swedencentral", "westus3"]);
    Samples { keys, models, resources }
}

/// Ended when it is dropped.
pub struct Gateway {
    process: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
    _region: Simulator,
}

/// What the load found.
#[derive(Clone, Debug, Default)]
pub struct Window {
    pub latencies: Vec<Duration>,
    /// Of the gateway, all its threads.
    pub cpu: Duration,
    pub refused: u64,
}

/// Rows that are read from it, until it is stopped.
pub struct Export {
    stop: Arc<AtomicBool>,
    rows: Arc<AtomicU64>,
    reader: std::thread::JoinHandle<()>,
}

impl Gateway {
    /// On this database; gives how long it took until it was ready.
    pub fn start(database: &str, settings: &str) -> (Self, Duration) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let region = SimulatedResource {
            api_key: AZURE_KEY.into(),
            deployments: vec![SimulatedDeployment::new(MODEL, MODEL).with_limits(600_000_000, 6_000_000)],
            knobs: Knobs::default(),
            ..SimulatedResource::new("east")
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let region = runtime.block_on(simulator::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), region));
        let region = region.expect("a simulated region");
        let text = format!(
            "[admin]\nkey = \"{ADMIN_KEY}\"\n[database]\nurl = \"{database}\"\n[models.{MODEL}]\n\
             price = {{ input = 0.15, cached_input = 0.075, output = 0.60 }}\n[resources.east]\nendpoint = \"{}\"\n\
             api_key = \"{AZURE_KEY}\"\n[resources.east.deployments]\n{MODEL} = \"{MODEL}\"\n{settings}",
            region.url(),
        );
        std::fs::write(folder.path().join("00-bench.toml"), text).expect("settings");
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = free.local_addr().expect("an address");
        drop(free);
        let began = Instant::now();
        let process = Command::new(env!("CARGO_BIN_EXE_aoai-gateway"))
            .arg("--settings")
            .arg(folder.path())
            .args(["serve", "--listen", &address.to_string(), "--log", "json"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a gateway");
        let gateway = Self { process, address, _folder: folder, _region: region };
        while gateway.ask(ADMIN_KEY, "GET", "/readyz", "").is_none_or(|(status, _)| status != 200) {
            assert!(began.elapsed() < PATIENCE, "the gateway did not become ready");
            std::thread::sleep(Duration::from_millis(2));
        }
        (gateway, began.elapsed())
    }

    /// As the admin, on a connection of its own; the body.
    pub fn admin(&self, method: &str, path: &str, body: &str) -> Vec<u8> {
        let (status, answer) = self.ask(ADMIN_KEY, method, &format!("/admin/v1{path}"), body).expect("an answer");
        assert!((200..300).contains(&status), "{path}: {status} {}", String::from_utf8_lossy(&answer));
        answer
    }

    /// What a key is told of itself.
    pub fn account(&self, key: &str, path: &str) -> Vec<u8> {
        let (status, answer) = self.ask(key, "GET", path, "").expect("an answer");
        assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&answer));
        answer
    }

    /// A key without limits.
    pub fn key(&self) -> String {
        let limits = json!({ "rpm": "unlimited", "tpm": "unlimited", "concurrency": "unlimited" });
        let made = self.admin("POST", "/keys", &json!({ "name": "load", "limits": limits }).to_string());
        let made: Value = serde_json::from_slice(&made).expect("a key");
        made["secret"].as_str().expect("a secret").to_owned()
    }

    fn ask(&self, credential: &str, method: &str, path: &str, body: &str) -> Option<(u16, Vec<u8>)> {
        let mut stream = TcpStream::connect(self.address).ok()?;
        let length = body.len();
        let lines = format!("host: gateway\r\nauthorization: Bearer {credential}\r\nconnection: close\r\n");
        write!(stream, "{method} {path} HTTP/1.1\r\n{lines}content-length: {length}\r\n\r\n{body}").ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let status = std::str::from_utf8(answer.get(9..12)?).ok()?.parse().ok()?;
        Some((status, answer.split_off(end)))
    }

    /// Chat requests of about a kilobyte at a fixed rate. Latency counts from the moment at which a request was due, so
    /// that one that had to wait for another is seen.
    pub fn load(&self, key: &str, rate: u32, length: Duration) -> Window {
        let content = "word ".repeat(180);
        let body = json!({ "model": MODEL, "max_tokens": 8, "messages": [{ "role": "user", "content": content }] });
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {key}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.to_string().len()
        );
        let (before, gap) = (self.cpu(), Duration::from_secs(1) / rate);
        let threads: Vec<_> = (0..CONNECTIONS)
            .map(|n| {
                let (request, address) = (request.clone(), self.address);
                std::thread::spawn(move || one_connection(address, &request, gap * n, gap * CONNECTIONS, length))
            })
            .collect();
        let mut window = Window::default();
        for thread in threads {
            let one = thread.join().expect("the load");
            window.latencies.extend(one.latencies);
            window.refused += one.refused;
        }
        window.cpu = self.cpu().saturating_sub(before);
        window
    }

    /// All requests as CSV, over and over.
    pub fn export(&self) -> Export {
        let (stop, rows, address) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), self.address);
        let reader = std::thread::spawn({
            let (stop, rows) = (stop.clone(), rows.clone());
            move || {
                let mut buffer = vec![0; 64 * 1024];
                let lines = format!("host: gateway\r\nauthorization: Bearer {ADMIN_KEY}\r\nconnection: close\r\n\r\n");
                while !stop.load(Ordering::Relaxed) {
                    let mut stream = TcpStream::connect(address).expect("a connection");
                    write!(stream, "GET /admin/v1/requests?format=csv HTTP/1.1\r\n{lines}").expect("a request");
                    let (mut answer, mut status) = (BufReader::new(stream), String::new());
                    answer.read_line(&mut status).expect("an answer");
                    assert!(status.starts_with("HTTP/1.1 200 "), "the export: {status}");
                    while !stop.load(Ordering::Relaxed) {
                        let read = answer.read(&mut buffer).expect("more of the export");
                        if read == 0 {
                            break;
                        }
                        let lines = buffer[..read].windows(2).filter(|two| *two == b"\r\n").count();
                        rows.fetch_add(lines as u64, Ordering::Relaxed);
                    }
                }
            }
        });
        Export { stop, rows, reader }
    }

    /// What its threads have used so far, as the scheduler counts it.
    fn cpu(&self) -> Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.process.id())).into_iter().flatten().flatten();
        let times = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok());
        times.filter_map(|text| Some(Duration::from_nanos(text.split(' ').next()?.parse().ok()?))).sum()
    }
}

impl Window {
    pub fn add(&mut self, other: Self) {
        self.latencies.extend(other.latencies);
        self.cpu += other.cpu;
        self.refused += other.refused;
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // As a container is stopped; the ledger is closed in order.
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        let _ = self.process.wait();
    }
}

impl Export {
    /// Gives the lines that were read.
    pub fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.reader.join().expect("the export");
        self.rows.load(Ordering::Relaxed)
    }
}

fn one_connection(address: SocketAddr, request: &str, first: Duration, gap: Duration, length: Duration) -> Window {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_nodelay(true).expect("no delay");
    let mut reader = BufReader::new(stream.try_clone().expect("the same connection"));
    let (began, mut due, mut window) = (Instant::now(), first, Window::default());
    while due < length {
        std::thread::sleep(due.saturating_sub(began.elapsed()));
        stream.write_all(request.as_bytes()).expect("a request");
        let status = read_answer(&mut reader);
        window.latencies.push(began.elapsed().saturating_sub(due));
        window.refused += u64::from(status != 200);
        due += gap;
    }
    window
}

/// The whole answer; its status.
fn read_answer(reader: &mut impl BufRead) -> u16 {
    let (mut status, mut length) = (0, None);
    loop {
        let mut line = String::new();
        assert!(reader.read_line(&mut line).expect("a line") > 0, "the connection ended");
        match line.trim_end().split_once(": ") {
            None if line.trim_end().is_empty() => break,
            None => status = line[9..12].parse().expect("a status"),
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.parse::<usize>().ok(),
            Some(_) => {}
        }
    }
    let mut body = vec![0; length.expect("an answer of known length")];
    reader.read_exact(&mut body).expect("the body");
    status
}
