//! Azure's quota as the gateway models it: regions that admit as Azure does hardly ever have to say 429.
//!
//! The regions are simulated with Azure's admission rule (slices of 1 s and 10 s and the minute for requests, an
//! estimate at arrival for tokens). Their journals tell what they had to refuse.

mod causes;
mod load;

use std::sync::Arc;

use aoai_gateway::domain::time;
use aoai_gateway::fleet::deployment::Deployment;
use aoai_gateway::simulator::{
    Fault, FaultKind, Knobs, ResetUnit, SimulatedDeployment, SimulatedResource, Simulator, Sku,
};

use crate::support::answers::answered;
use crate::support::client::Answer;
use crate::support::fake_azure::{FakeAzure, Reply, Script};
use crate::support::gateway::{AZURE_KEY, DEPLOYMENT, MODEL, TestGateway, eventually, simulate, wait};

/// A region with one deployment of the model and these limits per minute.
fn region(name: &str, tpm: u64, rpm: u64) -> Simulator {
    start(name, SimulatedDeployment::new(DEPLOYMENT, MODEL).with_limits(tpm, rpm), Knobs::default())
}

fn start(name: &str, deployment: SimulatedDeployment, knobs: Knobs) -> Simulator {
    let knobs = Knobs { output_tokens: 4, ..knobs };
    let resource = SimulatedResource::new(name).with_deployment(deployment);
    simulate(SimulatedResource { api_key: AZURE_KEY.to_owned(), knobs, ..resource })
}

/// A question that is admitted as some 20 tokens of prompt and so many of output.
fn question(max_tokens: u32) -> String {
    format!(
        r#"{{"model":"{MODEL}","max_tokens":{max_tokens},"messages":[{{"role":"user","content":"Name a colour."}}]}}"#
    )
}

/// How many requests reached a region, and how many of them it refused.
fn seen(simulator: &Simulator) -> (usize, usize) {
    wait(simulator.control().idle());
    let journal = simulator.control().journal();
    (journal.len(), journal.iter().filter(|entry| entry.status == 429).count())
}

fn only_deployment(gateway: &TestGateway) -> Arc<Deployment> {
    gateway.table().model(MODEL).unwrap().deployments().next().unwrap().clone()
}

fn token_limit(gateway: &TestGateway) -> Option<u64> {
    only_deployment(gateway).quota.standing(time::now()).limit_tokens
}

#[track_caller]
fn refused(answer: Answer) -> u64 {
    let answer = answer.expect(429);
    assert_eq!(answer.code(), "upstream_exhausted");
    answer.header("retry-after-ms").unwrap().parse().unwrap()
}

#[test]
fn a_learned_limit_refuses_before_azure_does_and_says_for_how_long() {
    let azure = region("only", 2_000, 60_000);
    let gateway = TestGateway::before(azure.addr());
    gateway.chat(&question(900)).expect(200);
    assert_eq!(token_limit(&gateway), Some(2_000));
    gateway.chat(&question(900)).expect(200);
    let told = refused(gateway.chat(&question(900)));
    assert!((55_000..=61_000).contains(&told), "the minute slides: {told} ms");
    gateway.chat(&question(20)).expect(200);
    assert_eq!(seen(&azure), (3, 0));
    let metrics = gateway.get("/metrics").expect(200);
    let line = format!("aoai_gateway_upstream_tokens_limit{{deployment=\"{DEPLOYMENT}\",resource=\"east\"}} 2000");
    assert!(metrics.text().contains(&line), "{}", metrics.text());
}

#[test]
fn a_cap_that_nobody_asked_for_is_not_counted() {
    let azure = region("only", 1_000, 60_000);
    let gateway = TestGateway::before(azure.addr());
    let uncapped = question(7).replace("\"max_tokens\":7,", "");
    for _ in 0..20 {
        gateway.chat(&uncapped).expect(200);
    }
    assert_eq!(seen(&azure), (20, 0), "the settings assume 4,096 tokens of output, Azure none");
}

#[test]
fn settings_are_a_start_and_azure_knows_better() {
    let azure = region("only", 5_000, 60_000);
    let gateway = TestGateway::with(|estate| {
        let only = estate.azure("east", azure.addr());
        only.deployments.values_mut().for_each(|deployment| deployment.tpm = Some(1_000_000));
    });
    assert_eq!(token_limit(&gateway), Some(1_000_000));
    gateway.chat(&question(4_000)).expect(200);
    assert_eq!(token_limit(&gateway), Some(5_000));
    refused(gateway.chat(&question(2_000)));
    assert_eq!(seen(&azure), (1, 0));
}

#[test]
fn a_limit_that_shrinks_is_followed_at_the_next_answer() {
    let azure = region("only", 10_000, 60_000);
    let gateway = TestGateway::before(azure.addr());
    gateway.chat(&question(500)).expect(200);
    let fault = azure.control().inject(Fault::new(FaultKind::Shrink { factor: 0.5 }));
    gateway.chat(&question(500)).expect(200);
    assert_eq!(token_limit(&gateway), Some(5_000));
    // 4,000 are left, in pieces of a little over 500.
    let served = (0..12).filter(|_| gateway.chat(&question(500)).status == 200).count();
    assert_eq!((served, seen(&azure)), (7, (9, 0)));
    azure.control().remove(fault);
    gateway.chat(&question(20)).expect(200);
    assert_eq!(token_limit(&gateway), Some(10_000), "and back");
    gateway.chat(&question(3_000)).expect(200);
}

#[test]
fn figures_that_are_not_reported_bound_nothing() {
    let deployment = SimulatedDeployment::new(DEPLOYMENT, MODEL).with_limits(100_000, 60_000);
    let azure = start("only", deployment, Knobs { reset_unit: ResetUnit::MinusOne, ..Knobs::default() });
    let gateway = TestGateway::before(azure.addr());
    for _ in 0..5 {
        gateway.chat(&question(16_000)).expect(200);
    }
    assert_eq!(token_limit(&gateway), None);
    assert!(!gateway.get("/metrics").text().contains("upstream_tokens_limit{"));
}

#[test]
fn what_never_reached_azure_takes_no_quota() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = listener.local_addr().unwrap();
    drop(listener);
    let gateway = TestGateway::with(|estate| {
        let only = estate.azure("east", closed);
        only.deployments.values_mut().for_each(|deployment| deployment.tpm = Some(1_000));
    });
    for _ in 0..2 {
        gateway.chat(&question(900)).expect(503);
    }
    assert_eq!(only_deployment(&gateway).quota.standing(time::now()).used_tokens, 0);
}

#[test]
fn provisioned_capacity_is_used_first_and_spills_before_it_says_429() {
    const REQUESTS: usize = 60;
    // 100 tokens a second: the bucket holds ten seconds' worth, ten of these requests.
    let sku = Sku::Provisioned { input_tpm: 6_000, output_weight: 1 };
    let provisioned = start("first", SimulatedDeployment::new(DEPLOYMENT, MODEL).with_sku(sku), Knobs::default());
    let standard = region("second", 1_000_000, 60_000);
    let gateway = TestGateway::with(|estate| {
        estate.tier(0, "first", provisioned.addr());
        estate.tier(1, "second", standard.addr());
    });
    // All of it prompt, so that Azure has nothing to correct when an answer ends.
    let long = question(1).replace("Name a colour.", &"Name a colour. ".repeat(27));
    for _ in 0..REQUESTS {
        gateway.chat(&long).expect(200);
    }
    let ((first, throttled), (second, _)) = (seen(&provisioned), seen(&standard));
    println!("{first} at the provisioned one, {throttled} of them refused, {second} spilled");
    assert_eq!(first + second, REQUESTS + throttled);
    assert!(throttled <= 1 && (8..30).contains(&first), "{first} at the provisioned one, {throttled} refused");
}

#[test]
fn a_drained_bucket_takes_traffic_again() {
    let sku = Sku::Provisioned { input_tpm: 60_000, output_weight: 1 };
    let provisioned = start("first", SimulatedDeployment::new(DEPLOYMENT, MODEL).with_sku(sku), Knobs::default());
    let gateway = TestGateway::before(provisioned.addr());
    // A prompt that fills the bucket at once: nothing is corrected when it ends.
    let long = question(1).replace("Name a colour.", &"Name a colour. ".repeat(2_760));
    gateway.chat(&long).expect(200);
    let told = refused(gateway.chat(&question(1)));
    assert!((1..2_500).contains(&told), "{told} ms");
    eventually(|| match gateway.chat(&question(1)).status {
        200 => Ok(()),
        status => Err(format!("still {status}")),
    });
    assert_eq!(seen(&provisioned), (2, 0), "nobody had to be refused by Azure");
}

/// What a request that is answered so takes of the quota, when no figure comes with the answer.
#[track_caller]
fn taken(path: &str, body: &str, reply: Reply, status: u16) -> u64 {
    let azure = FakeAzure::start(Script::always(reply));
    let gateway = TestGateway::with(|estate| {
        let only = estate.azure("east", azure.address());
        only.deployments.values_mut().for_each(|deployment| deployment.tpm = Some(1_000_000));
    });
    gateway.post(path, body).expect(status);
    only_deployment(&gateway).quota.standing(time::now()).used_tokens
}

#[test]
fn every_completion_that_is_generated_is_part_of_the_estimate() {
    let chat = "/v1/chat/completions";
    let one = taken(chat, &question(500), answered(), 200);
    let three = taken(chat, &question(500).replacen('{', r#"{"n":3,"#, 1), answered(), 200);
    assert!((500..600).contains(&one) && (1_500..1_600).contains(&three), "{one} and {three}");
    let body = format!(r#"{{"model":"{MODEL}","prompt":"a","max_tokens":500,"n":2,"best_of":4}}"#);
    let best = taken("/v1/completions", &body, answered(), 200);
    assert!((2_000..2_100).contains(&best), "{best}");
}

#[test]
fn what_azure_refused_as_the_clients_own_stays_counted() {
    let refusal = r#"{"error":{"code":"context_length_exceeded","message":"x"}}"#;
    let taken = taken("/v1/chat/completions", &question(500), Reply::json(400, refusal), 400);
    assert!((500..600).contains(&taken), "Azure may have counted it: {taken}");
}

#[test]
fn a_figure_that_counts_ten_seconds_does_not_look_like_a_minute_that_is_nearly_full() {
    let reply = |left: usize| {
        answered()
            .with_header("x-ratelimit-limit-requests: 120")
            .with_header(&format!("x-ratelimit-remaining-requests: {left}"))
    };
    let azure = FakeAzure::start(Script::each(move |request| reply(20 - request.index.min(20))));
    let gateway = TestGateway::before(azure.address());
    gateway.chat(&question(5)).expect(200);
    gateway.chat(&question(5)).expect(200);
    let standing = only_deployment(&gateway).quota.standing(time::now());
    assert_eq!((standing.limit_requests, standing.used_requests), (Some(120), 2));
}
