//! How often prompts with a common beginning come, counted by all workers without a lock.
//!
//! What a record says is decided in [`crate::balance::affinity`]. Gateways do not tell each other what they count: each
//! spreads a key by its own part of the key's requests.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::balance::affinity::Record;
use crate::domain::time::Timestamp;

/// Written by the workers as requests come. Two that hash to the same slot take it from each other and are then counted
/// as less than they are, which only costs some hits of the cache.
#[derive(Debug)]
pub struct Heat(Box<[AtomicU64]>);

/// 256 KiB, for about so many conversations in the same minutes.
const SLOTS: u64 = 1 << 15;

impl Default for Heat {
    fn default() -> Self {
        Self((0..SLOTS).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Heat {
    /// Counts a request of what has this hash. `spread` is what its key needs now.
    pub fn count(&self, hash: u64, spread: u8, now: Timestamp) -> Record {
        // Both are reduced to what is kept of them, from opposite ends of the hash.
        let (slot, tag) = ((hash % SLOTS) as usize, (hash >> 48) as u16);
        let Some(slot) = self.0.get(slot) else { return Record::default() };
        let mut seen = slot.load(Relaxed);
        loop {
            let next = Record(seen).counted(tag, spread, now);
            match slot.compare_exchange_weak(seen, next.0, Relaxed, Relaxed) {
                Ok(_) => return next,
                Err(other) => seen = other,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn no_request_is_lost_between_threads_and_others_do_not_count() {
        let (heat, now) = (Heat::default(), Timestamp::ZERO.after(Duration::from_secs(60)));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..30).fold(Record::default(), |_, _| heat.count(7, 1, now)));
            }
        });
        assert_eq!(heat.count(7, 1, now).fills(now), 9, "121 in a minute");
        assert_eq!(heat.count(8, 1, now).fills(now), 1);
        assert_eq!(heat.count(7 | 1 << 60, 3, now).spread(), 3, "another one in the same slot");
    }
}
