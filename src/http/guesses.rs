//! How often an address may be wrong about the admin key before it has to wait.
//!
//! Each address has a handful of tries, which come back one by one; a right key costs none. While an address has none
//! left, nothing it sends is compared. The table is bounded: with more addresses than it holds, those that have most
//! tries left are forgotten. It decides nothing about callers' keys, whose 190 random bits nobody guesses.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::domain::time::Timestamp;

/// Wrong keys in a row.
const TRIES: u32 = 20;
/// A try comes back after this.
const PACE: Duration = Duration::from_secs(3);
const MOST_ADDRESSES: usize = 4096;

#[derive(Debug, Default)]
pub struct Guesses {
    /// When all tries of an address are back.
    whole_at: Mutex<HashMap<IpAddr, Timestamp>>,
}

impl Guesses {
    /// How long the address has to wait before it may try; zero: it may.
    pub fn wait(&self, address: IpAddr, now: Timestamp) -> Duration {
        let table = self.whole_at.lock().unwrap_or_else(PoisonError::into_inner);
        let spent = table.get(&place(address)).map_or(Duration::ZERO, |whole_at| whole_at.since(now));
        // The last try comes back when all but one are missing.
        spent.saturating_sub(PACE * (TRIES - 1))
    }

    /// It was wrong.
    pub fn failed(&self, address: IpAddr, now: Timestamp) {
        let mut table = self.whole_at.lock().unwrap_or_else(PoisonError::into_inner);
        let place = place(address);
        if table.len() >= MOST_ADDRESSES && !table.contains_key(&place) {
            table.retain(|_, whole_at| *whole_at > now);
            if table.len() >= MOST_ADDRESSES {
                let least = table.iter().min_by_key(|(_, whole_at)| **whole_at).map(|(place, _)| *place);
                least.map(|least| table.remove(&least));
            }
        }
        let whole_at = table.entry(place).or_insert(now);
        *whole_at = (*whole_at).max(now).after(PACE);
    }
}

/// Whoever has one IPv6 address has its whole network of 64 bits.
fn place(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => std::net::Ipv6Addr::from(u128::from(address) & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp(1_000_000_000_000);

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn tries_run_out_and_come_back_one_by_one() {
        let (guesses, here) = (Guesses::default(), address("192.0.2.1"));
        for n in 0..TRIES {
            assert_eq!(guesses.wait(here, START), Duration::ZERO, "after {n}");
            guesses.failed(here, START);
        }
        assert_eq!(guesses.wait(here, START), PACE);
        assert_eq!(guesses.wait(address("192.0.2.2"), START), Duration::ZERO);
        let later = START.after(PACE);
        assert_eq!(guesses.wait(here, later), Duration::ZERO);
        guesses.failed(here, later);
        assert_eq!(guesses.wait(here, later), PACE, "one came back, and one is gone");
        assert_eq!(guesses.wait(here, later.after(PACE * TRIES)), Duration::ZERO);
    }

    #[test]
    fn a_network_of_ipv6_is_one_place_and_a_mapped_address_is_the_same() {
        let guesses = Guesses::default();
        (0..TRIES).for_each(|n| guesses.failed(address(&format!("2001:db8::{n:x}")), START));
        assert_eq!(guesses.wait(address("2001:db8::ffff"), START), PACE);
        assert_eq!(guesses.wait(address("2001:db8:0:1::1"), START), Duration::ZERO);
        (0..TRIES).for_each(|_| guesses.failed(address("::ffff:192.0.2.1"), START));
        assert_eq!(guesses.wait(address("192.0.2.1"), START), PACE);
    }

    #[test]
    fn many_addresses_do_not_fill_the_memory_or_free_the_worst() {
        let (guesses, worst) = (Guesses::default(), address("192.0.2.1"));
        (0..TRIES).for_each(|_| guesses.failed(worst, START));
        for n in 0..20_000_u32 {
            guesses.failed(IpAddr::V4(n.into()), START);
        }
        assert!(guesses.whole_at.lock().unwrap().len() <= MOST_ADDRESSES);
        assert_eq!(guesses.wait(worst, START), PACE);
    }
}
