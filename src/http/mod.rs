//! The HTTP surface: what stands between a socket and the house.

pub mod alarm;
pub mod body;
pub mod connection;
pub mod listener;
pub mod phase;
