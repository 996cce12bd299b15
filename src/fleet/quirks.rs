//! What a deployment has refused although its api-version should take it. Written by the attempt that met the refusal,
//! read by those after it; forgotten after a while, because deployments are moved and servers updated.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::azure::capabilities::Feature;
use crate::domain::time::{self, Timestamp};

/// Until when each is known to be refused; zero = it never was.
#[derive(Debug, Default)]
pub struct Quirks {
    stream_options: AtomicU64,
    max_completion_tokens: AtomicU64,
}

impl Quirks {
    pub fn refuses(&self, feature: Feature) -> bool {
        let until = self.of(feature).map_or(0, |until| until.load(Relaxed));
        // Nearly always zero: then no clock is read.
        until != 0 && time::now() < Timestamp(until)
    }

    pub fn note(&self, feature: Feature, lasting: Duration) {
        if let Some(until) = self.of(feature) {
            until.fetch_max(time::now().after(lasting).0, Relaxed);
        }
    }

    fn of(&self, feature: Feature) -> Option<&AtomicU64> {
        match feature {
            Feature::StreamOptions => Some(&self.stream_options),
            Feature::MaxCompletionTokens => Some(&self.max_completion_tokens),
            Feature::Responses => None,
        }
    }
}
