//! How many second attempts known bad deployments are worth.
//!
//! A first attempt is always made, and so is another at a deployment that is not known to be bad: a fresh fault costs
//! no budget, and while one deployment works, every request reaches it. What remains is asking one that has just failed
//! others because there is nobody else; in an outage of all that would multiply the calls by `routing.attempts` when
//! nobody needs them. Each request earns a fraction of such an attempt, and what was saved in good times is bounded, so
//! an outage costs at most that fraction on top of the requests themselves.

/// One router's part of the budget: parts add up to the whole, and none is shared.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryBudget {
    /// In attempts.
    balance: f64,
}

/// What there is at first, and for whom few requests come.
const FLOOR: f64 = 3.0;
/// The most that is saved: an outage after a quiet day is an outage.
const MOST: f64 = 10.0;

impl Default for RetryBudget {
    fn default() -> Self {
        Self { balance: FLOOR }
    }
}

impl RetryBudget {
    /// A request came; `fraction` is `routing.retry_budget`, and 0 wants none at all.
    pub fn earn(&mut self, fraction: f64) {
        self.balance = if fraction > 0.0 { (self.balance + fraction).min(MOST) } else { 0.0 };
    }

    /// Whether there is something left for one more attempt.
    pub fn allows(&self) -> bool {
        // A tenth ten times is a little less than one.
        self.balance > 1.0 - 1e-6
    }

    pub fn spend(&mut self) {
        self.balance -= 1.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Second attempts that so many requests get which all want three.
    fn granted(budget: &mut RetryBudget, requests: u32, fraction: f64) -> u32 {
        let mut granted = 0;
        for _ in 0..requests {
            budget.earn(fraction);
            for _ in 0..3 {
                if budget.allows() {
                    budget.spend();
                    granted += 1;
                }
            }
        }
        granted
    }

    #[test]
    fn a_tenth_of_the_requests_and_the_floor() {
        let mut budget = RetryBudget::default();
        assert_eq!(granted(&mut budget, 1_000, 0.1), 103);
        assert_eq!(granted(&mut budget, 1_000, 0.1), 100, "the floor is there once");
        assert_eq!(granted(&mut RetryBudget::default(), 1_000, 0.0), 0);
    }

    #[test]
    fn what_is_saved_is_bounded() {
        let mut budget = RetryBudget::default();
        (0..100_000).for_each(|_| budget.earn(0.1));
        assert_eq!(granted(&mut budget, 9, 0.1), 10);
    }
}
