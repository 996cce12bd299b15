//! What the themes share.

<<<<<<< HEAD
#![allow(clippy::unwrap_used, reason = "helpers of tests; a panic is the report")]

pub mod exchange;
=======
pub mod answers;
pub mod client;
>>>>>>> gwtests
pub mod fake_azure;
pub mod gateway;
pub mod identity;
mod script;
