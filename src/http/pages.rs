//! Pages for people: each is one file with all it needs, and a policy that lets it load nothing else.

use std::sync::LazyLock;

use actix_web::HttpResponse;
use actix_web::http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderMap, HeaderValue, REFERRER_POLICY, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::ops;
use super::state::Surface;

/// `/`: the console for a browser, a line for everything else, and where the admin plane is elsewhere.
pub fn root(headers: &HeaderMap, surface: Surface) -> HttpResponse {
    static POLICY: LazyLock<String> = LazyLock::new(|| policy(CONSOLE));
    let accepted = headers.get(ACCEPT).and_then(|accepted| accepted.to_str().ok());
    let mut answer = match surface {
        Surface::All | Surface::Admin if accepted.is_some_and(|accepted| accepted.contains("text/html")) => {
            page(CONSOLE, &POLICY)
        }
        Surface::All | Surface::Admin | Surface::Public => ops::root(),
    };
    answer.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
    answer
}

/// The OpenAPI document, readable.
pub fn docs() -> HttpResponse {
    static POLICY: LazyLock<String> = LazyLock::new(|| policy(DOCS));
    page(DOCS, &POLICY)
}

const DOCS: &str = include_str!("pages/docs.html");
const CONSOLE: &str = include_str!("pages/console.html");

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
        for page in [DOCS, CONSOLE] {
            assert_eq!((page.matches("<script").count(), page.matches("<style").count()), (1, 1));
            for foreign in ["http://", "https://", "//cdn", " src=", " style=", " onclick", "innerHTML", "<link"] {
                assert!(!page.contains(foreign), "{foreign}");
            }
        }
        // What a browser computes of `alert(1)`.
        let policy = policy("<style></style><script>alert(1)</script>");
        assert!(policy.contains("'sha256-bhHHL3z2vDgxUt0W3dWQOrprscmda2Y5pLsLg4GF+pI='"), "{policy}");
    }
}
