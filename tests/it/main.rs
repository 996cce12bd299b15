//! The one integration-test binary, by theme.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on should say where")]
#![allow(clippy::disallowed_methods, reason = "tests measure real time and start real processes")]

mod container;
mod crash;
mod edge;
mod sdk;
mod tidy;
mod upstream;

pub mod support;
