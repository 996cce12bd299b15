//! The gateway between OpenAI-API clients and Azure OpenAI.

pub mod accounting;
pub mod azure;
pub mod cli;
pub mod domain;
pub mod settings;
pub mod simulator;
pub mod storage;
pub mod tripwire;
pub mod upstream;
