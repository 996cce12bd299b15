//! Whose fault a failed attempt was: the deployment's, unless it is plainly somebody else's.
//!
//! It only takes blame away. What is the client's own never counts as a fault in the first place (`Outcome::Rejected`).

use std::time::Duration;

use crate::domain::outcome::{Fault, Outcome};

/// Failures alike, after which the next one speaks against the request.
const ALIKE: usize = 2;
/// A timer that fires so much later than it was set for was not looked at: the answer may have been there.
const LATENESS: Duration = Duration::from_millis(500);

/// Whether the request itself is the suspect: two deployments before have failed on it in the same way.
pub fn is_suspect(before: &[Outcome], outcome: Outcome) -> bool {
    let tells = matches!(outcome, Outcome::Faulted(Fault::Status(_) | Fault::Truncated | Fault::InvalidResponse));
    tells && before.iter().filter(|earlier| **earlier == outcome).count() >= ALIKE
}

/// Whether a timeout was our own lateness: the process was stopped or starved while it waited, and `took` much longer
/// than its `patience`.
pub fn is_our_lateness(outcome: Outcome, took: Duration, patience: Duration) -> bool {
    let by_time = matches!(outcome, Outcome::Faulted(Fault::FirstByteTimeout | Fault::Stalled | Fault::Connect));
    by_time && took > patience + LATENESS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_fails_alike_everywhere_is_the_suspect() {
        let (five, cut) = (Outcome::Faulted(Fault::Status(500)), Outcome::Faulted(Fault::Truncated));
        let refused = Outcome::Faulted(Fault::Connect);
        assert!(is_suspect(&[five, five], five) && is_suspect(&[cut, five, cut], cut));
        assert!(!is_suspect(&[five, cut], five) && !is_suspect(&[], five));
        assert!(!is_suspect(&[refused; 3], refused), "no request breaks a connection that it was never sent on");
    }

    #[test]
    fn a_timeout_that_was_noticed_much_too_late_is_ours() {
        let second = Duration::from_secs(1);
        let late = |fault| is_our_lateness(Outcome::Faulted(fault), second * 5, second);
        assert!(late(Fault::FirstByteTimeout) && late(Fault::Stalled) && late(Fault::Connect));
        assert!(!late(Fault::Status(504)) && !late(Fault::Truncated));
        let timeout = Outcome::Faulted(Fault::FirstByteTimeout);
        assert!(!is_our_lateness(timeout, second + Duration::from_millis(300), second));
        assert!(!is_our_lateness(Outcome::Served, second * 5, second));
    }
}
