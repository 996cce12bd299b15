//! How urgent a caller's requests are.

use std::fmt;
use std::str::FromStr;

/// Of a key. In the order in which those who wait are served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Somebody is waiting for the answer.
    #[default]
    Interactive,
    /// Nobody is: it takes what chats leave, and of each deployment no more than a share.
    Batch,
}

impl Class {
    pub const ALL: [Self; 2] = [Self::Interactive, Self::Batch];

    pub fn label(self) -> &'static str {
        match self {
            Self::Interactive => "interactive",
            Self::Batch => "batch",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// The text names no class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected `interactive` or `batch`")]
pub struct UnknownClass;

impl FromStr for Class {
    type Err = UnknownClass;

    fn from_str(text: &str) -> Result<Self, UnknownClass> {
        Self::ALL.into_iter().find(|class| class.label() == text).ok_or(UnknownClass)
    }
}
