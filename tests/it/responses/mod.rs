//! The Responses API, and what it leaves behind: a response is kept by the resource that made it, and whatever refers to
//! it goes there.

mod background;
mod compact;
mod conversations;
mod failing;
mod follow_up;
mod items;
mod kept;
mod pins;
mod replicas;
mod sealed;
mod serving;
mod wire;

use aoai_gateway::simulator::{Entry, Knobs, SimulatedDeployment, SimulatedResource, Simulator};
use serde_json::{Value, json};

use crate::support::client::{Answer, Client};
use crate::support::gateway::{AZURE_KEY, DEPLOYMENT, MODEL, TestGateway, simulate, wait};

const PATH: &str = "/v1/responses";

/// A region whose deployment is not called as its model is.
pub fn region(name: &str) -> Simulator {
    paced(name, 0)
}

pub fn paced(name: &str, token_ms: u64) -> Simulator {
    let deployment = SimulatedDeployment::new(DEPLOYMENT, MODEL).with_limits(600_000_000, 6_000_000);
    simulate(SimulatedResource {
        api_key: AZURE_KEY.to_owned(),
        deployments: vec![deployment],
        knobs: Knobs { token_ms, ..Knobs::default() },
        ..SimulatedResource::new(name)
    })
}

/// The journal, once nothing is being answered.
pub fn journal(region: &Simulator) -> Vec<Entry> {
    let control = region.control();
    wait(async { control.idle().await });
    region.control().journal()
}

fn ask(text: &str) -> Value {
    json!({"model": MODEL, "input": text})
}

fn streamed(text: &str) -> Value {
    json!({"model": MODEL, "input": text, "stream": true})
}

fn after(previous: &str, text: &str) -> Value {
    json!({"model": MODEL, "input": text, "previous_response_id": previous})
}

/// A response that was created; its id.
#[track_caller]
fn created(gateway: &TestGateway, body: &Value) -> String {
    let answer = gateway.post(PATH, &body.to_string()).expect(200).json();
    answer["id"].as_str().unwrap_or_else(|| panic!("no id in {answer}")).to_owned()
}

/// The data of each event.
#[track_caller]
fn events(answer: &Answer) -> Vec<Value> {
    let data =
        answer.text().split("\n\n").filter_map(|event| event.lines().find_map(|line| line.strip_prefix("data: ")));
    data.map(|data| serde_json::from_str(data).unwrap_or_else(|error| panic!("{error} in {data}"))).collect()
}

/// A request without a body.
fn bare(gateway: &TestGateway, method: &str, path: &str, key: &str) -> Answer {
    let head = format!("{method} {path} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {key}\r\n");
    Client::connect(gateway.address).send(format!("{head}content-length: 0\r\n\r\n")).answer()
}

/// Everything that can be asked of a kept response.
const KEPT: [(&str, &str); 4] = [("GET", ""), ("GET", "/input_items"), ("POST", "/cancel"), ("DELETE", "")];
