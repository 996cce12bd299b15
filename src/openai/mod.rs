//! The clients' protocol, pure: what is read of a request or an answer, and the few spans of it that are changed.
//!
//! Every other byte passes as it came. Nothing here knows Azure, I/O, a clock or an actor.

pub mod answer;
pub mod bound;
pub mod edits;
pub mod envelope;
pub mod error;
pub mod json;
pub mod kept;
pub mod multipart;
pub mod objects;
pub mod prefix;
pub mod probe;
pub mod realtime;
pub mod rename;
pub mod request;
pub mod responses;
pub mod shape;
pub mod sockets;
pub mod sse;
pub mod tokens;
pub mod usage;
