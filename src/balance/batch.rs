//! What batch jobs may have of a deployment: a share of whatever is scarce there, so that the rest is free when a chat
//! comes. It knows nothing of who is a batch job, and nothing of a deployment whose limits nobody knows: there, nothing is
//! scarce.

use super::quota::Standing;

/// What is in use of one deployment, by everyone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InUse {
    pub in_flight: u32,
    pub max_in_flight: Option<u32>,
    pub quota: Standing,
}

impl InUse {
    /// Whether no more than `share` of anything would be in use with one more request of so many tokens. Of an idle
    /// deployment a single request may take more: else a small share would be none.
    pub fn leaves_room(&self, tokens: u64, share: f64) -> bool {
        let fits = |used: u64, more: u64, limit: Option<u64>| {
            used == 0 || limit.is_none_or(|limit| (used.saturating_add(more)) as f64 <= share * limit as f64)
        };
        let Standing { limit_requests, used_requests, limit_tokens, used_tokens, utilisation } = self.quota;
        fits(self.in_flight.into(), 1, self.max_in_flight.map(u64::from))
            && fits(used_requests, 1, limit_requests)
            && fits(used_tokens, tokens, limit_tokens)
            && utilisation.is_none_or(|level| level <= share)
    }

    /// For how many tokens there must be room before a request of so many leaves enough of it.
    pub fn room_wanted(&self, tokens: u64, share: f64) -> u64 {
        match self.quota.limit_tokens {
            None => tokens,
            // A float of a limit is exact far beyond any.
            Some(limit) => tokens.saturating_add((limit as f64 * (1.0 - share)) as u64).min(limit.max(tokens)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(used: u64, limit: u64) -> InUse {
        let quota = Standing { limit_tokens: Some(limit), used_tokens: used, ..Standing::default() };
        InUse { in_flight: 0, max_in_flight: None, quota }
    }

    #[test]
    fn each_of_the_four_can_be_what_is_scarce() {
        let nothing = InUse { in_flight: 900, max_in_flight: None, quota: Standing::default() };
        assert!(nothing.leaves_room(1_000_000, 0.1), "where no limit is known, none is kept free");
        let flying = |in_flight| InUse { in_flight, max_in_flight: Some(8), quota: Standing::default() };
        assert!(flying(3).leaves_room(1, 0.5) && !flying(4).leaves_room(1, 0.5));
        assert!(tokens(400, 1_000).leaves_room(100, 0.5) && !tokens(400, 1_000).leaves_room(101, 0.5));
        let asked = |used_requests| {
            let quota = Standing { limit_requests: Some(60), used_requests, ..Standing::default() };
            InUse { quota, ..nothing }
        };
        assert!(asked(29).leaves_room(1, 0.5) && !asked(30).leaves_room(1, 0.5));
        let filled = |level| InUse { quota: Standing { utilisation: Some(level), ..Standing::default() }, ..nothing };
        assert!(filled(0.5).leaves_room(1, 0.5) && !filled(0.51).leaves_room(1, 0.5));
    }

    #[test]
    fn an_idle_deployment_serves_what_is_larger_than_the_share() {
        let flying = InUse { in_flight: 0, max_in_flight: Some(1), quota: Standing::default() };
        assert!(flying.leaves_room(1, 0.5) && tokens(0, 1_000).leaves_room(900, 0.5));
        assert!(!tokens(1, 1_000).leaves_room(900, 0.5));
    }

    #[test]
    fn there_must_be_room_for_what_is_kept_free_too() {
        assert_eq!(tokens(0, 1_000).room_wanted(100, 0.4), 700);
        assert_eq!(tokens(0, 1_000).room_wanted(900, 0.4), 1_000, "never more than there is");
        assert_eq!(tokens(0, 1_000).room_wanted(2_000, 0.4), 2_000);
        assert_eq!(InUse { in_flight: 0, max_in_flight: None, quota: Standing::default() }.room_wanted(7, 0.4), 7);
    }
}
