//! What each api-version takes, and how a refusal names what a deployment does not take after all.
//!
//! The table is Azure's changelog. Enforcement is loose for new models and strict for odd requests, so it is where to
//! begin and not the last word: what a deployment refuses is left out, or spelt as it used to be, from then on.
//! Source: <https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle>

use memchr::memmem;

use super::endpoint::ApiVersion;

/// Something that not every api-version has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// `stream_options: {"include_usage": true}`; older versions answer 400.
    StreamOptions,
    /// `max_completion_tokens`, before that `max_tokens`.
    MaxCompletionTokens,
    /// The Responses API; what is older answers 404.
    Responses,
}

impl Feature {
    /// The first dated version that has it; all later ones do.
    fn since(self) -> &'static str {
        match self {
            Self::StreamOptions | Self::MaxCompletionTokens => "2024-09-01",
            Self::Responses => "2025-03-01-preview",
        }
    }

    /// The parameter by which a refusal names it.
    fn parameter(self) -> Option<&'static str> {
        match self {
            Self::StreamOptions => Some("stream_options"),
            Self::MaxCompletionTokens => Some("max_completion_tokens"),
            Self::Responses => None,
        }
    }

    /// Whether a 400 with this body is about it.
    pub fn is_refused_by(self, body: &[u8]) -> bool {
        self.parameter().is_some_and(|name| memmem::find(body, name.as_bytes()).is_some())
    }
}

impl ApiVersion {
    /// The v1 family has everything.
    pub fn has(&self, feature: Feature) -> bool {
        match self {
            Self::V1 => true,
            Self::Dated(version) => version.as_str() >= feature.since(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feature_has_its_first_version() {
        let has = |version: &str, feature| version.parse::<ApiVersion>().unwrap().has(feature);
        for (feature, before, since) in [
            (Feature::StreamOptions, "2024-08-01-preview", "2024-09-01-preview"),
            (Feature::MaxCompletionTokens, "2024-06-01", "2024-10-21"),
            (Feature::Responses, "2025-01-01-preview", "2025-03-01-preview"),
        ] {
            assert!(!has(before, feature) && has(since, feature) && has("v1", feature), "{feature:?}");
        }
        assert!(!has("2024-10-21", Feature::Responses));
    }

    #[test]
    fn a_refusal_names_its_parameter() {
        let body = br#"{"error":{"message":"Unrecognized request argument supplied: stream_options","code":null}}"#;
        assert!(Feature::StreamOptions.is_refused_by(body) && !Feature::MaxCompletionTokens.is_refused_by(body));
        assert!(!Feature::StreamOptions.is_refused_by(br#"{"error":{"param":"messages"}}"#));
    }
}
