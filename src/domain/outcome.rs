//! How one attempt at one deployment ended, and what follows from it.

use std::time::Duration;

/// The end of an attempt, as the deployment's owner sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A whole answer, or a stream that ended as it should.
    Served,
    /// 429: the deployment asked to be left alone, for so long if it said so.
    Throttled { cause: ThrottleCause, retry_after: Option<Duration> },
    /// The deployment, or the way to it, failed.
    Faulted(Fault),
    /// 401, 403 or 404 of the deployment itself: it cannot serve until someone mends its settings.
    Misconfigured { status: u16 },
    /// A 4xx that is the client's own (content filter, context length, bad parameter).
    Rejected { status: u16 },
    /// Nobody waited for the end: the client left, or we were shut down.
    Abandoned,
}

impl Outcome {
    /// Whether another deployment may do better, while nothing was sent to the client.
    pub fn may_retry(self) -> bool {
        match self {
            Self::Throttled { .. } | Self::Faulted(_) | Self::Misconfigured { .. } => true,
            Self::Served | Self::Rejected { .. } | Self::Abandoned => false,
        }
    }

    /// The `reason` of metrics, logs and ledger rows.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Served => "served",
            Self::Throttled { .. } => "throttled",
            Self::Faulted(fault) => fault.reason(),
            Self::Misconfigured { .. } => "misconfigured",
            Self::Rejected { .. } => "rejected",
            Self::Abandoned => "abandoned",
        }
    }
}

/// What a 429 is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ThrottleCause {
    /// Requests per minute, or its slices of 1 s and 10 s.
    Requests,
    /// Tokens per minute.
    Tokens,
    /// A provisioned deployment at 100 % of its utilisation.
    Provisioned,
    /// The region has no room for anyone: nobody's quota.
    Capacity,
    /// A quota of a day or longer, or of the whole subscription.
    Period,
    Unknown,
}

impl ThrottleCause {
    pub fn label(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
            Self::Provisioned => "provisioned",
            Self::Capacity => "capacity",
            Self::Period => "period",
            Self::Unknown => "unknown",
        }
    }
}

/// What went wrong on the upstream side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// No connection: refused, unreachable, name not found, TLS failed, too slow.
    Connect,
    /// Connected, but no response head (or no first content event) in time.
    FirstByteTimeout,
    /// The answer began and then stood still, or a whole answer took too long.
    Stalled,
    /// 408 or a 5xx.
    Status(u16),
    /// The answer was cut.
    Truncated,
    /// Not an answer at all: a redirect, an interim head without end, no HTTP, a 200 with an error inside.
    InvalidResponse,
}

impl Fault {
    pub fn reason(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::FirstByteTimeout => "first_byte_timeout",
            Self::Stalled => "stalled",
            Self::Status(_) => "status",
            Self::Truncated => "truncated",
            Self::InvalidResponse => "invalid_response",
        }
    }
}
