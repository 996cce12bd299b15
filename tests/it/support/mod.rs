//! What the themes share.

#![allow(clippy::unwrap_used, reason = "helpers of tests; a panic is the report")]

pub mod exchange;
pub mod fake_azure;
pub mod identity;
mod script;
