//! Browsers may call the data plane from the origins of `server.cors_origins`; the admin plane never.
//!
//! Credentials are headers, not cookies, so `*` gives nothing away. Requested headers are allowed by name, because
//! browsers do not count `*` for `Authorization`. Source: the Fetch standard, section 3.2.

use actix_web::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, HeaderMap, HeaderValue,
    ORIGIN, VARY,
};
use actix_web::{HttpResponse, HttpResponseBuilder};

/// What browser code may read of our answers, name by name.
const EXPOSED: &str = "x-request-id, x-ratelimit-limit-requests, x-ratelimit-remaining-requests, x-ratelimit-reset-requests, \
                       x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens, \
                       retry-after, retry-after-ms, x-should-retry, server-timing, x-gateway-route, apim-request-id, x-ms-region";

/// Lets the asking origin read an answer, when it may.
pub fn expose(request: &HeaderMap, origins: &[String], response: &mut HeaderMap) {
    let Some(origin) = allowed_origin(request, origins) else { return };
    if origin != "*" {
        response.append(VARY, HeaderValue::from_static("origin"));
    }
    response.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    response.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
}

/// The answer to `OPTIONS` on any data-plane path.
pub fn preflight(request: &HeaderMap, origins: &[String]) -> HttpResponse {
    let mut response: HttpResponseBuilder = HttpResponse::NoContent();
    if allowed_origin(request, origins).is_some() {
        response.insert_header((ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, DELETE, OPTIONS"));
        response.insert_header((ACCESS_CONTROL_MAX_AGE, "86400"));
        if let Some(wanted) = request.get(ACCESS_CONTROL_REQUEST_HEADERS) {
            response.insert_header((ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone()));
        }
    }
    response.finish()
}

/// `*`, or the request's own origin where the settings name it.
fn allowed_origin(request: &HeaderMap, origins: &[String]) -> Option<HeaderValue> {
    let origin = request.get(ORIGIN)?;
    if origins.iter().any(|allowed| allowed == "*") {
        return Some(HeaderValue::from_static("*"));
    }
    origins.iter().any(|allowed| origin.as_bytes() == allowed.as_bytes()).then(|| origin.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asking(origin: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(ORIGIN, HeaderValue::from_static(origin));
        headers.insert(
            ACCESS_CONTROL_REQUEST_HEADERS,
            HeaderValue::from_static("authorization,content-type,x-stainless-os"),
        );
        headers
    }

    #[test]
    fn a_preflight_allows_what_it_was_asked_by_name() {
        let response = preflight(&asking("https://chat.example"), &["*".to_owned()]);
        assert_eq!(response.status(), 204);
        assert_eq!(
            response.headers().get(ACCESS_CONTROL_ALLOW_HEADERS).unwrap(),
            "authorization,content-type,x-stainless-os"
        );
    }

    #[test]
    fn only_listed_origins_may_read() {
        let origins = ["https://chat.example".to_owned()];
        let mut response = HeaderMap::new();
        expose(&asking("https://evil.example"), &origins, &mut response);
        assert!(response.is_empty());
        expose(&asking("https://chat.example"), &origins, &mut response);
        assert_eq!(response.get(ACCESS_CONTROL_ALLOW_ORIGIN).unwrap(), "https://chat.example");
        assert_eq!(response.get(VARY).unwrap(), "origin");
    }
}
