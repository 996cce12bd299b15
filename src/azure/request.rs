//! How a request is addressed: path, version and credential of one deployment.

use std::fmt::Write;

use super::endpoint::{ApiVersion, Kind};
use crate::domain::demand::Operation;

/// The header that carries a resource's key; both families take it.
pub const KEY_HEADER: &str = "api-key";

/// Path and query of an operation on a deployment. `asked` is the api-version of a client that speaks Azure's dialect:
/// it is honoured by resources of the dated family. What is not Azure has its base path in the endpoint.
pub fn path(
    kind: Kind,
    version: &ApiVersion,
    asked: Option<&ApiVersion>,
    deployment: &str,
    operation: Operation,
) -> String {
    match (kind, version, asked) {
        (Kind::OpenAi, ..) => operation.path().to_owned(),
        (Kind::Azure, ApiVersion::V1, _) => format!("/openai/v1{}", operation.path()),
        (Kind::Azure, ApiVersion::Dated(_), Some(ApiVersion::Dated(version)))
        | (Kind::Azure, ApiVersion::Dated(version), _) => {
            let mut path = String::with_capacity(96);
            path.push_str("/openai/deployments/");
            push_segment(&mut path, deployment);
            path.push_str(operation.path());
            path.push_str("?api-version=");
            path.push_str(version);
            path
        }
    }
}

/// The version a request is really sent with, which decides whether `stream_options` is understood.
pub fn effective<'a>(version: &'a ApiVersion, asked: Option<&'a ApiVersion>) -> &'a ApiVersion {
    match (version, asked) {
        (ApiVersion::V1, _) => version,
        (ApiVersion::Dated(_), Some(asked @ ApiVersion::Dated(_))) => asked,
        (ApiVersion::Dated(_), Some(ApiVersion::V1) | None) => version,
    }
}

/// Percent-encodes all but RFC 3986's unreserved characters, so that no name can leave its segment.
fn push_segment(path: &mut String, segment: &str) {
    for byte in segment.bytes() {
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
    fn both_families() {
        let dated = ApiVersion::Dated("2024-10-21".into());
        let asked = ApiVersion::Dated("2025-04-01-preview".into());
        let chat = Operation::ChatCompletions;
        assert_eq!(
            path(Kind::Azure, &dated, None, "gpt 4/x", chat),
            "/openai/deployments/gpt%204%2Fx/chat/completions?api-version=2024-10-21"
        );
        assert_eq!(
            path(Kind::Azure, &dated, Some(&asked), "d", chat),
            "/openai/deployments/d/chat/completions?api-version=2025-04-01-preview"
        );
        let v1 = |kind| path(kind, &ApiVersion::V1, Some(&asked), "d", Operation::Embeddings);
        assert_eq!((v1(Kind::Azure).as_str(), v1(Kind::OpenAi).as_str()), ("/openai/v1/embeddings", "/embeddings"));
        assert_eq!(effective(&dated, Some(&asked)), &asked);
        assert_eq!(effective(&ApiVersion::V1, Some(&asked)), &ApiVersion::V1);
    }
}
