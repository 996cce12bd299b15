//! The real binary before simulated regions that outlive it: settings, keys, commands, starts, signals, its log.

use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use aoai_gateway::settings::model::Durability;
use aoai_gateway::simulator::{Control, Entry, Knobs, SimulatedDeployment, SimulatedResource, Simulator};
use aoai_gateway::storage::Store;
use serde_json::Value;
use tempfile::TempDir;

use super::client::{Answer, Client, get, post};
use super::gateway::{eventually, simulate};

pub const ADMIN_KEY: &str = "an-admin-key-for-tests-only-0123456789";
pub const CHAT: &str = "gpt-4o-mini";
pub const EMBEDDINGS: &str = "text-embedding-3-small";
pub const REGIONS: [&str; 3] = ["eastus2", "swedencentral", "westus3"];
/// Long enough for a loaded machine; nothing here waits that long for what goes well.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Everything around a gateway: regions, settings, database, key.
pub struct Estate {
    folder: TempDir,
    simulators: Vec<(String, Simulator)>,
    pub key: String,
}

impl Estate {
    /// Three regions. `settings` is TOML that goes before them.
    pub fn new(knobs: &Knobs, settings: &str) -> Self {
        Self::of(&REGIONS, knobs, settings)
    }

    /// These regions.
    pub fn of(regions: &[&str], knobs: &Knobs, settings: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("settings")).unwrap();
        let database = folder.path().join("gateway.db");
        let common = format!(
            "{settings}\n[database]\nurl = \"sqlite:{}\"\n[admin]\nkey = \"{ADMIN_KEY}\"\n\
             [models.{CHAT}]\nprice = {{ input = 0.15, cached_input = 0.075, output = 0.60 }}\n",
            database.display()
        );
        let mut estate = Self { folder, simulators: Vec::new(), key: String::new() };
        estate.write("00-common.toml", &common);
        for name in regions {
            estate.build(name, knobs);
            estate.open(name);
        }
        estate.key = estate.add_key("load");
        estate
    }

    /// A region that no settings name yet.
    pub fn build(&mut self, name: &str, knobs: &Knobs) {
        // The limits are out of the way: here only faults on command refuse.
        let deployment = |model| SimulatedDeployment::new(model, model).with_limits(600_000_000, 6_000_000);
        let resource = SimulatedResource {
            api_key: key_of(name),
            deployments: vec![deployment(CHAT), deployment(EMBEDDINGS)],
            seed: self.simulators.len() as u64 + 1,
            knobs: knobs.clone(),
            ..SimulatedResource::new(name)
        };
        self.simulators.push((name.to_owned(), simulate(resource)));
    }

    /// The settings of a region.
    pub fn region(&self, name: &str) -> String {
        format!(
            "[resources.{name}]\nendpoint = \"{}\"\napi_key = \"{}\"\n\
             [resources.{name}.deployments]\n{CHAT} = {{ model = \"{CHAT}\" }}\n\
             {EMBEDDINGS} = {{ model = \"{EMBEDDINGS}\" }}\n",
            self.simulator(name).url(),
            key_of(name),
        )
    }

    /// Writes the file of a region.
    pub fn open(&self, name: &str) {
        self.write(&file_of(name), &self.region(name));
    }

    /// Removes the file of a region.
    pub fn close(&self, name: &str) {
        std::fs::remove_file(self.settings().join(file_of(name))).unwrap();
    }

    /// Writes a file of the settings as editors do, whole.
    pub fn write(&self, file: &str, text: &str) {
        let draft = self.folder.path().join("draft");
        std::fs::write(&draft, text).unwrap();
        std::fs::rename(draft, self.settings().join(file)).unwrap();
    }

    /// From now on with this server beside its own journal.
    pub fn share(&self, url: &str) {
        let settings = format!("[database]\nurl = \"{url}\"\n[accounting]\njournal = \"journal.db\"\n");
        self.write("90-shared.toml", &settings);
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn settings(&self) -> PathBuf {
        self.folder.path().join("settings")
    }

    /// A key without limits, made by the command.
    pub fn add_key(&self, name: &str) -> String {
        let limits = ["--rpm", "unlimited", "--tpm", "unlimited", "--concurrency", "unlimited"];
        let made = self.run(&[&["keys", "add", name, "--json"][..], &limits].concat());
        let key: Value = serde_json::from_slice(&made.stdout).unwrap();
        key["secret"].as_str().unwrap().to_owned()
    }

    /// Runs a command that must end well.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Output {
        let output = self.command(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output
    }

    /// Runs what may turn out to be a gateway that serves; gives its exit code and what it said on stderr.
    #[track_caller]
    pub fn run_to_its_end(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let mut command = self.command(arguments);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = Process(command.spawn().unwrap());
        let code = eventually(|| match process.0.try_wait().unwrap() {
            Some(status) => Ok(status.code()),
            None => Err(format!("{arguments:?} goes on running")),
        });
        (code, std::io::read_to_string(process.0.stderr.take().unwrap()).unwrap())
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aoai-gateway"));
        command.arg("--settings").arg(self.settings()).args(arguments);
        command.current_dir(self.folder.path()).env_remove("RUST_LOG").stdin(Stdio::null());
        command
    }

    pub fn regions(&self) -> impl Iterator<Item = Control> {
        self.simulators.iter().map(|(_, simulator)| simulator.control())
    }

    pub fn control(&self, name: &str) -> Control {
        self.simulator(name).control()
    }

    fn simulator(&self, name: &str) -> &Simulator {
        self.simulators.iter().find(|(known, _)| known == name).map(|(_, simulator)| simulator).unwrap()
    }

    /// Starts a gateway and waits until it says that it is ready.
    pub fn start(&self) -> Gateway {
        let gateway = self.start_with(|_| ());
        let ready = gateway.get("/readyz", "");
        assert_eq!(ready.status, 200, "{}", ready.text());
        Gateway { ready: gateway.began.elapsed(), ..gateway }
    }

    /// Starts a gateway and waits until it serves, ready or not. `change` has the last word on its environment.
    pub fn start_with(&self, change: impl FnOnce(&mut Command)) -> Gateway {
        let mut command = self.command(&["serve", "--listen", "127.0.0.1:0", "--log", "json"]);
        change(&mut command);
        Gateway::run(command)
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

    pub fn database(&self) -> PathBuf {
        self.folder.path().join("gateway.db")
    }

    pub fn store(&self) -> Store {
        Store::existing(&self.database(), Durability::Process).unwrap()
    }
}

/// What a region is called with.
pub fn key_of(region: &str) -> String {
    format!("key-of-{region}")
}

pub fn file_of(region: &str) -> String {
    format!("20-{region}.toml")
}

/// Hands on what a process says, line by line.
fn follow(pipe: impl Read + Send + 'static, told: Sender<String>) {
    std::thread::spawn(move || {
        // A line that a kill tore apart is of no interest.
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            let _ = told.send(line);
        }
    });
}

/// Killed when it is dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running gateway.
pub struct Gateway {
    process: Process,
    pub address: SocketAddr,
    log: Receiver<String>,
    /// All it said so far, on either stream.
    said: Vec<String>,
    began: Instant,
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
    /// Runs what serves and logs JSON, and waits until it says so.
    pub fn run(mut command: Command) -> Self {
        let began = Instant::now();
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = Process(command.spawn().unwrap());
        let (told, lines) = channel();
        follow(process.0.stderr.take().unwrap(), told.clone());
        follow(process.0.stdout.take().unwrap(), told);
        let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let mut gateway = Gateway { process, address, log: lines, said: Vec::new(), began, ready: Duration::ZERO };
        let serving = gateway.says(|line| line["message"] == "serving");
        gateway.address = serving["address"].as_str().unwrap().parse().unwrap();
        gateway
    }

    /// Waits for a log line that has not been waited for yet.
    #[track_caller]
    pub fn says(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        let left = || deadline.saturating_duration_since(Instant::now());
        while let Ok(line) = self.log.recv_timeout(left()) {
            let told: Value = serde_json::from_str(&line).unwrap_or_default();
            self.said.push(line);
            if wanted(&told) {
                return told;
            }
        }
        panic!("it did not say so ({:?}): {}", self.process.0.try_wait(), self.said.join("\n"));
    }

    /// All it has said so far.
    pub fn said(&mut self) -> &[String] {
        self.said.extend(self.log.try_iter());
        &self.said
    }

    pub fn client(&self) -> Client {
        Client::connect(self.address)
    }

    #[track_caller]
    pub fn get(&self, path: &str, lines: &str) -> Answer {
        self.client().send(get(path, lines)).answer()
    }

    /// A chat request with this key.
    #[track_caller]
    pub fn chat(&self, key: &str, body: &str) -> Answer {
        let line = format!("authorization: Bearer {key}\r\n");
        self.client().send(post("/v1/chat/completions", &line, body.as_bytes())).answer()
    }

    /// SIGKILL, and the end of it.
    pub fn kill(mut self) {
        self.process.0.kill().unwrap();
        self.process.0.wait().unwrap();
    }

    pub fn signal(&self, name: &str) {
        let command = format!("kill -{name} {}", self.process.0.id());
        assert!(Command::new("sh").args(["-c", &command]).status().unwrap().success());
    }

    /// Waits for the end that a signal asked for.
    pub fn ended(self) -> Ended {
        self.last_words().0
    }

    /// As `ended`, with all it ever said.
    pub fn last_words(mut self) -> (Ended, Vec<String>) {
        let deadline = Instant::now() + PATIENCE;
        let (mut errors, mut in_flight) = (Vec::new(), None);
        loop {
            match self.log.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    let told: Value = serde_json::from_str(&line).unwrap_or_default();
                    in_flight = told["in_flight"].as_u64().or(in_flight);
                    if told["level"] == "ERROR" {
                        errors.push(line.clone());
                    }
                    self.said.push(line);
                }
                // The log ends with the process.
                Err(RecvTimeoutError::Disconnected) => {
                    let code = self.process.0.wait().unwrap().code();
                    return (Ended { code, errors, in_flight }, self.said);
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

    /// As the admin.
    #[track_caller]
    pub fn admin(&self, path: &str) -> Answer {
        self.get(path, &format!("authorization: Bearer {ADMIN_KEY}\r\n"))
    }

    /// Requests that are open in the database, as the admin plane tells.
    pub fn open_rows(&self) -> usize {
        let rows = self.admin("/admin/v1/requests?state=open&limit=200").expect(200);
        rows.json()["data"].as_array().unwrap().len()
    }

    /// A metric; labels are part of its name.
    #[track_caller]
    pub fn metric(&self, name: &str) -> f64 {
        let answer = self.admin("/metrics").expect(200);
        let line = answer.text().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {}", answer.text())).parse().unwrap()
    }

    /// Memory in bytes, under its name in `/proc/PID/status`.
    pub fn memory(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.0.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }
}
