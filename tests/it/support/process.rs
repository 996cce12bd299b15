//! The real binary before three simulated regions that outlive it: settings, a key, starts, signals.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use aoai_gateway::settings::model::Durability;
use aoai_gateway::simulator::{self, Control, Entry, Knobs, SimulatedDeployment, SimulatedResource, Simulator};
use aoai_gateway::storage::Store;
use serde_json::Value;
use tempfile::TempDir;

use super::client::{Ask, exchange};

pub const ADMIN_KEY: &str = "an-admin-key-for-tests-only-0123456789";
pub const CHAT: &str = "gpt-4o-mini";
pub const EMBEDDINGS: &str = "text-embedding-3-small";
const REGIONS: [&str; 3] = ["eastus2", "swedencentral", "westus3"];
/// Long enough for a loaded machine; nothing here waits that long for what goes well.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Everything around a gateway: regions, settings, database, key.
pub struct Estate {
    folder: TempDir,
    simulators: Vec<Simulator>,
    pub key: String,
}

impl Estate {
    /// `settings` is TOML that goes before the regions.
    pub fn new(knobs: &Knobs, settings: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let simulators: Vec<_> = REGIONS.iter().zip(1..).map(|(name, seed)| simulate(name, seed, knobs)).collect();
        let directory = folder.path().join("settings");
        std::fs::create_dir(&directory).unwrap();
        let database = folder.path().join("gateway.db");
        let common = format!(
            "{settings}\n[database]\nurl = \"sqlite:{}\"\n[admin]\nkey = \"{ADMIN_KEY}\"\n\
             [models.{CHAT}]\nprice = {{ input = 0.15, cached_input = 0.075, output = 0.60 }}\n",
            database.display()
        );
        std::fs::write(directory.join("00-common.toml"), common).unwrap();
        for (name, simulator) in REGIONS.iter().zip(&simulators) {
            let region = format!(
                "[resources.{name}]\nendpoint = \"{}\"\napi_key = \"key-of-{name}\"\n\
                 [resources.{name}.deployments]\n{CHAT} = {{ model = \"{CHAT}\" }}\n\
                 {EMBEDDINGS} = {{ model = \"{EMBEDDINGS}\" }}\n",
                simulator.url()
            );
            std::fs::write(directory.join(format!("20-{name}.toml")), region).unwrap();
        }
        let mut estate = Self { folder, simulators, key: String::new() };
        let output = estate
            .command(&["keys", "add", "load", "--rpm", "unlimited", "--concurrency", "unlimited", "--json"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let key: Value = serde_json::from_slice(&output.stdout).unwrap();
        estate.key = key["secret"].as_str().unwrap().to_owned();
        estate
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aoai-gateway"));
        command.arg("--settings").arg(self.folder.path().join("settings")).args(arguments);
        command.current_dir(self.folder.path()).env_remove("RUST_LOG").stdin(Stdio::null());
        command
    }

    pub fn regions(&self) -> impl Iterator<Item = Control> {
        self.simulators.iter().map(Simulator::control)
    }

    /// Starts a gateway and waits until it says that it is ready.
    pub fn start(&self) -> Gateway {
        let began = Instant::now();
        let mut process = self
            .command(&["serve", "--listen", "127.0.0.1:0", "--log", "json"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(process.stderr.take().unwrap());
        let (told, lines) = channel();
        std::thread::spawn(move || {
            // A line that a kill tore apart is of no interest.
            for line in log.lines().map_while(Result::ok) {
                let _ = told.send(line);
            }
        });
        let mut gateway = Gateway { process, address: ([0, 0, 0, 0], 0).into(), log: lines, ready: Duration::ZERO };
        gateway.address = gateway.serving();
        let ready = get(gateway.address, "/readyz", "");
        assert_eq!(ready.0, 200, "{}", ready.1);
        gateway.ready = began.elapsed();
        gateway
    }

    /// Every journal entry of every region, once no request is being answered any more.
    pub fn journals(&self) -> Vec<Entry> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            for region in self.regions() {
                let idle = tokio::time::timeout(PATIENCE, region.idle()).await;
                idle.unwrap_or_else(|_| panic!("{region:?} is still answering {} requests", region.in_flight()));
            }
        });
        self.regions().flat_map(|region| region.journal()).collect()
    }

    pub fn store(&self) -> Store {
        Store::existing(&self.folder.path().join("gateway.db"), Durability::Process).unwrap()
    }
}

fn simulate(name: &str, seed: u64, knobs: &Knobs) -> Simulator {
    // The limits are out of the way: here only faults on command refuse.
    let deployment = |model| SimulatedDeployment::new(model, model).with_limits(600_000_000, 6_000_000);
    let resource = SimulatedResource {
        api_key: format!("key-of-{name}"),
        deployments: vec![deployment(CHAT), deployment(EMBEDDINGS)],
        seed,
        knobs: knobs.clone(),
        ..SimulatedResource::new(name)
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(simulator::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), resource)).unwrap()
}

/// A running gateway; killed when it is dropped.
pub struct Gateway {
    process: Child,
    pub address: SocketAddr,
    log: Receiver<String>,
    /// From its start until it said that it was ready.
    pub ready: Duration,
}

/// How a gateway ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Ended {
    pub code: Option<i32>,
    /// Log lines of that level.
    pub errors: Vec<String>,
    /// Requests that held a permit of their key when it was asked to end.
    pub in_flight: Option<u64>,
}

impl Gateway {
    fn serving(&mut self) -> SocketAddr {
        let mut said = String::new();
        while let Ok(line) = self.log.recv_timeout(PATIENCE) {
            let told: Value = serde_json::from_str(&line).unwrap_or_default();
            if let Some(address) = told["address"].as_str().filter(|_| told["message"] == "serving") {
                return address.parse().unwrap();
            }
            said += &line;
            said.push('\n');
        }
        panic!("the gateway does not serve ({:?}): {said}", self.process.try_wait());
    }

    /// SIGKILL, and the end of it.
    pub fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    pub fn signal(&self, name: &str) {
        let command = format!("kill -{name} {}", self.process.id());
        assert!(Command::new("sh").args(["-c", &command]).status().unwrap().success());
    }

    /// Waits for the end that a signal asked for.
    pub fn ended(mut self) -> Ended {
        let deadline = Instant::now() + PATIENCE;
        let (mut errors, mut in_flight) = (Vec::new(), None);
        loop {
            match self.log.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    let told: Value = serde_json::from_str(&line).unwrap_or_default();
                    in_flight = told["in_flight"].as_u64().or(in_flight);
                    if told["level"] == "ERROR" {
                        errors.push(line);
                    }
                }
                // The log ends with the process.
                Err(RecvTimeoutError::Disconnected) => {
                    return Ended { code: self.process.wait().unwrap().code(), errors, in_flight };
                }
                Err(RecvTimeoutError::Timeout) => panic!("still running {PATIENCE:?} after it was asked to end"),
            }
        }
    }

    /// A graceful stop with nothing in flight.
    pub fn stop(self) {
        self.signal("TERM");
        assert_eq!(self.ended(), Ended { code: Some(0), errors: Vec::new(), in_flight: Some(0) });
    }

    /// Requests that are open in the database, as the admin plane tells.
    pub fn open_rows(&self) -> usize {
        let credential = format!("authorization: Bearer {ADMIN_KEY}\r\n");
        let (status, body) = get(self.address, "/admin/v1/requests?state=open&limit=200", &credential);
        assert_eq!(status, 200, "{body}");
        serde_json::from_str::<Value>(&body).unwrap()["data"].as_array().unwrap().len()
    }

    /// A metric without labels.
    pub fn metric(&self, name: &str) -> f64 {
        let credential = format!("authorization: Bearer {ADMIN_KEY}\r\n");
        let (status, body) = get(self.address, "/metrics", &credential);
        assert_eq!(status, 200, "{body}");
        let line = body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {body}")).parse().unwrap()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn get(address: SocketAddr, path: &str, headers: &str) -> (u16, String) {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let answer = exchange(&mut BufReader::new(stream), &Ask::get(path, headers)).unwrap();
    (answer.status, String::from_utf8(answer.body).unwrap())
}
