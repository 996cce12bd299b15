//! Deployments that fall ill in every way, and what that costs the requests and the others.

mod gray;
mod hedging;
mod lateness;
mod outage;
mod recovery;

use std::sync::Arc;

use aoai_gateway::fleet::deployment::Deployment;

use crate::support::fake_azure::{FakeAzure, Reply, Script};
use crate::support::gateway::{MODEL, TestGateway};

/// Resources `r0`, `r1`, …, in one tier.
fn side_by_side(azures: &[FakeAzure], change: impl FnOnce(&mut crate::support::gateway::Estate)) -> TestGateway {
    TestGateway::with(|estate| {
        for (index, azure) in azures.iter().enumerate() {
            estate.azure(&format!("r{index}"), azure.address());
        }
        change(estate);
    })
}

fn start(replies: &[Reply]) -> Vec<FakeAzure> {
    replies.iter().map(|reply| FakeAzure::start(Script::always(reply.clone()))).collect()
}

fn failing() -> Reply {
    Reply::json(500, "{}")
}

/// The only deployment of a resource.
fn deployment(gateway: &TestGateway, resource: &str) -> Arc<Deployment> {
    let table = gateway.table();
    let mut all = table.model(MODEL).unwrap().deployments();
    all.find(|deployment| deployment.resource.as_str() == resource).unwrap().clone()
}

/// A metric without labels.
#[track_caller]
fn metric(gateway: &TestGateway, name: &str) -> f64 {
    let answer = gateway.get("/metrics").expect(200);
    let line = answer.text().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
}
