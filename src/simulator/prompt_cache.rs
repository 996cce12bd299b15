//! How much of a prompt a deployment has seen lately: from 1,024 tokens on, in steps of 128. Azure discounts those
//! tokens, and the affinity of a gateway can be measured by them. Prefixes are kept as hashes only.
//!
//! A deployment is more than one machine, each with a cache of its own. Requests with the same first 256 tokens and the
//! same key go to one of them until there are more than 15 a minute; the next 15 go to the next machine.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};
use std::time::Duration;

use crate::domain::time::Timestamp;

const FIRST_TOKENS: usize = 1_024;
const STEP_TOKENS: usize = 128;
const BYTES_PER_TOKEN: usize = 4;
const LIFETIME: Duration = Duration::from_secs(600);
const ROUTED_TOKENS: usize = 256;
const MACHINE_TAKES: u32 = 15;
const MINUTE: Duration = Duration::from_secs(60);
/// Forgetting all of it at this size costs a few misses and keeps the memory flat.
const MOST_PREFIXES: usize = 100_000;

#[derive(Debug, Default)]
pub(super) struct PromptCache {
    seen: HashMap<u64, Timestamp>,
    /// When a minute of requests began that start alike, and how many there have been in it.
    rates: HashMap<u64, (Timestamp, u32)>,
}

impl PromptCache {
    /// Cached tokens of this prompt; from now on it is cached itself.
    pub(super) fn look_up(&mut self, key: &str, prompt: &str, now: Timestamp) -> u64 {
        let bytes = prompt.as_bytes();
        if bytes.len() < FIRST_TOKENS * BYTES_PER_TOKEN {
            return 0;
        }
        if self.seen.len() > MOST_PREFIXES {
            self.seen.clear();
            self.rates.clear();
        }
        let mut hasher = DefaultHasher::new();
        hasher.write(key.as_bytes());
        hasher.write(&bytes[..ROUTED_TOKENS * BYTES_PER_TOKEN]);
        hasher.write_u32(self.machine(hasher.finish(), now));
        let (first, rest) = bytes.split_at(FIRST_TOKENS * BYTES_PER_TOKEN);
        let steps = std::iter::once(first).chain(rest.chunks_exact(STEP_TOKENS * BYTES_PER_TOKEN));
        let (mut cached, mut tokens, mut unbroken) = (0, 0, true);
        for step in steps {
            hasher.write(step);
            tokens += step.len() / BYTES_PER_TOKEN;
            let last = self.seen.insert(hasher.finish(), now);
            unbroken &= last.is_some_and(|last| now.since(last) < LIFETIME);
            if unbroken {
                cached = tokens;
            }
        }
        u64::try_from(cached).unwrap_or_default()
    }

    fn machine(&mut self, start: u64, now: Timestamp) -> u32 {
        let (began, count) = self.rates.entry(start).or_insert((now, 0));
        if now.since(*began) >= MINUTE {
            (*began, *count) = (now, 0);
        }
        *count += 1;
        (*count - 1) / MACHINE_TAKES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::ZERO.after(Duration::from_secs(seconds))
    }

    #[test]
    fn a_shared_prefix_is_cached_in_steps_until_it_is_forgotten() {
        let mut cache = PromptCache::default();
        let prompt = |shared: usize, own: &str| "x".repeat(shared * 4) + &own.repeat(400 * 4);
        assert_eq!(cache.look_up("", &prompt(1_300, "a"), at(0)), 0);
        assert_eq!(cache.look_up("", &prompt(1_300, "b"), at(1)), 1_280);
        assert_eq!(cache.look_up("other key", &prompt(1_300, "b"), at(1)), 0);
        assert_eq!(cache.look_up("", &prompt(1_300, "c"), at(602)), 0);
        assert_eq!(cache.look_up("", &"x".repeat(4_095), at(602)), 0);
    }

    #[test]
    fn a_hot_prefix_is_spread_over_machines_that_know_nothing_of_each_other() {
        let mut cache = PromptCache::default();
        let prompt = "x".repeat(2_048 * 4);
        let cached: Vec<_> = (0..32).map(|second| cache.look_up("", &prompt, at(second))).collect();
        let cold: Vec<_> = (0..32).filter(|index| cached[*index] == 0).collect();
        assert_eq!(cold, [0, 15, 30], "{cached:?}");
        assert_eq!(cache.look_up("own key", &prompt, at(33)), 0);
        assert_eq!(cache.look_up("", &prompt, at(70)), 2_048, "a minute later it is the first machine again");
    }
}
