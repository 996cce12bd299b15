//! The only door to the network: an HTTP/1.1 client that answers every request with its own, whole answer or with an
//! error that says what was sent.
//!
//! `awc` does the HTTP; it is used in [`client`] alone and never sees a name, a certificate, an interim head or a cut
//! answer. Beneath it, from top to bottom: `transport` opens connections (name, address, `tunnel` through a proxy,
//! TLS), `guard` watches every byte of one connection, and `framing` decides what those bytes mean. The middle of a body in
//! chunks that takes its time goes past awc (`guard::tap`).
//!
//! [`websocket`] asks for connections that are not HTTP any more; awc has no part in them.
//!
//! [`credentials`] uses it to keep the access tokens of Entra identities fresh.
//!
//! Retries on other deployments and the meaning of a status code belong to the floors above.

pub mod body;
pub mod client;
pub mod credentials;
pub mod error;
pub mod lines;
pub mod websocket;

mod chunks;
mod dial;
mod dns;
mod framing;
mod guard;
mod head;
mod outgoing;
mod tls;
mod transport;
mod tunnel;
