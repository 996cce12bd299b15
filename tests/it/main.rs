//! The one integration-test binary, by theme.

pub mod support;
mod upstream;
mod upstream_connections;
