//! In the place of five older proxies: the environment and the files of their documentation in a clean folder, and the
//! answers that their documentation promises. Only the Azure behind it is a simulated one, reached as an operator would
//! override an endpoint.

mod azure_openai_proxy;
mod azure_proxy;
mod cf_worker;
mod chat_azure;
mod chatazure;
mod import;
mod libli_chat;
mod recognised;
mod translated;
mod typewriter;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use aoai_gateway::simulator::{SimulatedDeployment, SimulatedResource, Simulator};
use diesel::connection::SimpleConnection;

use super::support::client::{Answer, get};
use super::support::gateway::simulate;
use super::support::process::Gateway;
use super::support::sqlite;

/// What Azure is called with.
const AZURE_KEY: &str = "0123456789abcdef0123456789abcdef";
const HELLO: &str = r#"{"model":"gpt-3.5-turbo","messages":[{"role":"user","content":"Hello!"}]}"#;

/// A folder as a container has it, and the Azure behind it.
struct Place {
    folder: tempfile::TempDir,
    azure: Simulator,
}

impl Place {
    /// With these deployments.
    fn with(deployments: &[&str]) -> Self {
        let deployments = deployments
            .iter()
            .map(|name| SimulatedDeployment::new(name, "gpt-4o-mini").with_limits(600_000_000, 6_000_000))
            .collect();
        Self::of(deployments)
    }

    fn of(deployments: Vec<SimulatedDeployment>) -> Self {
        let resource =
            SimulatedResource { api_key: AZURE_KEY.to_owned(), deployments, ..SimulatedResource::new("contoso") };
        Self { folder: tempfile::tempdir().unwrap(), azure: simulate(resource) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    /// Runs a command in the folder, with nothing in its environment but this.
    fn command(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aoai-gateway"));
        command.args(arguments).env_clear().envs(variables.iter().copied());
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }

    fn output(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
        self.command(arguments, variables).output().unwrap()
    }

    /// Starts it as its container would, but on a free port and before the simulated Azure.
    fn start(&self, variables: &[(&str, &str)]) -> Gateway {
        self.start_with(&[], variables)
    }

    fn start_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Gateway {
        let mut command = self.command(arguments, variables);
        command.args(["--log", "json"]);
        command.env("GATEWAY__SERVER__LISTEN", "127.0.0.1:0");
        command.env("GATEWAY__RESOURCES__CONTOSO__ENDPOINT", self.azure.url());
        Gateway::run(command)
    }

    /// As somebody with `sqlite3` would.
    fn sql(&self, file: &str, statement: &str) {
        sql(&self.path(file), statement);
    }
}

fn sql(file: &Path, statement: &str) {
    sqlite::connect(file).batch_execute(statement).unwrap();
}

/// As `curl -d` sends it: a form, by its content type.
fn curl(gateway: &Gateway, path: &str, lines: &str, body: &str) -> Answer {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: gateway\r\nuser-agent: curl/8\r\naccept: */*\r\n\
         content-type: application/x-www-form-urlencoded\r\n{lines}content-length: {}\r\n\r\n{body}",
        body.len()
    );
    gateway.client().send(head).answer()
}

/// A chat request with this `Authorization`, or none.
fn chat(gateway: &Gateway, authorization: &str, body: &str) -> Answer {
    let line = if authorization.is_empty() { String::new() } else { format!("authorization: {authorization}\r\n") };
    curl(gateway, "/v1/chat/completions", &line, body)
}

fn fetch(gateway: &Gateway, path: &str) -> Answer {
    gateway.client().send(get(path, "")).answer()
}

#[track_caller]
fn says(answer: &Answer, status: u16, text: &str) {
    assert_eq!((answer.status, answer.text()), (status, text));
    assert!(answer.header("x-request-id").is_some(), "{:?}", answer.headers);
}

/// Names of models in a list.
fn ids(answer: &Answer) -> Vec<String> {
    let list = answer.json();
    list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap().to_owned()).collect()
}
