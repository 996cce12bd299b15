//! The operator's view of what runs, and the operator's hand on it.

mod check;
mod commands;
mod explained;
mod reloads;
mod resources;
mod testing;

use std::time::Duration;

use aoai_gateway::fleet::pool::Reload;
use aoai_gateway::settings::model::Settings;
use serde_json::Value;

use crate::support::fake_azure::Reply;
use crate::support::gateway::{TestGateway, eventually, wait};

fn throttled(milliseconds: u32) -> Reply {
    Reply::json(429, "{}").with_header(&format!("retry-after-ms: {milliseconds}"))
}

/// A resource as the admin plane shows it.
#[track_caller]
fn resource(gateway: &TestGateway, name: &str) -> Value {
    gateway.admin("GET", &format!("/resources/{name}"), "").expect(200).json()
}

/// Its only deployment, when that is as wanted: what a lease reports, its owner hears a moment later.
#[track_caller]
fn deployment(gateway: &TestGateway, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    eventually(|| match resource(gateway, name)["deployments"][0].take() {
        deployment if wanted(&deployment) => Ok(deployment),
        deployment => Err(format!("not as wanted: {deployment}")),
    })
}

/// Puts other settings in force, as a changed file would.
fn reload(gateway: &TestGateway, change: impl FnOnce(&mut Settings)) {
    let mut settings = Settings::clone(&gateway.house.settings());
    change(&mut settings);
    let settings = std::sync::Arc::new(settings);
    wait(gateway.house.pool.send(Reload(settings.clone()))).unwrap();
    gateway.house.replace_settings(settings);
}

/// How far ahead a moment of the admin plane lies.
#[track_caller]
fn ahead(time: &Value) -> Duration {
    let time: jiff::Timestamp = time.as_str().unwrap_or_else(|| panic!("{time} is no time")).parse().unwrap();
    let now = aoai_gateway::domain::time::wall_now().0;
    Duration::from_micros(u64::try_from(time.as_microsecond() - now).expect("the moment has passed"))
}
