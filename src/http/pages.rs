//! Pages for people: each is one file with all it needs, and a policy that lets it load nothing else.

use std::sync::LazyLock;

use actix_web::HttpResponse;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

/// The OpenAPI document, readable.
pub fn docs() -> HttpResponse {
    static POLICY: LazyLock<String> = LazyLock::new(|| policy(DOCS));
    page(DOCS, &POLICY)
}

const DOCS: &str = include_str!("pages/docs.html");

fn page(html: &'static str, policy: &str) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header((CONTENT_SECURITY_POLICY, policy))
        .insert_header((REFERRER_POLICY, "no-referrer"))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((CACHE_CONTROL, "no-cache"))
        .body(html)
}

/// The page's own script and style and nothing else, by their hashes: a text that slips into the page is never run.
fn policy(html: &str) -> String {
    let hash = |tag: &str| {
        let inside = html.split_once(&format!("<{tag}>")).and_then(|(_, rest)| rest.split_once(&format!("</{tag}>")));
        STANDARD.encode(Sha256::digest(inside.map_or("", |(inside, _)| inside)))
    };
    format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
        hash("script"),
        hash("style")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_needs_nothing_from_elsewhere() {
        assert_eq!(DOCS.matches("<script").count(), 1);
        assert_eq!(DOCS.matches("<style").count(), 1);
        for foreign in ["http://", "https://", "//cdn", " src=", " style=", " onclick", "innerHTML", "<link"] {
            assert!(!DOCS.contains(foreign), "{foreign}");
        }
        // What a browser computes of `alert(1)`.
        let policy = policy("<style></style><script>alert(1)</script>");
        assert!(policy.contains("'sha256-bhHHL3z2vDgxUt0W3dWQOrprscmda2Y5pLsLg4GF+pI='"), "{policy}");
    }
}
