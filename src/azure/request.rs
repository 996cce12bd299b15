//! How a request is addressed: path, version and credential of one deployment.

use std::fmt::Write;

use super::capabilities::Feature;
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
    if operation == Operation::Responses {
        return responses_path(kind, effective(version, asked), "");
    }
    if operation == Operation::Compact {
        // No dated version has it.
        return responses_path(kind, &ApiVersion::V1, "/compact");
    }
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

/// The path of the Responses API, and below it of one response. It never has the deployment in it, and a resource whose
/// dated version does not have the API yet has it in the v1 family, which takes no version.
fn responses_path(kind: Kind, version: &ApiVersion, below: &str) -> String {
    match (kind, version) {
        (Kind::OpenAi, _) => format!("/responses{below}"),
        (Kind::Azure, ApiVersion::Dated(dated)) if version.has(Feature::Responses) => {
            format!("/openai/responses{below}?api-version={dated}")
        }
        (Kind::Azure, ApiVersion::V1 | ApiVersion::Dated(_)) => format!("/openai/v1/responses{below}"),
    }
}

/// Path and query for what a resource keeps of a response: `part` is empty or begins with a slash, `query` is the
/// client's own, without a version.
pub fn kept_path(
    kind: Kind,
    version: &ApiVersion,
    asked: Option<&ApiVersion>,
    id: &str,
    part: &str,
    query: &str,
) -> String {
    let mut below = String::with_capacity(96);
    below.push('/');
    push_segment(&mut below, id);
    below.push_str(part);
    let mut path = responses_path(kind, effective(version, asked), &below);
    if !query.is_empty() {
        path.push(if path.contains('?') { '&' } else { '?' });
        path.push_str(query);
    }
    path
}

/// Path and query of the list of models, which whoever may use the resource may read.
pub fn models_path(kind: Kind, version: &ApiVersion) -> String {
    match (kind, version) {
        (Kind::OpenAi, _) => "/models".to_owned(),
        (Kind::Azure, ApiVersion::V1) => "/openai/v1/models".to_owned(),
        (Kind::Azure, ApiVersion::Dated(version)) => format!("/openai/models?api-version={version}"),
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
pub(super) fn push_segment(path: &mut String, segment: &str) {
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

    #[test]
    fn responses_are_asked_for_where_they_exist() {
        let dated = |text: &str| ApiVersion::Dated(text.to_owned());
        let (old, preview) = (dated("2024-10-21"), dated("2025-04-01-preview"));
        let ask = |kind, version, asked| path(kind, version, asked, "d", Operation::Responses);
        assert_eq!(ask(Kind::Azure, &ApiVersion::V1, None), "/openai/v1/responses");
        assert_eq!(ask(Kind::Azure, &preview, None), "/openai/responses?api-version=2025-04-01-preview");
        assert_eq!(ask(Kind::Azure, &old, None), "/openai/v1/responses");
        assert_eq!(ask(Kind::Azure, &old, Some(&preview)), "/openai/responses?api-version=2025-04-01-preview");
        assert_eq!(ask(Kind::Azure, &preview, Some(&old)), "/openai/v1/responses");
        assert_eq!(ask(Kind::OpenAi, &ApiVersion::V1, None), "/responses");
        let compact = |kind| path(kind, &preview, None, "d", Operation::Compact);
        assert_eq!(compact(Kind::Azure), "/openai/v1/responses/compact");
        assert_eq!(compact(Kind::OpenAi), "/responses/compact");
    }

    #[test]
    fn what_is_kept_has_a_path_of_its_own() {
        let preview = ApiVersion::Dated("2025-04-01-preview".into());
        let kept = |kind, version, part, query| kept_path(kind, version, None, "resp_1", part, query);
        assert_eq!(
            kept(Kind::Azure, &preview, "/input_items", "limit=2"),
            "/openai/responses/resp_1/input_items?api-version=2025-04-01-preview&limit=2"
        );
        assert_eq!(kept(Kind::Azure, &ApiVersion::V1, "", ""), "/openai/v1/responses/resp_1");
        assert_eq!(kept(Kind::OpenAi, &ApiVersion::V1, "/cancel", "a=b"), "/responses/resp_1/cancel?a=b");
        let path = kept_path(Kind::OpenAi, &ApiVersion::V1, None, "../x?y", "", "");
        assert_eq!(path, "/responses/..%2Fx%3Fy");
    }
}
