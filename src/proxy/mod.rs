//! The exchange with the upstream, on the worker's thread: who is asked, how often, and what reaches the client.
//!
//! `exchange` is the attempt loop, `tries` what it has met, `attempt` one try at one deployment, `prepare` what it is sent, `hedge` two side by
//! side, `relay` the streamed rest of an answer, `books` what the ledger and the metrics are told, `pipe` what actix polls
//! of a relay, `pace` how quickly a stream came, `leaving` what becomes of a request whose client has left, `read_on` the
//! rest of its answer, `spill` when a refusal is not the client's own, `whereabouts` whether a deployment is where the
//! settings say. `kept` asks a resource for what it keeps of an earlier answer. `errand` sends requests about objects, and
//! forms, to where they belong: `upload` is a form on its way, `passage` an answer that passes as it comes, `unseen` work
//! whose tokens are told afterwards. `background` is responses that go on when their request is answered. `websocket` relays
//! realtime sessions.
//!
//! Until the first byte has gone to the client the upstream may change; after that, never.

pub mod attempt;
pub mod background;
pub mod bell;
pub mod books;
pub mod errand;
pub mod estimate;
pub mod exchange;
pub mod headers;
mod hedge;
mod in_band;
pub mod kept;
pub mod leaving;
mod pace;
mod passage;
pub mod pipe;
mod prepare;
mod read_on;
pub mod relay;
mod room;
pub mod spill;
mod tries;
pub mod typewriter;
pub mod unseen;
pub mod upload;
pub mod websocket;
pub mod whereabouts;
