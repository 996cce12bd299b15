//! Everything Azure OpenAI does that OpenAI does not, and nothing else. Pure: no I/O, no clock, no actor.
//!
//! What differs: two URL families and their versions (`endpoint`), how a request is addressed and authorised
//! (`request`), how an identity gets its tokens (`entra`), what the headers say about quota (`headers`), why a 429 came
//! (`throttle`), where realtime sessions are (`realtime`), what an answer means for the deployment (`reply`), and what its regions are called (`regions`).

pub mod endpoint;
pub mod entra;
pub mod headers;
pub mod objects;
pub mod realtime;
pub mod regions;
pub mod reply;
pub mod request;
pub mod throttle;
