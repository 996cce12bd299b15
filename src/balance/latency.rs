//! Peak-EWMA of the time to first byte: it rises to a slow answer at once and forgets it over seconds.
//!
//! The idea is Finagle's and linkerd's: <https://linkerd.io/2016/03/16/beyond-round-robin-load-balancing-for-latency/>

use std::time::Duration;

use crate::domain::time::Timestamp;

/// After this long, an old sample weighs about a third.
const DECAY: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PeakEwma {
    nanoseconds: f64,
    updated: Timestamp,
}

impl PeakEwma {
    pub fn add(&mut self, sample: Duration, now: Timestamp) {
        let sample = sample.as_nanos() as f64;
        self.nanoseconds = if self.nanoseconds == 0.0 || sample > self.nanoseconds {
            sample
        } else {
            let keep = (-now.since(self.updated).as_secs_f64() / DECAY.as_secs_f64()).exp();
            self.nanoseconds * keep + sample * (1.0 - keep)
        };
        self.updated = now;
    }

    /// Zero until the first sample.
    pub fn value(&self) -> Duration {
        Duration::from_nanos(self.nanoseconds as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_at_once_and_forgets_slowly() {
        let mut latency = PeakEwma::default();
        let at = |seconds| Timestamp::ZERO.after(Duration::from_secs(seconds));
        latency.add(Duration::from_millis(100), at(0));
        latency.add(Duration::from_secs(3), at(1));
        assert_eq!(latency.value(), Duration::from_secs(3));
        latency.add(Duration::from_millis(100), at(1));
        assert!(latency.value() > Duration::from_millis(2_900), "one good sample at once forgives little");
        latency.add(Duration::from_millis(100), at(40));
        assert!(latency.value() < Duration::from_millis(300));
    }
}
