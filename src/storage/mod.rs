//! All SQL of the house. [`Store`] is the only door to the database; each file asks one kind of question.
//!
//! Everything here blocks: callers on a worker thread go through a blocking pool, and the ledger has a thread of its
//! own. Only bound parameters: no statement is ever put together from text that came from outside.

pub mod admin_keys;
pub mod audit;
mod backup;
mod ballast;
mod cells;
mod chain;
mod chains;
mod connection;
mod content;
mod copy;
mod error;
pub mod folding;
mod group;
pub mod idempotency;
mod intent_log;
mod journal;
pub mod key_changes;
pub mod keys;
pub mod leases;
pub mod ledger;
pub mod legacy;
pub mod legacy_file;
mod listing;
mod lock;
mod meta;
mod migrations;
mod newest;
pub mod objects;
pub mod oneapi_file;
pub mod page;
pub mod pauses;
pub mod pins;
mod place;
mod prices;
mod projection;
mod queue;
mod quota_alarms;
pub mod quotas;
mod recovery;
pub mod replicas;
pub mod requests;
pub mod retention;
pub mod retention_shared;
mod rollups;
mod rows;
mod schema;
pub mod secret_key;
mod spans;
mod spent;
mod statement;
mod store;
mod text;
mod transaction;
pub mod underway;
pub mod usage;
pub mod users;
pub mod verify;
mod verify_shared;

#[cfg(test)]
mod samples;

use std::time::Duration;

pub use ballast::Ballast;
pub use chain::Head;
pub use error::StorageError;
pub use journal::{Checkpoint, Journal};
pub use lock::Served;
pub use place::Place;
pub use projection::{Projection, Replica, Step};
pub use recovery::Bound;
pub use spent::Spent;
pub use store::Store;

/// A span of time as columns hold it.
fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
