//! What to hand to a key's owner with the secret: a link for ChatGPT-Next-Web, lines for an environment.

use actix_web::HttpRequest;
use actix_web::http::header::HOST;
use serde_json::{Value, json};

/// The link's place of ChatGPT-Next-Web is not known here, so it is relative to it.
pub(super) fn share(secret: &str, request: &HttpRequest) -> Value {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).filter(|host| is_host(host));
    let scheme = request
        .headers()
        .get("x-forwarded-proto")
        .and_then(|scheme| scheme.to_str().ok())
        .filter(|scheme| *scheme == "https");
    let base = format!("{}://{}", scheme.unwrap_or("http"), host.unwrap_or("localhost"));
    let settings = json!({ "key": secret, "url": base }).to_string();
    let link = percent_encoding::utf8_percent_encode(&settings, percent_encoding::NON_ALPHANUMERIC);
    json!({
        "nextchat": format!("/#/?settings={link}"),
        "env": format!("OPENAI_BASE_URL={base}/v1\nOPENAI_API_KEY={secret}"),
    })
}

/// These lines are pasted into shells: nothing but a name or an address and a port gets into them.
fn is_host(host: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']');
    !host.is_empty() && host.len() <= 255 && host.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_no_command() {
        for good in ["gateway", "gw.contoso.com:8080", "[::1]:8080", "10.0.0.1"] {
            assert!(is_host(good), "{good}");
        }
        for bad in ["", "a b", "a;rm -rf ~", "$(id)", "a\"b", "a/b"] {
            assert!(!is_host(bad), "{bad}");
        }
    }
}
