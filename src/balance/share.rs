//! How much of its weight a deployment is given, and its slow start after an illness.
//!
//! A deployment that was left alone and works again gets its share back over some seconds: it may have come back with
//! cold caches or half of its machines, and the whole of its traffic at once would be the next failure. A pause that a
//! 429 asked for is no illness and needs no slow start. Why a deployment that answers gets less than its weight is
//! decided in [`super::gray`].

use std::time::Duration;

use crate::domain::time::Timestamp;

/// In thousandths of the weight; at least one of them, so that nobody is forgotten.
pub type Share = u32;

pub const FULL: Share = 1000;

/// From the first share after an illness to the whole one.
const SLOW_START: Duration = Duration::from_secs(10);
/// Enough to be asked now and then from the first moment.
const FIRST: Share = FULL / 10;

/// One share of another.
pub fn product(one: Share, other: Share) -> Share {
    (one * other / FULL).max(1)
}

/// The share of one that recovered at that moment.
pub fn after_recovery(recovered: Timestamp, now: Timestamp) -> Share {
    let since = now.since(recovered);
    if since >= SLOW_START {
        return FULL;
    }
    let gained = f64::from(FULL - FIRST) * since.as_secs_f64() / SLOW_START.as_secs_f64();
    FIRST + gained as Share
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_start_rises_from_a_tenth_to_the_whole() {
        let at = |seconds| Timestamp::ZERO.after(Duration::from_secs(seconds));
        let shares: Vec<_> = (0..=11).map(|second| after_recovery(at(3), at(3 + second))).collect();
        assert_eq!((shares[0], shares[5], shares[10], shares[11]), (FULL / 10, FULL * 55 / 100, FULL, FULL));
        assert!(shares.is_sorted());
    }

    #[test]
    fn shares_of_shares_never_vanish() {
        assert_eq!((product(FULL, FULL), product(FULL, 20), product(500, 500), product(1, 1)), (FULL, 20, 250, 1));
    }
}
