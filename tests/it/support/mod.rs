//! What the themes share.

pub mod answers;
pub mod client;
pub mod fake_azure;
pub mod gateway;
pub mod identity;
