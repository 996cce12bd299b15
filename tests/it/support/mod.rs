//! What the themes share.

pub mod fake_azure;
pub mod identity;
