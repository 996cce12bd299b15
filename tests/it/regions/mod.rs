//! Where a key may be served from (data residency): whatever happens there, nobody else is asked.
//!
//! Asserted from the journals of the simulated regions, not only from what clients were told.

mod faults;
mod keys;
mod lines;

use std::time::Duration;

use aoai_gateway::simulator::{Fault, Knobs, SimulatedDeployment, SimulatedResource, Simulator};
use serde_json::json;

use crate::support::client::{Answer, post};
use crate::support::gateway::{AZURE_KEY, DEPLOYMENT, MODEL, TestGateway, eventually, simulate, wait};

/// Name and label of those in the EU, and of the others: another region, and one that does not say where it is. The
/// others are asked first by whoever may.
const EU: [(&str, &str); 2] = [("sweden", "Sweden Central"), ("germany", "germanywestcentral")];
const OTHERS: [(&str, Option<&str>); 2] = [("america", Some("East US 2")), ("nowhere", None)];

struct Continents {
    gateway: TestGateway,
    eu: Vec<Simulator>,
    others: Vec<Simulator>,
    /// Of a key that is limited to the EU.
    key: String,
}

impl Continents {
    fn new() -> Self {
        let start = |name: &str| {
            let deployment = SimulatedDeployment::new(DEPLOYMENT, MODEL).with_limits(600_000_000, 6_000_000);
            let resource = SimulatedResource::new(name).with_deployment(deployment);
            let knobs = Knobs { output_tokens: 8, ..Knobs::default() };
            simulate(SimulatedResource { api_key: AZURE_KEY.to_owned(), knobs, ..resource })
        };
        let eu: Vec<_> = EU.iter().map(|(name, _)| start(name)).collect();
        let others: Vec<_> = OTHERS.iter().map(|(name, _)| start(name)).collect();
        let gateway = TestGateway::with(|estate| {
            for ((name, label), simulator) in EU.iter().zip(&eu) {
                estate.tier(1, name, simulator.addr()).region = Some((*label).into());
            }
            for ((name, label), simulator) in OTHERS.iter().zip(&others) {
                estate.tier(0, name, simulator.addr()).region = label.map(Into::into);
            }
            let routing = &mut estate.0.routing;
            routing.first_byte_timeout = Duration::from_secs(1);
            routing.response_timeout = Duration::from_secs(1);
            routing.stream_idle_timeout = Duration::from_secs(1);
            routing.cooldown = Duration::from_millis(200);
            routing.max_wait = Duration::from_millis(250);
        });
        let (_, key) = gateway.new_key(json!({ "regions": ["sweden central", "GermanyWestCentral"] }));
        Self { gateway, eu, others, key }
    }

    /// Asks with the key that is limited to the EU.
    fn ask(&self, question: &str) -> Answer {
        ask(&self.gateway, &self.key, question)
    }

    fn spoil(&self, fault: &Fault, regions: &[Simulator]) {
        for region in regions {
            region.control().inject(fault.clone());
        }
    }

    /// How many requests reached the regions outside of the EU.
    fn abroad(&self) -> usize {
        self.others.iter().map(seen).sum()
    }

    /// A key without a limit goes abroad at once: the regions there were well all the time.
    #[track_caller]
    fn others_would_have_served(&self) {
        let before = self.abroad();
        self.gateway.chat(crate::support::answers::QUESTION).expect(200);
        assert_eq!(self.abroad(), before + 1);
    }
}

fn ask(gateway: &TestGateway, key: &str, question: &str) -> Answer {
    let lines = format!("authorization: Bearer {key}\r\n");
    gateway.client().send(post("/v1/chat/completions", &lines, question.as_bytes())).answer()
}

/// How many requests reached a region.
fn seen(simulator: &Simulator) -> usize {
    simulator.control().journal().len()
}

/// Returns when the region answers nobody any more.
fn idle(simulators: &[Simulator]) {
    simulators.iter().for_each(|simulator| wait(simulator.control().idle()));
}

/// Returns when the deployments of a resource take traffic again.
fn well(gateway: &TestGateway, resource: &str) {
    eventually(|| match gateway.admin("GET", &format!("/resources/{resource}"), "").expect(200).json() {
        shown if shown["deployments"][0]["cooldown_until"].is_null() => Ok(()),
        shown => Err(shown.to_string()),
    });
}
