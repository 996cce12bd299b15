//! Waiting, refusals, fallbacks and reasons of keys that are limited to some regions.

use std::time::{Duration, Instant};

use aoai_gateway::domain::ids::{DeploymentName, ModelName};
use aoai_gateway::settings::model::{Deployment, Model};
use serde_json::json;

use super::ask;
use crate::support::answers::{QUESTION, answered};
use crate::support::client::post;
use crate::support::fake_azure::{FakeAzure, Gate, Reply, Script};
use crate::support::gateway::{MODEL, TestGateway, eventually};

const OTHER: &str = "gpt-4.1-mini";

fn fake(reply: Reply) -> FakeAzure {
    FakeAzure::start(Script::always(reply))
}

fn throttled(milliseconds: u32) -> Reply {
    Reply::json(429, "{}").with_header(&format!("retry-after-ms: {milliseconds}"))
}

fn eu_key(gateway: &TestGateway) -> String {
    gateway.new_key(json!({ "regions": ["swedencentral"] })).1
}

#[test]
fn who_waits_for_a_region_holds_up_nobody_who_may_use_others() {
    let gate = Gate::default();
    let (sweden, america) = (fake(answered().after_gate(&gate)), fake(answered()));
    let gateway = TestGateway::with(|estate| {
        estate.0.routing.max_wait = Duration::from_secs(30);
        let resource = estate.tier(0, "sweden", sweden.address());
        resource.region = Some("swedencentral".into());
        resource.deployments.values_mut().for_each(|deployment| deployment.max_in_flight = Some(1));
        estate.tier(1, "america", america.address()).region = Some("eastus2".into());
    });
    let key = eu_key(&gateway);
    let send = || {
        let mut client = gateway.client();
        let lines = format!("authorization: Bearer {key}\r\n");
        client.send(post("/v1/chat/completions", &lines, QUESTION.as_bytes()));
        client
    };
    let mut served = send();
    sweden.wait_for(|seen| seen.requests.len() == 1);
    let mut waits = send();
    eventually(|| match gateway.house.waiting.taken() {
        1 => Ok(()),
        taken => Err(format!("{taken} wait")),
    });
    for _ in 0..5 {
        gateway.chat(QUESTION).expect(200);
    }
    assert_eq!((sweden.requests().len(), america.requests().len()), (1, 5));
    gate.open();
    served.answer().expect(200);
    waits.answer().expect(200);
    assert_eq!((sweden.requests().len(), america.requests().len()), (2, 5));
}

#[test]
fn a_refusal_tells_when_the_own_regions_come_back() {
    let (sweden, america) = (fake(throttled(20_000)), fake(throttled(1_000)));
    let gateway = TestGateway::with(|estate| {
        estate.azure("sweden", sweden.address()).region = Some("swedencentral".into());
        estate.azure("america", america.address()).region = Some("eastus2".into());
    });
    let key = eu_key(&gateway);
    let told = |answer: crate::support::client::Answer| -> u64 {
        answer.expect(429).header("retry-after-ms").unwrap().parse().unwrap()
    };
    let began = Instant::now();
    let own = told(ask(&gateway, &key, QUESTION));
    assert!((15_000..=20_250).contains(&own) && america.requests().is_empty(), "{own}");
    let any = told(gateway.chat(QUESTION));
    assert!(any <= 1_050 && america.requests().len() == 1, "{any}");
    let still = told(ask(&gateway, &key, QUESTION));
    let passed = u64::try_from(began.elapsed().as_millis()).unwrap();
    assert!(still + passed >= 20_000 && sweden.requests().len() == 1, "{still}");
}

#[test]
fn a_fallback_in_another_region_is_none() {
    let (sweden, america) = (fake(Reply::json(500, "{}")), fake(answered()));
    let gateway = TestGateway::with(|estate| {
        estate.azure("sweden", sweden.address()).region = Some("swedencentral".into());
        let deployment = Deployment { model: ModelName::from(OTHER), ..estate.deployment() };
        let resource = estate.azure("america", america.address());
        resource.region = Some("eastus2".into());
        resource.deployments = [(DeploymentName::from("other-one"), deployment)].into();
        let asked = Model { fallback: vec![ModelName::from(OTHER)], ..Model::default() };
        estate.0.models.extend([(ModelName::from(MODEL), asked), (ModelName::from(OTHER), Model::default())]);
    });
    let key = eu_key(&gateway);
    assert_eq!(ask(&gateway, &key, QUESTION).expect(503).code(), "upstream_unavailable");
    assert!(america.requests().is_empty());
    gateway.chat(QUESTION).expect(200);
    assert_eq!(america.requests().len(), 1);
}

#[test]
fn the_reason_stands_in_the_decision() {
    let (sweden, america) = (fake(answered()), fake(answered()));
    let gateway = TestGateway::with(|estate| {
        estate.tier(1, "sweden", sweden.address()).region = Some("Sweden Central".into());
        estate.tier(0, "america", america.address()).region = Some("eastus2".into());
        estate.tier(0, "nowhere", america.address());
    });
    let key = eu_key(&gateway);
    ask(&gateway, &key, QUESTION).expect(200);
    gateway.settle();
    let id = gateway.row().id;
    let request = gateway.admin("GET", &format!("/requests/{id}"), "").expect(200).json();
    let decision = &request["attempts"][0]["decision"]["passed_over"];
    let reasons: Vec<_> = decision.as_array().unwrap().iter().map(|one| &one["reason"]).collect();
    assert_eq!(reasons, ["region_not_allowed", "region_not_allowed"], "{request}");
    // With nobody else to ask, that is the whole answer.
    gateway.admin("POST", "/resources/sweden/drain", "").expect(200);
    assert_eq!(ask(&gateway, &key, QUESTION).expect(503).code(), "upstream_unavailable");
    assert!(america.requests().is_empty());
}
