//! The HTTP surface: what stands between a socket and the house.
//!
//! `listener` accepts connections and bounds what each may cost; `dispatch` looks the path up in the one table of
//! `routes` and adds what every answer carries; `error` alone turns refusals into statuses.

mod account;
pub mod admin;
pub mod admins;
mod affinity;
pub mod alarm;
pub mod auth;
pub mod background;
pub mod body;
pub mod client_address;
pub mod connection;
pub mod cors;
pub mod dispatch;
pub mod error;
pub mod events;
mod forms;
pub mod guesses;
mod guests;
mod handshake;
pub mod inference;
pub mod listener;
pub mod models;
mod moderations;
mod objects;
pub mod openapi;
pub mod ops;
mod outlet;
pub mod pages;
pub mod phase;
pub mod pins;
mod realtime;
mod responses;
pub mod routes;
pub mod sockets;
pub mod state;
mod upload;
