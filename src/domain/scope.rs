//! What a credential of the admin plane may do. A wider scope holds the narrower ones.

use std::fmt;
use std::str::FromStr;

/// In the order of their reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// To see everything but who administers.
    Read,
    /// To make, change and end keys and users too.
    KeysWrite,
    /// Everything.
    Admin,
}

impl Scope {
    pub const ALL: [Self; 3] = [Self::Read, Self::KeysWrite, Self::Admin];

    pub fn label(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::KeysWrite => "keys:write",
            Self::Admin => "admin",
        }
    }

    pub fn includes(self, other: Self) -> bool {
        self >= other
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// The text names no scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected `admin`, `keys:write` or `read`")]
pub struct UnknownScope;

impl FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        Self::ALL.into_iter().find(|scope| scope.label() == text).ok_or(UnknownScope)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wider_scope_holds_the_narrower_ones() {
        for (at, wider) in Scope::ALL.into_iter().enumerate() {
            for (other, narrower) in Scope::ALL.into_iter().enumerate() {
                assert_eq!(wider.includes(narrower), at >= other, "{wider} and {narrower}");
            }
            assert_eq!(wider.label().parse(), Ok(wider));
        }
    }
}
