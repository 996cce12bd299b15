//! Pages for people: each is one document with all it needs, and a policy that lets it load nothing else. They stand in
//! parts under `pages/`, which are put together when this is compiled.

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

/// One style and one script each, so that the policy can name them by their hashes. The icon is there so that browsers
/// do not ask for one.
macro_rules! document {
    ($title:literal, $style:literal, $shell:literal, $($script:literal),+) => {
        concat!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n",
            "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>", $title, "</title>\n",
            "<link rel=\"icon\" href=\"data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'",
            "%3E%3Cpath d='M2 8h5m0 0l6-5M7 8h6M7 8l6 5' stroke='%230b57d0' stroke-width='2' fill='none'/%3E%3C/svg%3E\">\n",
            "<style>", include_str!("pages/style.css"), include_str!($style), "</style>\n",
            include_str!($shell),
            "<script>", $(include_str!($script),)+ "</script>\n</body>\n</html>\n",
        )
    };
}

const DOCS: &str = document!("aoai-gateway: API", "pages/docs/docs.css", "pages/docs/shell.html", "pages/docs/docs.js");
const CONSOLE: &str = document!(
    "aoai-gateway",
    "pages/console/console.css",
    "pages/console/shell.html",
    "pages/console/base.js",
    "pages/console/keys.js",
    "pages/console/users.js",
    "pages/console/admins.js",
    "pages/console/estate.js",
    "pages/console/books.js",
    "pages/console/house.js",
    "pages/console/main.js"
);

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
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; img-src data:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
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
            assert_eq!(page.matches("<link").count(), page.matches("<link rel=\"icon\" href=\"data:").count());
            // The name of SVG's elements is a name, not an address.
            let page = page.replace("http://www.w3.org/2000/svg", "");
            for foreign in ["http://", "https://", "//cdn", " src=", " style=", " onclick", "innerHTML", "@import"] {
                assert!(!page.contains(foreign), "{foreign}");
            }
        }
        // What a browser computes of `alert(1)`.
        let policy = policy("<style></style><script>alert(1)</script>");
        assert!(policy.contains("'sha256-bhHHL3z2vDgxUt0W3dWQOrprscmda2Y5pLsLg4GF+pI='"), "{policy}");
    }

    /// Names that one part of the script uses and another has: a part that is left out leaves a page that does nothing.
    #[test]
    fn every_element_that_the_script_looks_up_is_there() {
        for (place, rest) in CONSOLE.split("at(\"").skip(1).filter_map(|rest| rest.split_once('"')) {
            assert!(CONSOLE.contains(&format!("id=\"{place}\"")), "{place}: {}", &rest[..rest.len().min(40)]);
        }
    }
}
