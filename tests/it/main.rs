//! The one integration-test binary, by theme.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on should say where")]
#![allow(clippy::disallowed_methods, reason = "tests measure real time and start real processes")]

mod admin;
mod affinity;
mod backup;
mod budgets;
mod chat;
mod classes;
mod clock;
mod compat;
mod console;
mod container;
mod crash;
mod dialects;
mod disk;
mod edge;
mod errors;
mod failover;
mod fallback;
mod health;
mod hostile;
mod identity;
mod init;
mod keys;
mod ledger;
mod live;
pub mod moderations;
mod objects;
mod operating;
mod ops;
mod promises;
mod provisioned;
mod quota;
mod realtime;
mod regions;
mod relay;
mod replay;
mod replicas;
mod responses;
mod scenario;
mod scenarios;
mod sdk;
mod settings;
mod simulator;
mod sockets;
mod sound;
mod tidy;
mod uploads;
mod upstream;
mod upstream_connections;
mod upstream_tap;
mod waiting;

pub mod support;
