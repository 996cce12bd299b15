//! The process's environment, or one made up for a test: the only place of the house that reads it.

use std::collections::BTreeMap;

/// Where environment variables come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Variables {
    #[default]
    Process,
    Given(BTreeMap<String, String>),
}

impl Variables {
    /// For tests and for what describes a gateway without a process of its own.
    pub fn given<const N: usize>(pairs: [(&str, &str); N]) -> Self {
        Self::Given(pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    /// None when it is not set, set to nothing, or not Unicode.
    pub fn get(&self, name: &str) -> Option<String> {
        let value = match self {
            #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
            Self::Process => std::env::var_os(name)?.into_string().ok()?,
            Self::Given(pairs) => pairs.get(name)?.clone(),
        };
        Some(value).filter(|value| !value.is_empty())
    }

    /// In name order; what is not Unicode is left out.
    pub fn all(&self) -> BTreeMap<String, String> {
        match self {
            Self::Process => std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
                .collect(),
            Self::Given(pairs) => pairs.clone(),
        }
    }
}
