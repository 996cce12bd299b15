//! The one integration-test binary, by theme.

mod simulator;
