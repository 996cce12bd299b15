//! Ten unequal deployments, near all they admit, behind three gateways that share nothing.

use std::time::Duration;

use aoai_gateway::simulator::{Knobs, SimulatedDeployment, SimulatedResource, Simulator, Sku};

use super::load::{Ask, Load, question};
use super::{Form, percent};
use crate::support::gateway::{simulate, wait};
use crate::support::process::{CHAT, Estate, Gateway, key_of};
use crate::support::report::Report;

/// Tokens per minute; six requests per minute for each thousand of them.
const STANDARD: [u64; 8] = [1_000, 3_000, 6_000, 10_000, 30_000, 60_000, 100_000, 300_000];
/// Asked first.
const PROVISIONED: [u64; 2] = [40_000, 80_000];
const GATEWAYS: usize = 3;
const LOAD: f64 = 0.95;
/// Of the output; with the prompt 305 tokens on average.
const LONGEST: u32 = 470;
const SHORTEST: u32 = 100;
const PROMPT: u64 = 20;

struct Region {
    name: String,
    priority: u32,
    tpm: u64,
    simulator: Simulator,
}

fn region(name: String, priority: u32, tpm: u64, deployment: SimulatedDeployment) -> Region {
    // Every answer is as long as it may be, so that what is admitted is what is charged.
    let knobs = Knobs { ttft_ms: 150, output_tokens: LONGEST + 1, ..Knobs::default() };
    let resource = SimulatedResource { api_key: key_of(&name), knobs, ..SimulatedResource::new(&name) };
    Region { priority, tpm, simulator: simulate(resource.with_deployment(deployment)), name }
}

fn regions() -> Vec<Region> {
    let standard = STANDARD.iter().map(|tpm| {
        let deployment = SimulatedDeployment::new(CHAT, CHAT).with_limits(*tpm, tpm * 6 / 1000);
        region(format!("standard-{tpm}"), 1, *tpm, deployment)
    });
    let provisioned = PROVISIONED.iter().map(|tpm| {
        let sku = Sku::Provisioned { input_tpm: *tpm, output_weight: 1 };
        region(format!("provisioned-{tpm}"), 0, *tpm, SimulatedDeployment::new(CHAT, CHAT).with_sku(sku))
    });
    provisioned.chain(standard).collect()
}

/// A gateway of its own folder and database that knows where the regions are, and nothing of their limits.
fn gateway(regions: &[Region]) -> (Estate, Gateway) {
    let estate = Estate::of(&[], &Knobs::default(), "[server]\nworkers = 1\n");
    for Region { name, priority, simulator, .. } in regions {
        let text = format!(
            "[resources.{name}]\nendpoint = \"{}\"\napi_key = \"{}\"\npriority = {priority}\n\
             [resources.{name}.deployments]\n{CHAT} = {{ model = \"{CHAT}\" }}\n",
            simulator.url(),
            key_of(name)
        );
        estate.write(&format!("20-{name}.toml"), &text);
    }
    let gateway = estate.start();
    (estate, gateway)
}

#[test]
fn ten_unequal_deployments_behind_three_gateways_give_nearly_all_they_have() {
    let form = Form::asked_for();
    let regions = regions();
    let gateways: Vec<_> = (0..GATEWAYS).map(|_| gateway(&regions)).collect();
    let nominal: u64 = regions.iter().map(|region| region.tpm).sum();
    let each = (f64::from(SHORTEST) + f64::from(LONGEST)) / 2.0 + PROMPT as f64;
    let load = Load {
        per_second: nominal as f64 * LOAD / 60.0 / each,
        lasting: form.of(Duration::from_secs(12), Duration::from_secs(600)),
        at_once: 240,
        seed: 11,
    };
    let doors: Vec<_> = gateways.iter().map(|(estate, gateway)| (gateway.address, estate.key.clone())).collect();
    let samples = load.offer(|number| {
        let (address, key) = doors[number % GATEWAYS].clone();
        let mut random = fastrand::Rng::with_seed(number as u64);
        let body = question(CHAT, random.u32(SHORTEST..=LONGEST));
        Ask { address, key, body }
    });
    let failed = samples.iter().filter(|sample| !sample.is_served()).count();

    let mut report = Report::new(
        "1-unequal.md",
        "Ten unequal deployments, three gateways",
        &format!(
            "Eight standard deployments and two provisioned ones, {nominal} tokens a minute together; {:.0} % of that \
             is offered for {:?} to three gateway processes that share no store and are told no limits.",
            LOAD * 100.0,
            load.lasting
        ),
    );
    report.table(&["deployment", "calls", "answered 429", "tokens served", "of its limit"]);
    let (mut calls, mut throttled, mut tokens) = (0, 0, 0);
    for region in &regions {
        wait(region.simulator.control().idle());
        let journal = region.simulator.control().journal();
        let refused = journal.iter().filter(|entry| entry.status == 429).count();
        let charged: u64 = journal.iter().map(|entry| entry.prompt_tokens + entry.completion_tokens).sum();
        let share = percent(charged as f64, region.tpm as f64 * load.lasting.as_secs_f64() / 60.0);
        report.row([region.name.clone(), journal.len().to_string(), refused.to_string(), charged.to_string(), share]);
        (calls, throttled, tokens) = (calls + journal.len(), throttled + refused, tokens + charged);
    }
    let whole = nominal as f64 * load.lasting.as_secs_f64() / 60.0;
    report.row([
        "all".into(),
        calls.to_string(),
        format!("{throttled} ({})", percent(throttled as f64, calls as f64)),
        tokens.to_string(),
        percent(tokens as f64, whole),
    ]);
    report.text += &format!("\n{} requests, {failed} of them failed for their client.\n", samples.len());
    report.publish();

    let unserved: Vec<_> = samples.iter().filter(|sample| !sample.is_served()).take(5).collect();
    assert_eq!(failed, 0, "{unserved:?}");
    let most = form.of(0.15, 0.01);
    assert!(throttled as f64 <= calls as f64 * most, "{throttled} of {calls} calls were answered 429");
    gateways.into_iter().for_each(|(_, gateway)| gateway.stop());
}
