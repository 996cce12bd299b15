//! Why there is no (whole) answer: the error callers see, and the fact that travels up through awc to become it.
//!
//! A `Fault` is made where something happened, with what is known there, and rides through awc inside an
//! `io::Error`; no text of awc's is ever interpreted. Texts name hosts, addresses and certificates, never a header or
//! a body.

use std::io;

use super::framing::Violation;

/// Why there is no (whole) answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// Nothing was sent: name not found, refused, unreachable, TLS failed, timed out.
    #[error("no connection: {0}")]
    Connect(String),
    /// Sent, but no response head in time.
    #[error("no response head in time")]
    HeadTimeout,
    /// The connection ended before a response head.
    #[error("connection closed before a response")]
    Closed,
    /// The head was no acceptable HTTP/1.1 response, or the body broke its framing.
    #[error("invalid response: {0}")]
    Invalid(String),
    /// The body was cut.
    #[error("response cut")]
    Truncated,
    /// The body stood still.
    #[error("response stood still")]
    Idle,
}

/// How the peer's side of a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ending {
    #[error("upstream closed the connection")]
    Closed,
    #[error("upstream reset the connection")]
    Reset,
    #[error("tls ended without close_notify")]
    TlsCut,
    #[error("connection failed: {0}")]
    Failed(io::ErrorKind),
}

impl Ending {
    pub(super) fn of(error: &io::Error) -> Self {
        let kind = error.kind();
        if matches!(kind, io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted)
        {
            Self::Reset
        } else if kind == io::ErrorKind::UnexpectedEof {
            Self::TlsCut
        } else {
            Self::Failed(kind)
        }
    }
}

/// What happened, as known to the connection it happened on.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Fault {
    /// No connection came about.
    #[error("{0}")]
    Connect(String),
    /// The connection ended before the final head was complete. `stale`: it had answered an earlier request and
    /// has said nothing to this one, which is what a keep-alive connection closed by the peer looks like.
    #[error("{ending}")]
    BeforeHead { ending: Ending, stale: Stale },
    #[error("{0}")]
    InBody(Ending),
    #[error("{0}")]
    Invalid(Violation),
}

/// Whether a connection may simply have been closed while it was idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stale {
    Perhaps,
    No,
}

impl Fault {
    pub(super) fn into_io(self) -> io::Error {
        io::Error::other(self)
    }

    /// The fault inside an error that came back through awc.
    pub(super) fn find(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl From<&Fault> for UpstreamError {
    fn from(fault: &Fault) -> Self {
        match fault {
            Fault::Connect(text) => Self::Connect(text.clone()),
            Fault::BeforeHead { .. } => Self::Closed,
            Fault::InBody(_) => Self::Truncated,
            Fault::Invalid(violation) => Self::Invalid(violation.to_string()),
        }
    }
}
