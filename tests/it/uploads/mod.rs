//! Forms pass from client to upstream as they come: audio, images, files.

mod flow;
mod memory;
mod models;

use aoai_gateway::simulator::{SimulatedDeployment, SimulatedResource, Simulator};

use crate::objects::{form, post_form};
use crate::support::client::Answer;
use crate::support::gateway::{AZURE_KEY, DEPLOYMENT, TestGateway, simulate};

pub fn region(name: &str) -> Simulator {
    simulate(SimulatedResource {
        api_key: AZURE_KEY.to_owned(),
        deployments: vec![SimulatedDeployment::new(DEPLOYMENT, "gpt-4o-transcribe")],
        ..SimulatedResource::new(name)
    })
}

pub fn transcribe(gateway: &TestGateway, path: &str, parts: &[(&str, Option<&str>, &[u8])]) -> Answer {
    gateway.client().send(post_form(path, &gateway.bearer(), &form(parts))).answer()
}
