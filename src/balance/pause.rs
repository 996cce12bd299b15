//! How much longer than it asked a deployment is left alone after a 429.
//!
//! Gateways that share a deployment and nothing else meet the same refusal and are told the same moment to come back. A
//! little of chance keeps them from coming back at once. Where even the probe after the pause is refused, others were
//! quicker: there, too many ask for too little, and each comes back ever later, at a moment of its own.

use std::time::Duration;

/// After a first refusal: up to this share of the pause, and this much.
const LITTLE: f64 = 0.05;
const MOST: Duration = Duration::from_millis(250);
/// After so many refused probes the spread does not grow any more.
const DOUBLINGS: u32 = 3;
/// Nobody is left alone for longer, whatever was asked: the clamp of [`crate::azure::throttle`].
const LONGEST: Duration = Duration::from_secs(120);

/// What is added to `pause` when `probes` have been refused in a row; `random` is from 0 to 1.
pub fn extra(pause: Duration, probes: u32, random: f64) -> Duration {
    let most = match probes {
        0 => pause.mul_f64(LITTLE).min(MOST),
        _ => pause * (1 << probes.min(DOUBLINGS)),
    };
    most.mul_f64(random).min(LONGEST.saturating_sub(pause))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_with_the_probes_that_were_refused() {
        let extra = |probes, random| extra(Duration::from_secs(2), probes, random).as_millis();
        assert_eq!([extra(0, 0.0), extra(0, 1.0), extra(1, 0.0)], [0, 100, 0]);
        assert_eq!([1, 2, 3, 4, 99].map(|probes| extra(probes, 1.0)), [4_000, 8_000, 16_000, 16_000, 16_000]);
    }

    #[test]
    fn a_long_pause_stays_what_it_is() {
        for (pause, most) in [(20, Duration::from_millis(250)), (120, Duration::ZERO), (300, Duration::ZERO)] {
            assert_eq!(extra(Duration::from_secs(pause), 0, 1.0), most);
        }
        assert_eq!(extra(Duration::from_secs(50), 2, 1.0), Duration::from_secs(70));
    }
}
