//! The gateway between OpenAI-API clients and Azure OpenAI.

pub mod accounting;
pub mod azure;
pub mod balance;
pub mod cli;
pub mod domain;
pub mod fleet;
pub mod limits;
pub mod metrics;
pub mod openai;
pub mod proxy;
pub mod router;
pub mod settings;
pub mod simulator;
pub mod storage;
pub mod tripwire;
pub mod upstream;
