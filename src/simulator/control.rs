//! The controls of a running resource from inside the process. The HTTP control plane offers the same.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::faults::Fault;
use super::identity::TokenCall;
use super::journal::{Entry, Sums};
use super::knobs::Knobs;
use super::realtime::SessionEnd;
use super::state::Shared;
use crate::domain::time;

/// Faults, knobs and the journal of one resource; cheap to clone.
#[derive(Clone)]
pub struct Control {
    shared: Arc<Shared>,
}

impl Control {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Puts a fault in force and gives its number.
    pub fn inject(&self, fault: Fault) -> u64 {
        self.shared.faults().inject(fault, time::now())
    }

    /// Ends one fault; false when it had ended already.
    pub fn remove(&self, id: u64) -> bool {
        self.shared.faults().remove(id)
    }

    /// Ends all faults.
    pub fn heal(&self) {
        self.shared.faults().heal(None);
    }

    pub fn knobs(&self) -> Knobs {
        self.shared.knobs().clone()
    }

    /// Counts for requests that arrive from now on.
    pub fn set_knobs(&self, knobs: Knobs) {
        *self.shared.knobs() = knobs;
    }

    /// Requests for access tokens, refused ones too, in their order.
    pub fn token_calls(&self) -> Vec<TokenCall> {
        self.shared.tokens.calls()
    }

    /// No token that was given out so far is accepted any more.
    pub fn revoke_tokens(&self) {
        self.shared.tokens.revoke();
    }

    /// All entries, those of unfinished requests too. A client can have its last byte a moment before the entry is
    /// finished: wait for [`Control::idle`] before comparing.
    pub fn journal(&self) -> Vec<Entry> {
        self.journal_since(0)
    }

    /// Entries with a higher sequence.
    pub fn journal_since(&self, sequence: u64) -> Vec<Entry> {
        self.shared.journal.since(sequence)
    }

    /// By deployment, as it was asked for.
    pub fn sums(&self) -> BTreeMap<String, Sums> {
        self.shared.journal.sums()
    }

    pub fn clear_journal(&self) {
        self.shared.journal.clear();
    }

    /// Realtime sessions that are open.
    pub fn sessions(&self) -> usize {
        self.shared.sessions.count()
    }

    /// Ends up to so many of them, the oldest first; gives how many it were.
    pub fn end_sessions(&self, most: usize, how: SessionEnd) -> usize {
        self.shared.sessions.end(most, how)
    }

    /// Requests that are being answered (or left hanging).
    pub fn in_flight(&self) -> usize {
        self.shared.journal.open()
    }

    /// Waits until no request is being answered.
    pub async fn idle(&self) {
        self.shared.journal.idle().await;
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").field("resource", &self.shared.resource.name).finish_non_exhaustive()
    }
}
