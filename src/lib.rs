//! The gateway between OpenAI-API clients and Azure OpenAI.

pub mod domain;
pub mod tripwire;
pub mod metrics;
pub mod openai;
pub mod azure;
pub mod balance;
pub mod settings;
pub mod storage;
pub mod limits;
pub mod fleet;
pub mod router;
pub mod accounting;
pub mod upstream;
pub mod proxy;
pub mod http;
pub mod simulator;
pub mod cli;
pub mod server;
