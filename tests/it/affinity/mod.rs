//! Prompts go where Azure has their beginning in its cache: by `prompt_cache_key`, by the user or session, or by how they
//! begin. The regions are simulated with caches of their own; their journals tell what was found in them.

mod cache;
mod homes;

use aoai_gateway::settings::model::PromptAffinity;
use aoai_gateway::simulator::{Knobs, SimulatedDeployment, SimulatedResource, Simulator};
use serde_json::{Value, json};

use crate::support::client::{Answer, post};
use crate::support::gateway::{AZURE_KEY, DEPLOYMENT, Estate, MODEL, TestGateway, simulate, wait};

const REGIONS: usize = 8;

/// Regions with a deployment each, whose caches are empty.
fn regions(count: usize) -> Vec<Simulator> {
    let region = |number: usize| {
        let deployment = SimulatedDeployment::new(DEPLOYMENT, MODEL).with_limits(1_000_000_000, 10_000_000);
        let resource = SimulatedResource::new(&format!("r{number}")).with_deployment(deployment);
        let knobs = Knobs { output_tokens: 30, ..Knobs::default() };
        simulate(SimulatedResource { api_key: AZURE_KEY.to_owned(), knobs, ..resource })
    };
    (0..count).map(region).collect()
}

/// A gateway before them, that tells who answered.
fn before(regions: &[Simulator], change: impl FnOnce(&mut Estate)) -> TestGateway {
    TestGateway::with(|estate| {
        for (number, region) in regions.iter().enumerate() {
            estate.azure(&format!("r{number}"), region.addr());
        }
        estate.0.server.expose_route = true;
        change(estate);
    })
}

fn without_affinity(estate: &mut Estate) {
    estate.0.routing.affinity = PromptAffinity::Off;
}

/// Words that no other number has: a text of about so many tokens.
fn text(number: usize, tokens: usize) -> String {
    let mut text = String::new();
    let mut state = number as u64 + 1;
    while text.len() < tokens * 4 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text += &format!("{:x} ", state >> 40);
    }
    text
}

/// A chat with these messages, the system's first.
fn chat(messages: &[String]) -> Value {
    let role = |index: usize| if index == 0 { "system" } else { ["assistant", "user"][index % 2] };
    let messages: Vec<_> =
        messages.iter().enumerate().map(|(index, text)| json!({ "role": role(index), "content": text })).collect();
    json!({ "model": MODEL, "messages": messages })
}

/// The region that answered a request of this key with these further headers.
#[track_caller]
fn region_as(gateway: &TestGateway, secret: &str, lines: &str, body: &Value) -> String {
    let lines = format!("authorization: Bearer {secret}\r\n{lines}");
    let request = post("/v1/chat/completions", &lines, body.to_string().as_bytes());
    region_of(&gateway.client().send(request).answer().expect(200))
}

#[track_caller]
fn region(gateway: &TestGateway, body: &Value) -> String {
    region_as(gateway, &gateway.key, "", body)
}

#[track_caller]
fn region_of(answer: &Answer) -> String {
    answer.header("x-gateway-route").unwrap().split('/').next().unwrap().to_owned()
}

/// Prompt tokens of all regions together, and how many of them were cached.
fn tokens(regions: &[Simulator]) -> (u64, u64) {
    regions.iter().fold((0, 0), |(prompt, cached), region| {
        wait(region.control().idle());
        let sums = region.control().sums();
        sums.values()
            .fold((prompt, cached), |(prompt, cached), sum| (prompt + sum.prompt_tokens, cached + sum.cached_tokens))
    })
}
