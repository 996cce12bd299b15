//! Where the realtime API is, in its two generations.
//!
//! The generations differ in their events, which pass through the gateway as they are: so the one that the client speaks
//! is asked for, whichever family of URLs a resource's settings name. Both are at the same host.
//! Source: <https://learn.microsoft.com/azure/ai-foundry/openai/how-to/realtime-audio-websockets>

use std::fmt::Write;

use super::endpoint::{ApiVersion, Kind};

/// Which generation of events a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    /// `/openai/realtime` with a dated version, and OpenAI's own beta.
    Preview,
    /// `/openai/v1/realtime`
    General,
}

/// First dated version with the API; every later one is a preview too.
const FIRST: &str = "2024-10-01-preview";
/// For clients of the preview, where neither they nor the settings name a version that has it.
const LAST: &str = "2025-04-01-preview";

impl ApiVersion {
    /// Whether it is a dated version with the preview of the realtime API.
    fn has_realtime_preview(&self) -> bool {
        match self {
            Self::V1 => false,
            Self::Dated(version) => version.as_str() >= FIRST && version.ends_with("-preview"),
        }
    }
}

/// Path and query of a session. `asked` is the version that a client of the dated family names; `intent` is its own, too.
pub fn path(
    kind: Kind,
    version: &ApiVersion,
    asked: Option<&ApiVersion>,
    generation: Generation,
    deployment: &str,
    intent: Option<&str>,
) -> String {
    let mut path = match (kind, generation) {
        (Kind::OpenAi, _) => String::from("/realtime?model="),
        (Kind::Azure, Generation::General) => String::from("/openai/v1/realtime?model="),
        (Kind::Azure, Generation::Preview) => {
            let named = [asked, Some(version)].into_iter().flatten().find(|version| version.has_realtime_preview());
            let version = named.map_or_else(|| LAST.to_owned(), ApiVersion::to_string);
            format!("/openai/realtime?api-version={version}&deployment=")
        }
    };
    push_value(&mut path, deployment);
    if let Some(intent) = intent {
        path.push_str("&intent=");
        push_value(&mut path, intent);
    }
    path
}

/// Percent-encodes all but RFC 3986's unreserved characters.
fn push_value(path: &mut String, value: &str) {
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            path.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(path, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_decides_on_the_generation_and_the_versions_follow() {
        let dated = |text: &str| ApiVersion::Dated(text.to_owned());
        let (old, early, late) = (dated("2024-10-21"), dated("2024-12-01-preview"), dated("2025-04-01-preview"));
        let ask = |kind, version, asked, generation| path(kind, version, asked, generation, "my dep", None);
        for version in [&old, &early, &ApiVersion::V1] {
            let general = ask(Kind::Azure, version, None, Generation::General);
            assert_eq!(general, "/openai/v1/realtime?model=my%20dep");
        }
        let preview = |version: &str| format!("/openai/realtime?api-version={version}&deployment=my%20dep");
        for (version, asked, expected) in [
            (&early, None, "2024-12-01-preview"),
            (&early, Some(&late), "2025-04-01-preview"),
            (&early, Some(&old), "2024-12-01-preview"),
            (&old, None, "2025-04-01-preview"),
            (&ApiVersion::V1, None, "2025-04-01-preview"),
            (&ApiVersion::V1, Some(&early), "2024-12-01-preview"),
        ] {
            assert_eq!(ask(Kind::Azure, version, asked, Generation::Preview), preview(expected));
        }
        let openai = path(Kind::OpenAi, &ApiVersion::V1, None, Generation::General, "m", Some("transcription"));
        assert_eq!(openai, "/realtime?model=m&intent=transcription");
    }
}
