//! How quickly the tokens of a stream come, as far as that tells of the upstream.
//!
//! Tokens are guessed from the text, as recovery does: usage comes only at the end, and peers are compared by the same
//! guess. A client that reads more slowly than the upstream writes would make the upstream look slow: then there is no
//! pace.

use std::time::Duration;

use super::pipe::Writer;
use crate::domain::time::{self, Timestamp};
use crate::fleet::lease::Lease;
use crate::openai::answer::StreamWatch;

/// A stream that lasts is reported once before its end: one that drips would otherwise be heard of too late.
const EARLY: Duration = Duration::from_secs(1);
/// Fewer tokens came at once, or nearly, and are no pace.
const ENOUGH_TOKENS: u32 = 8;

/// Begins with the first text after the first content: that may have been a role, and thinking came after it.
#[derive(Default)]
pub struct Pace {
    /// When, and how many tokens there were then.
    began: Option<(Timestamp, u32)>,
    reported: bool,
}

impl Pace {
    pub fn begin(watch: &StreamWatch) -> Self {
        let first = watch.rough_output_tokens();
        Self { began: (first > 0).then(|| (time::now(), first)), reported: false }
    }

    /// Some of the stream has come at `now`.
    pub fn moved(&mut self, now: Timestamp, watch: &StreamWatch, lease: &Lease, writer: &Writer) {
        let Some((began, first)) = self.began else {
            let tokens = watch.rough_output_tokens();
            self.began = (tokens > 0).then_some((now, tokens));
            return;
        };
        if self.reported || now.since(began) < EARLY {
            return;
        }
        self.reported = true;
        let tokens = watch.rough_output_tokens().saturating_sub(first);
        if tokens > 0 && !writer.was_behind() {
            lease.pace(now.since(began) / tokens);
        }
    }

    /// At the end of the whole stream.
    pub fn per_token(&self, now: Timestamp, watch: &StreamWatch, writer: &Writer) -> Option<Duration> {
        let (began, first) = self.began?;
        let tokens = watch.rough_output_tokens().saturating_sub(first);
        (tokens >= ENOUGH_TOKENS && !writer.was_behind()).then(|| now.since(began) / tokens)
    }
}
