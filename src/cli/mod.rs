//! The command line: one file a subcommand.

pub mod keys;
pub mod print;
pub mod usage;
pub mod verify;
