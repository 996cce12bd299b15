//! What the balancer achieves over real sockets, in figures: unequal deployments near their limits, overload, faults.
//!
//! Every test here runs in a short form that fails when the promise is broken, and, with `SCENARIOS=full`, for as long
//! as the figures need to mean something (`make scenarios`, which gathers them in `docs/scenarios.md`). The simulated
//! regions are the judges: what they journal is compared with what clients saw.

mod faults;
mod load;
mod overload;
mod unequal;

use std::time::Duration;

/// How long a scenario takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Short,
    Full,
}

impl Form {
    fn asked_for() -> Self {
        match std::env::var("SCENARIOS").as_deref() {
            Ok("full") => Self::Full,
            Ok(other) => panic!("SCENARIOS is {other:?}; it may only be \"full\""),
            Err(_) => Self::Short,
        }
    }

    fn of<T>(self, short: T, full: T) -> T {
        match self {
            Self::Short => short,
            Self::Full => full,
        }
    }
}

fn percent(part: f64, whole: f64) -> String {
    format!("{:.2} %", 100.0 * part / whole)
}

fn milliseconds(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
}
