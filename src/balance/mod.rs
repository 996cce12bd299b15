//! Policy, pure: every decision here is a function of what it is given. `now` and randomness come in as parameters.
//!
//! A deployment that said 429 is left alone for as long as it asked (`health`), and a little longer (`pause`); one that
//! keeps failing, in a row or at a bad rate (`success_rate`), is left alone for a time that doubles; after either, one
//! request at a time probes it. One that answers, and answers worse than its peers, gets a smaller share of its weight
//! (`gray`), and one that has recovered gets its own back slowly (`share`). Among the rest, the lowest tier with a
//! candidate serves. Inside a tier, prompts that Azure may have cached go to where they went before (`affinity`); for the
//! others two weighted draws are compared by load (`select`). What Azure would refuse is not sent: `quota` keeps a model
//! of each deployment's counters that its answers correct. When all are busy, requests wait in a line that is fair among
//! callers (`waiting`). Batch jobs leave a part of each deployment free (`batch`). Whose fault a failure was is told in
//! `blame`, and how many second attempts the known bad ones are worth in `retry_budget`.

pub mod affinity;
pub mod batch;
pub mod blame;
pub mod budget;
pub mod gray;
pub mod health;
pub mod latency;
pub mod pause;
pub mod quota;
pub mod request_window;
pub mod retry_budget;
pub mod select;
pub mod share;
mod slots;
pub mod spacing;
pub mod success_rate;
pub mod token_window;
pub mod utilisation;
pub mod waiting;
