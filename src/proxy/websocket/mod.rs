//! Realtime sessions: a client's WebSocket and one to a deployment, and what passes between them.
//!
//! `handshake` finds the deployment, and may ask several; from the 101 on a session stays where it is, because what was
//! said is kept there. `session` is the relay: messages pass both ways unchanged and no faster than the slower side
//! takes them; `over` says what each end means. `booking` reads what events mean, and `turns` keeps the books of a
//! session's responses: each is a row of the ledger, committed before the event that says what it cost goes to the client.
//! `transcripts` adds what is written down of what the client says.
//! `client` is what actix has read, `outbox` what it polls; sessions of responses, which no upstream holds, use both.
//!
//! The session has a row of its own without tokens, as the handshake is a request like any other. Where a session may go
//! and who may open one is decided above.

mod booking;
pub mod client;
mod handshake;
pub mod outbox;
pub mod over;
mod session;
mod transcripts;
mod turns;

pub use handshake::{Knock, Line, Unopened, connect};
pub use outbox::Reader;
pub use session::{Outside, Start, start};
pub use transcripts::Purpose;
