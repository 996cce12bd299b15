//! `proxy` of a resource: `http://` or `socks5://`, with a user and password if it wants them.

use std::sync::Arc;

use percent_encoding::percent_decode_str;

use super::endpoint::{self, Refusal, refuse};
use super::reach;
use super::reader::Section;
use super::secrets::{self, Missing};
use crate::domain::outbound::{Login, Proxy, ProxyProtocol};
use crate::domain::secret::Secret;

const EXAMPLE: &str = "write it like \"http://proxy.contoso.com:3128\" or \"socks5://127.0.0.1:1080\"";

/// None when there is none, or it was refused, which then has been noted.
pub(super) fn read(section: &Section<'_>, tolerance: Missing) -> Option<Arc<Proxy>> {
    let text = section.text("proxy", "text such as \"http://proxy.contoso.com:3128\"")?;
    if text.is_empty() {
        return None;
    }
    let is_reference = text.starts_with("env:") || text.starts_with("file:");
    let parsed =
        if is_reference { parse(secrets::resolve(section, "proxy", text, tolerance)?.expose()) } else { parse(text) };
    match parsed {
        Ok(proxy) => Some(Arc::new(proxy)),
        Err(refusal) => {
            reach::refuse(section, &section.path.child("proxy"), refusal);
            None
        }
    }
}

fn parse(text: &str) -> Result<Proxy, Refusal> {
    endpoint::check_characters(text)?;
    let (protocol, rest) = match text.split_once("://") {
        Some(("http", rest)) => (ProxyProtocol::Http, rest),
        // The `h` says that the proxy resolves names, as it always does here.
        Some(("socks5" | "socks5h", rest)) => (ProxyProtocol::Socks5, rest),
        Some(("https", _)) => {
            return refuse("is https://, which is not spoken to proxies", "write http://: what goes through stays TLS");
        }
        Some(_) | None => return refuse("must begin with http:// or socks5://", EXAMPLE),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (login, authority) = match rest.rsplit_once('@') {
        Some((login, authority)) => (Some(login), authority),
        None => (None, rest),
    };
    if authority.contains(['/', '?', '#']) {
        return refuse("must end after the port", EXAMPLE);
    }
    let own_port = match protocol {
        ProxyProtocol::Http => 80,
        ProxyProtocol::Socks5 => 1080,
    };
    let (host, port) = endpoint::host_and_port(authority, own_port)?;
    Ok(Proxy { protocol, host, port, login: login.map(read_login).transpose()? })
}

fn read_login(text: &str) -> Result<Login, Refusal> {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    let decode = |part: &str| {
        let decoded = percent_decode_str(part).decode_utf8().ok()?;
        // What SOCKS5 has room for, and what cannot end a header.
        (decoded.len() <= 255 && !decoded.contains(char::is_control)).then(|| decoded.into_owned())
    };
    match (decode(user), decode(password)) {
        (Some(user), Some(password)) if !user.is_empty() && !user.contains(':') => {
            Ok(Login { user, password: Secret::new(password) })
        }
        _ => refuse("has no usable user and password", "write USER:PASSWORD@ before the host; %40 is an @"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(text: &str) -> (String, Option<(String, String)>) {
        let proxy = parse(text).unwrap_or_else(|refusal| panic!("{text}: {refusal:?}"));
        let login = proxy.login.as_ref().map(|login| (login.user.clone(), login.password.expose().to_owned()));
        (proxy.to_string(), login)
    }

    #[test]
    fn both_protocols_with_and_without_a_login() {
        assert_eq!(accepted("http://Proxy.contoso.com:3128/"), ("http://proxy.contoso.com:3128".into(), None));
        assert_eq!(accepted("socks5h://[::1]"), ("socks5://[::1]:1080".into(), None));
        let login = Some(("me".to_owned(), "p@ss:word".to_owned()));
        assert_eq!(accepted("http://me:p%40ss:word@127.0.0.1:8"), ("http://127.0.0.1:8".into(), login));
    }

    #[test]
    fn what_is_no_proxy_is_refused() {
        for wrong in [
            "proxy:3128",
            "https://proxy:3128",
            "ftp://proxy",
            "http://",
            "http://proxy:0",
            "http://proxy:3128/path",
            "http://:word@proxy",
            "http://a%0d%0ab:c@proxy",
            "http://pro xy",
            "socks5://proxy?x",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
