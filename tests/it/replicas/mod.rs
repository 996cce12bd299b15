//! Several gateways on one PostgreSQL: what they share, what each keeps to itself, and what they do without it.

mod alarms;
mod asking;
mod away;
mod caps;
mod cut;
mod days;
mod lending;
mod limits;
mod pauses;
mod projection;
mod reading;
mod retention;
mod schema;
mod shared;
#[cfg(not(feature = "bundled-libpq"))]
mod tls;
mod trimming;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use aoai_gateway::domain::secret::Secret;
use aoai_gateway::simulator::{Knobs, SimulatedDeployment, SimulatedResource, Simulator};

use crate::support::client::PATIENCE;
use crate::support::gateway::{
    AZURE_KEY, DEPLOYMENT, Estate, MODEL, TestGateway, eventually, eventually_within, simulate,
};

const CHAT: &str = r#"{"model":"gpt-4o-mini","messages":[{"role":"user","content":"hello"}],"max_tokens":8}"#;
/// A change of keys counts everywhere within this.
const SECOND: Duration = Duration::from_secs(1);

/// A region without limits that could be in the way.
fn region() -> Simulator {
    simulate(SimulatedResource {
        api_key: AZURE_KEY.into(),
        deployments: vec![SimulatedDeployment::new(DEPLOYMENT, MODEL).with_limits(600_000_000, 6_000_000)],
        knobs: Knobs::default(),
        ..SimulatedResource::new("east")
    })
}

/// A gateway on this database, before this region.
fn replica(url: &str, azure: SocketAddr) -> TestGateway {
    TestGateway::with(|estate| on(estate, url, azure))
}

fn on(estate: &mut Estate, url: &str, azure: SocketAddr) {
    estate.0.database.server = Some(Secret::new(url));
    estate.azure("east", azure);
}

/// How long it took until it was so.
#[track_caller]
fn took(look: impl FnMut() -> Result<(), String>) -> Duration {
    let began = Instant::now();
    eventually(look);
    began.elapsed()
}

/// Waits until the shared database has so many requests.
#[track_caller]
fn projected(gateway: &TestGateway, requests: usize) {
    projected_within(PATIENCE, gateway, requests);
}

#[track_caller]
fn projected_within(patience: Duration, gateway: &TestGateway, requests: usize) {
    eventually_within(patience, || match gateway.all_rows().len() {
        rows if rows == requests => Ok(()),
        rows => Err(format!("{rows} requests are in the shared database, not {requests}")),
    });
}
