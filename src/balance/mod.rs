//! Policy, pure: every decision here is a function of what it is given. `now` and randomness come in as parameters.
//!
//! A deployment that said 429 is left alone for as long as it asked (`health`); one that keeps failing is left alone
//! for a time that doubles; after either, one request at a time probes it. Among the rest, the lowest tier with a
//! candidate serves. Inside a tier, prompts that Azure may have cached go to where they went before (`affinity`); for the
//! others two weighted draws are compared by load (`select`). What Azure would refuse is
//! not sent: `quota` keeps a model of each deployment's counters that its answers correct. When all are busy, requests
//! wait in a line that is fair among callers (`waiting`).

pub mod affinity;
pub mod health;
pub mod latency;
pub mod quota;
pub mod request_window;
pub mod select;
mod slots;
pub mod token_window;
pub mod utilisation;
pub mod waiting;
