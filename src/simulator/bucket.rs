//! Whether a provisioned deployment lets a request in: a leaky bucket of utilisation. At 100 % it refuses until it has
//! drained below; otherwise it adds the request's estimate, which is corrected when the call ends. Pure: the time is a
//! parameter.

use std::time::Duration;

use crate::domain::time::Timestamp;

/// Utilisation is judged over this much of the purchased throughput, so a short burst may pass 100 %.
const HORIZON: Duration = Duration::from_secs(10);

/// A bucket in input-token equivalents.
#[derive(Debug)]
pub(super) struct Bucket {
    per_second: f64,
    level: f64,
    drained: Timestamp,
}

impl Bucket {
    pub(super) fn new(input_tpm: u64) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a throughput is far below 2^52")]
        let per_second = (input_tpm as f64 / 60.0).max(f64::MIN_POSITIVE);
        Self { per_second, level: 0.0, drained: Timestamp::ZERO }
    }

    /// Adds the estimate, or says how long the bucket stays full.
    pub(super) fn admit(&mut self, estimate: u64, now: Timestamp) -> Result<(), Duration> {
        self.drain(now);
        let over = self.level - self.capacity();
        if over >= 0.0 {
            let wait = Duration::try_from_secs_f64(over / self.per_second).unwrap_or(HORIZON);
            return Err(wait.max(Duration::from_millis(1)));
        }
        #[expect(clippy::cast_precision_loss, reason = "an estimate is far below 2^52")]
        let estimate = estimate as f64;
        self.level += estimate;
        Ok(())
    }

    /// Replaces an estimate by what the call really used.
    pub(super) fn correct(&mut self, estimate: u64, actual: u64, now: Timestamp) {
        self.drain(now);
        #[expect(clippy::cast_precision_loss, reason = "tokens are far below 2^52")]
        let difference = actual as f64 - estimate as f64;
        self.level = (self.level + difference).max(0.0);
    }

    /// In percent, with one digit.
    pub(super) fn utilisation(&mut self, now: Timestamp) -> String {
        self.drain(now);
        format!("{:.1}%", self.level / self.capacity() * 100.0)
    }

    fn capacity(&self) -> f64 {
        self.per_second * HORIZON.as_secs_f64()
    }

    fn drain(&mut self, now: Timestamp) {
        let drained = now.since(self.drained).as_secs_f64() * self.per_second;
        self.level = (self.level - drained).max(0.0);
        self.drained = self.drained.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Timestamp {
        Timestamp::ZERO.after(Duration::from_millis(milliseconds))
    }

    #[test]
    fn it_fills_refuses_with_the_time_to_drain_and_recovers() {
        let mut bucket = Bucket::new(6_000);
        bucket.admit(1_100, at(0)).unwrap();
        assert_eq!(bucket.utilisation(at(0)), "110.0%");
        assert_eq!(bucket.admit(1, at(0)).unwrap_err(), Duration::from_secs(1));
        assert_eq!(bucket.admit(1, at(500)).unwrap_err(), Duration::from_millis(500));
        bucket.admit(1, at(1_010)).unwrap();
    }

    #[test]
    fn an_estimate_is_corrected_by_the_truth() {
        let mut bucket = Bucket::new(6_000);
        bucket.admit(900, at(0)).unwrap();
        bucket.correct(900, 100, at(0));
        assert_eq!(bucket.utilisation(at(0)), "10.0%");
        bucket.correct(900, 0, at(0));
        assert_eq!(bucket.utilisation(at(0)), "0.0%");
    }
}
