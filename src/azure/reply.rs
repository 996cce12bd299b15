//! What a response head means: for the client, for the next attempt, and for the deployment's health.
//!
//! Source of the classes: <https://learn.microsoft.com/azure/ai-foundry/openai/quotas-limits> and the troubleshooting
//! page beside it.

use std::time::Duration;

use crate::domain::outcome::{Fault, Outcome};
use crate::domain::usage::Charge;

/// A response head, judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// An answer begins; whether it ends well is still open.
    Answer,
    /// The client's own mistake: passed on unchanged, never tried elsewhere (the prompt would be billed again).
    Reject,
    /// Not an answer: try elsewhere.
    Fail(Outcome),
}

/// Judges by status alone, `retry_after` being what the headers of a 429 said.
pub fn classify(status: u16, retry_after: Option<Duration>) -> Verdict {
    match status {
        200..=299 => Verdict::Answer,
        429 => Verdict::Fail(Outcome::Throttled { retry_after }),
        // The deployment's credential, network rules or name are wrong: never the client's 401, 403 or 404.
        401 | 403 | 404 => Verdict::Fail(Outcome::Misconfigured { status }),
        // Timeout, conflicts while a deployment is being moved, a failed dependency behind it, and every 5xx.
        408 | 409 | 423 | 424 | 500..=599 => Verdict::Fail(Outcome::Faulted(Fault::Status(status))),
        400..=499 => Verdict::Reject,
        // Redirects are never followed: the key would go along.
        _ => Verdict::Fail(Outcome::Faulted(Fault::InvalidResponse)),
    }
}

/// What Azure bills for an answer of this status when it reports no usage: nothing for refusals, the prompt for a
/// content filter's 400 and for a timeout, and nobody knows for the rest.
pub fn charge_without_usage(status: u16) -> Charge {
    match status {
        408 | 500..=599 => Charge::Ambiguous,
        _ => Charge::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_one_verdict() {
        for status in 200..600 {
            let verdict = classify(status, None);
            let expected_retry = matches!(status, 300..=399 | 401 | 403 | 404 | 408 | 409 | 423 | 424 | 429 | 500..);
            let retries = matches!(verdict, Verdict::Fail(outcome) if outcome.may_retry());
            assert_eq!(retries, expected_retry, "{status}");
        }
        assert_eq!(classify(400, None), Verdict::Reject);
        assert_eq!(classify(431, None), Verdict::Reject);
    }
}
