//! How much the ledger still takes: the one thing that every worker and the ledger share.
//!
//! A permit is taken when a request is admitted and comes back when its settled row is committed, so that a
//! settlement can never be refused for want of room, and everything unsaved together has a limit.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::domain::time::Timestamp;

/// Requests that may be admitted and not yet settled in the database.
pub const CAPACITY: usize = 65_536;

/// A shorter refusal of the database (a lock, a slow disk) is waited out; after a longer one nobody new is admitted.
const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub struct Permits {
    capacity: usize,
    /// Raised by the workers, lowered by the ledger.
    taken: AtomicUsize,
    /// When the database began to refuse, in nanoseconds; 0: it does not. Written by the ledger.
    failing_since: AtomicU64,
    /// The disk has no room for more than what is in flight. Written by the ledger.
    disk_full: AtomicBool,
    /// The ledger is gone. Written by whoever notices.
    lost: AtomicBool,
    /// No more rows may wait for the shared database. Written by the projector.
    full: AtomicBool,
}

/// Whether more rows may wait for the shared database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    Some,
    None,
}

impl Permits {
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            taken: AtomicUsize::new(0),
            failing_since: AtomicU64::new(0),
            disk_full: AtomicBool::new(false),
            lost: AtomicBool::new(false),
            full: AtomicBool::new(false),
        }
    }

    /// Admitted requests whose settled row is not in the database yet.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// Whether the database has taken what was written lately, or is at least not refusing for long.
    pub fn is_writable(&self, now: Timestamp) -> bool {
        if self.is_lost() || self.is_disk_full() || self.full.load(Ordering::Relaxed) {
            return false;
        }
        match self.failing_since.load(Ordering::Relaxed) {
            0 => true,
            since => now.since(Timestamp(since)) < PATIENCE,
        }
    }

    /// Whether nothing can be settled any more.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// Whether the disk was full and has no room yet.
    pub fn is_disk_full(&self) -> bool {
        self.disk_full.load(Ordering::Relaxed)
    }

    /// Whether the database's latest answer was no.
    pub(super) fn is_refused(&self) -> bool {
        self.failing_since.load(Ordering::Relaxed) != 0
    }

    /// True: it had room before.
    pub(super) fn disk_is_full(&self) -> bool {
        !self.disk_full.swap(true, Ordering::Relaxed)
    }

    pub(super) fn disk_has_room(&self) {
        self.disk_full.store(false, Ordering::Relaxed);
    }

    /// True: taken.
    pub(super) fn take(&self, now: Timestamp) -> bool {
        if !self.is_writable(now) {
            return false;
        }
        // Where no row comes, nothing would give it back.
        if cfg!(feature = "no-books") {
            return true;
        }
        let before = self.taken.fetch_add(1, Ordering::Relaxed);
        if before >= self.capacity {
            self.taken.fetch_sub(1, Ordering::Relaxed);
        }
        before < self.capacity
    }

    pub(super) fn give_back(&self, count: usize) {
        self.taken.fetch_sub(count, Ordering::Relaxed);
    }

    pub(super) fn database_refused(&self, now: Timestamp) {
        let _ = self.failing_since.compare_exchange(0, now.0.max(1), Ordering::Relaxed, Ordering::Relaxed);
    }

    /// For how long it had refused.
    pub(super) fn database_answered(&self, now: Timestamp) -> Option<Duration> {
        match self.failing_since.swap(0, Ordering::Relaxed) {
            0 => None,
            since => Some(now.since(Timestamp(since))),
        }
    }

    pub(super) fn backlog_is(&self, room: Room) {
        self.full.store(room == Room::None, Ordering::Relaxed);
    }

    pub(super) fn ledger_is_lost(&self) {
        self.lost.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1);

    #[test]
    fn no_more_than_the_capacity_is_taken() {
        let permits = Permits::new(2);
        assert!(permits.take(NOW) && permits.take(NOW) && !permits.take(NOW));
        permits.give_back(1);
        assert!(permits.take(NOW) && !permits.take(NOW));
        assert_eq!(permits.taken(), 2);
    }

    #[test]
    fn a_database_that_refuses_for_long_closes_the_door_until_it_answers() {
        let permits = Permits::new(2);
        permits.database_refused(NOW);
        permits.database_refused(NOW.after(PATIENCE));
        assert!(permits.is_writable(NOW.after(PATIENCE / 2)));
        assert!(!permits.take(NOW.after(PATIENCE)));
        assert_eq!(permits.database_answered(NOW.after(PATIENCE)), Some(PATIENCE));
        assert!(permits.take(NOW.after(PATIENCE)));
        assert_eq!(permits.database_answered(NOW.after(PATIENCE)), None);
    }

    #[test]
    fn a_full_disk_closes_the_door_until_there_is_room() {
        let permits = Permits::new(2);
        assert!(permits.disk_is_full() && !permits.disk_is_full());
        assert!(!permits.take(NOW) && !permits.is_lost());
        permits.disk_has_room();
        assert!(permits.take(NOW));
    }

    #[test]
    fn a_full_backlog_closes_the_door_until_there_is_room() {
        let permits = Permits::new(2);
        permits.backlog_is(Room::None);
        assert!(!permits.take(NOW) && !permits.is_writable(NOW));
        permits.backlog_is(Room::Some);
        assert!(permits.take(NOW));
    }

    #[test]
    fn a_lost_ledger_takes_nothing_more() {
        let permits = Permits::new(2);
        permits.ledger_is_lost();
        assert!(!permits.take(NOW));
    }
}
