//! What the themes share.

#![allow(clippy::unwrap_used, reason = "helpers of tests; a panic is the report")]
pub mod answers;
pub mod client;
pub mod exchange;
pub mod fake_azure;
pub mod gateway;
pub mod identity;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod report;
mod script;
#[cfg(target_os = "linux")]
pub mod shim;
pub mod sqlite;
pub mod tries;
pub mod websocket;

/// How much a test does, where the environment asks for more than is done every time (`make crash`).
pub fn variable<T: std::str::FromStr>(name: &str, otherwise: T) -> T {
    std::env::var(name)
        .ok()
        .map_or(Ok(otherwise), |text| text.parse())
        .unwrap_or_else(|_| panic!("{name} is no number"))
}
