//! For those who hold a caller longer than a request does: how long it is good for, and word of changes.
//!
//! A session asks again when it is told that the table of callers is another, and when the time of its own has come; in
//! between it need not look. Nothing here is on the path of a request.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::{Caller, Callers};
use crate::domain::time::WallTime;

/// A caller who may call now.
#[derive(Debug)]
pub struct Usable {
    pub caller: Arc<Caller>,
    /// When that ends, unless something changes before: a key expires, or the grace of a replaced secret is over.
    pub until: Option<WallTime>,
}

impl Usable {
    pub fn of(caller: Arc<Caller>) -> Self {
        let until = caller.grant.expires_at;
        Self { caller, until }
    }

    pub(super) fn at_most_until(self, end: WallTime) -> Self {
        let until = Some(self.until.map_or(end, |until| until.min(end)));
        Self { until, ..self }
    }

    /// For how long, as things stand; a very long time when there is no end to it.
    pub fn left(&self, now: WallTime) -> Duration {
        self.until.map_or(Duration::MAX, |until| until.since(now))
    }
}

impl Callers {
    /// Wakes its holder whenever the keys, their limits or the rules of admission may be other ones.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Said after the change, so that who is woken by it finds it.
    pub fn tell_of_change(&self) {
        self.changes.send_replace(());
    }
}
