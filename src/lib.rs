//! `aoai-gateway` stands between every OpenAI-API client and many Azure OpenAI resources.
//!
//! # The life of a request
//!
//! 1. [`http::listener`] accepts the connection and bounds what it may cost; [`http::dispatch`] looks its path up in
//!    [`http::routes`].
//! 2. [`http::auth`] finds the [`limits::Caller`] by the hash of its key, in memory. The caller's limits admit it, or
//!    say when to come back. Only then is the body read, under byte and time caps ([`http::body`]).
//! 3. [`openai::request::peek`] reads the few members that are acted on; they become a [`domain::demand::Demand`], with
//!    what brings a long prompt back to where it is cached ([`balance::affinity`]).
//!    What the request may cost at most is reserved with the caller's limits and quotas; the [`limits::Admission`] that
//!    comes of it is what books are opened with.
//! 4. [`accounting::recorder`] takes the request into the ledger: from here on it ends in exactly one settled row.
//! 5. [`proxy::exchange`] asks the worker's [`router`] for a [`fleet::lease::Lease`], sends the request through
//!    [`upstream::client`], and lets [`azure::reply`] judge the head. While nothing has gone to the client, a failure is
//!    only a reason to ask another deployment; why each one was asked or passed over, [`router::decisions`] can tell.
//! 6. A whole answer is settled and sent. A stream is handed to [`proxy::relay`]: bytes through, usage watched, the
//!    settlement committed before the last byte.
//!    What the upstream keeps of an answer (a stored response) is filed with its place before the client learns the id
//!    ([`storage::pins`]); what refers to it later may go to that resource only ([`domain::demand::Demand::pin`]).
//!    Files, batches, threads and forms take a shorter way, [`proxy::errand`]: what they are is known by
//!    [`openai::objects`], where they go by the ids that they name; nothing of a long form is gathered
//!    ([`proxy::upload`]).
//!    Where a client asks over a WebSocket, each of its responses goes this way as if it had been posted
//!    ([`http::sockets`]); realtime sessions alone have an upstream of their own ([`proxy::websocket`]).
//! 7. The lease tells the deployment's owner ([`fleet::resource`]) how it went; nobody waits for that.
//!
//! # Floors
//!
//! A module imports only from modules above it in this list; a test enforces it. Pure floors (no actor, no I/O, no
//! clock): [`domain`], [`openai`], [`azure`], [`balance`]. Actors own state ([`fleet`], [`accounting`]) and publish what
//! requests read.
//!
//! # Invariants
//!
//! - A lease is settled exactly once; outside the closed state a deployment is asked by one request at a time.
//! - Nothing is sent upstream without an admission, and what it reserved ends as the truth or is given back.
//! - What is admitted is settled exactly once, before its last byte is sent, whatever is killed.
//! - What is settled is linked to what was settled before it; `verify` ([`storage::verify`]) names what was changed since.
//! - An upstream answer reaches the client whole or is visibly cut; it never reaches another client.
//! - A key that is limited to regions is served from nowhere else: every choice asks
//!   [`fleet::deployment::Deployment::may_serve`].
//! - A client's credential never travels upstream, a resource's never downstream, and neither is logged.
//! - A vital actor that dies takes the process down ([`tripwire`]); the next start recovers.
//! - Settings with a mistake never take effect.

pub mod accounting;
pub mod azure;
pub mod balance;
pub mod cli;
pub mod compat;
pub mod domain;
pub mod fleet;
pub mod http;
pub mod limits;
pub mod metrics;
pub mod openai;
pub mod proxy;
pub mod router;
pub mod server;
pub mod settings;
pub mod simulator;
pub mod storage;
pub mod tripwire;
pub mod upstream;
