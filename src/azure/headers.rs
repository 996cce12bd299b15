//! When a throttled deployment may be asked again.
//!
//! Azure names the time in up to three ways; `x-ratelimit-reset-*` has no dependable unit and is not read here.
//! Source: <https://learn.microsoft.com/azure/ai-foundry/openai/how-to/quota>, and RFC 9110 section 10.2.3.

use std::time::Duration;

/// What Azure asked for is followed within these bounds: a `retry-after: 86400` must not cost a region for a day.
pub const SHORTEST_COOLDOWN: Duration = Duration::from_millis(200);
pub const LONGEST_COOLDOWN: Duration = Duration::from_secs(120);

/// Reads `retry-after-ms`, then `retry-after` in seconds, then the sentence "retry after N second" of the message.
/// Nothing usable is `None`. HTTP dates are not read: they need a clock, and Azure sends none.
pub fn retry_after(retry_after_ms: Option<&str>, retry_after: Option<&str>, message: &[u8]) -> Option<Duration> {
    let number = |text: &str| text.trim().parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0);
    let milliseconds = retry_after_ms.and_then(number);
    let seconds = || retry_after.and_then(number).or_else(|| seconds_in(message));
    let wanted = milliseconds.or_else(|| seconds().map(|seconds| seconds * 1000.0))?;
    let bounded = wanted.min(LONGEST_COOLDOWN.as_millis() as f64);
    Some(Duration::from_millis(bounded.ceil() as u64).max(SHORTEST_COOLDOWN))
}

/// The N of "Please retry after N second(s)".
fn seconds_in(message: &[u8]) -> Option<f64> {
    const LEAD: &[u8] = b"retry after ";
    let at = memchr::memmem::find(message, LEAD)? + LEAD.len();
    let digits: Vec<u8> = message[at..].iter().copied().take_while(u8::is_ascii_digit).take(9).collect();
    std::str::from_utf8(&digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(ms: Option<&str>, seconds: Option<&str>, message: &str) -> Option<u128> {
        retry_after(ms, seconds, message.as_bytes()).map(|wait| wait.as_millis())
    }

    #[test]
    fn the_most_exact_word_wins_within_bounds() {
        assert_eq!(read(Some("2000"), Some("9"), ""), Some(2000));
        assert_eq!(read(None, Some("9"), "Please retry after 7 seconds."), Some(9000));
        assert_eq!(read(None, None, "rate limit. Please retry after 7 seconds. Please go"), Some(7000));
        assert_eq!(read(Some("0"), None, ""), Some(200));
        assert_eq!(read(None, Some("86400"), ""), Some(120_000));
        assert_eq!(read(None, Some("1e300"), ""), Some(120_000));
        assert_eq!(read(None, Some("0.5"), ""), Some(500));
    }

    #[test]
    fn garbage_says_nothing() {
        for garbage in ["-5", "NaN", "inf", "soon", "", "Wed, 21 Oct 2026 07:28:00 GMT"] {
            assert_eq!(read(None, Some(garbage), ""), None, "{garbage}");
            assert_eq!(read(Some(garbage), Some("1"), ""), Some(1000), "{garbage}");
        }
        assert_eq!(read(None, None, "retry after x"), None);
    }
}
