//! The address of a resource: what is accepted, what is refused and why. Pure; no name is resolved here.
//!
//! The key of the resource is sent there, so nothing is guessed: an address that two parsers could read differently
//! (user info, numbers that are IP addresses in disguise, backslashes) is refused.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::azure::endpoint::{Endpoint, Kind};
use crate::domain::outbound::Way;

/// What is wrong, to complete "`…endpoint` …", and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) message: String,
    pub(super) tip: Option<String>,
}

/// What an operator said about addresses without TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Insecure {
    LoopbackOnly,
    Allowed,
}

pub(super) fn parse(text: &str, kind: Kind, insecure: Insecure) -> Result<Endpoint, Refusal> {
    check_characters(text)?;
    let (tls, rest) = match text.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (true, rest),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (false, rest),
        Some(_) => return refuse("must begin with https:// or http://", EXAMPLE),
        None => return refuse("has no scheme", EXAMPLE),
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if authority.contains('@') {
        return refuse("must not hold a user name or password", "the resource's key is its `api_key`");
    }
    let (host, port) = host_and_port(authority, if tls { 443 } else { 80 })?;
    let prefix = prefix(kind, path, &format!("{}://{authority}", if tls { "https" } else { "http" }))?;
    let endpoint = Endpoint { tls, host, port, prefix, way: Way::Direct };
    if !tls && insecure == Insecure::LoopbackOnly && !is_loopback(&endpoint.host) {
        return refuse(
            "is http://: the key and all prompts would travel in clear",
            "write https://, or `allow_insecure = true` beside it for a network you trust",
        );
    }
    Ok(endpoint)
}

/// What no address may hold.
pub(super) fn check_characters(text: &str) -> Result<(), Refusal> {
    if text.is_empty() {
        return refuse("is empty", EXAMPLE);
    }
    match text.chars().find(|c| c.is_whitespace() || c.is_control() || *c == '\\') {
        Some(bad) => refuse(format!("contains {bad:?}"), EXAMPLE),
        None => Ok(()),
    }
}

/// Whether the host is one that Azure gives to OpenAI resources, API Management's, or this machine.
pub(super) fn is_usual(host: &str) -> bool {
    const SUFFIXES: [&str; 8] = [
        ".openai.azure.com",
        ".cognitiveservices.azure.com",
        ".services.ai.azure.com",
        ".api.cognitive.microsoft.com",
        ".azure-api.net",
        ".openai.azure.us",
        ".openai.azure.cn",
        ".azure-api.us",
    ];
    is_loopback(host) || SUFFIXES.iter().any(|suffix| host.len() > suffix.len() && host.ends_with(suffix))
}

pub(super) fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

const EXAMPLE: &str = "write it like \"https://contoso-eastus2.openai.azure.com\"";

pub(super) fn refuse<T>(message: impl Into<String>, tip: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { message: message.into(), tip: Some(tip.into()) })
}

/// Host and port of an address that may leave the port out.
pub(super) fn host_and_port(authority: &str, own_port: u16) -> Result<(String, u16), Refusal> {
    let (host, port) = split_port(authority)?;
    Ok((host_name(host, authority.starts_with('['))?, port.unwrap_or(own_port)))
}

fn split_port(authority: &str) -> Result<(&str, Option<u16>), Refusal> {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        match rest.split_once(']') {
            Some((host, port)) if port.is_empty() || port.starts_with(':') => (host, port.strip_prefix(':')),
            Some(_) | None => return refuse("has a broken IPv6 address", "write it like \"http://[::1]:8081\""),
        }
    } else {
        match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        }
    };
    let Some(text) = port else { return Ok((host, None)) };
    match text.parse::<u16>() {
        Ok(port) if port > 0 && text.bytes().all(|byte| byte.is_ascii_digit()) => Ok((host, Some(port))),
        Ok(_) | Err(_) => refuse("has no valid port", "a port is a number from 1 to 65535"),
    }
}

fn host_name(host: &str, bracketed: bool) -> Result<String, Refusal> {
    if bracketed {
        return match host.parse::<Ipv6Addr>() {
            Ok(address) => reachable(IpAddr::V6(address)),
            Err(_) => refuse("has a broken IPv6 address", "write it like \"http://[::1]:8081\""),
        };
    }
    if let Ok(address) = host.parse::<Ipv4Addr>() {
        return reachable(IpAddr::V4(address));
    }
    if host.is_empty() {
        return refuse("has no host", EXAMPLE);
    }
    if !host.is_ascii() {
        return refuse("has a host with letters outside ASCII", "write the name in its xn-- form");
    }
    let host = host.to_ascii_lowercase();
    let label_is_good = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if host.len() > 253 || !host.split('.').all(label_is_good) {
        return refuse("has no valid host name", EXAMPLE);
    }
    // "2130706433", "0x7f.1" and "127.1" are addresses to some resolvers and names to others.
    let last = host.rsplit('.').next().unwrap_or_default();
    let is_hex = last.strip_prefix("0x").is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if is_hex || last.bytes().all(|byte| byte.is_ascii_digit()) {
        return refuse("has a host that is half a name and half a number", "write an IP address as four numbers");
    }
    Ok(host)
}

/// Addresses where no resource can be, and where cloud machines keep their credentials.
fn reachable(address: IpAddr) -> Result<String, Refusal> {
    let plain = address.to_canonical();
    let forbidden = match plain {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.is_unspecified() || v6.is_multicast(),
    };
    if forbidden {
        return refuse(
            format!("is {address}, where no Azure resource can be"),
            "link-local, multicast and unspecified addresses are refused",
        );
    }
    Ok(plain.to_string())
}

/// API Management puts resources under a path, and OpenAI's API begins with one; what the gateway adds itself must not be
/// there.
fn prefix(kind: Kind, path: &str, base: &str) -> Result<String, Refusal> {
    let (path, extra) = path.split_at(path.find(['?', '#']).unwrap_or(path.len()));
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let is_good = |segment: &&&str| {
        segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte))
            && segment.bytes().any(|byte| byte != b'.')
    };
    let good: Vec<&str> = segments.iter().take_while(is_good).copied().collect();
    let added: &[&str] = match kind {
        Kind::Azure => &["openai", "v1", "deployments"],
        Kind::OpenAi => &["chat", "completions", "embeddings", "models", "responses", "deployments"],
    };
    let own = good.iter().position(|segment| added.contains(segment)).unwrap_or(good.len());
    let kept = good[..own].iter().fold(String::new(), |path, segment| path + "/" + segment);
    let deployment = good.windows(2).find(|pair| pair[0] == "deployments").map(|pair| pair[1]);
    if own < good.len() {
        let mut tip = format!("write \"{base}{kept}\"");
        if let Some(deployment) = deployment {
            tip += &format!(", and \"{deployment}\" in its `deployments`");
        }
        return refuse(format!("includes \"/{}\", which the gateway adds itself", good[own]), tip);
    }
    if !extra.is_empty() {
        let what = if extra.starts_with('?') { "a query" } else { "a fragment" };
        return refuse(format!("must not have {what}"), format!("write \"{base}{kept}\""));
    }
    if good.len() < segments.len() {
        return refuse("has a path with unusual characters", format!("write \"{base}\" and at most a plain prefix"));
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn accepted(text: &str) -> String {
        parse(text, Kind::Azure, Insecure::LoopbackOnly)
            .unwrap_or_else(|refusal| panic!("{text}: {refusal:?}"))
            .to_string()
    }

    fn refused(text: &str) -> String {
        match parse(text, Kind::Azure, Insecure::LoopbackOnly) {
            Ok(endpoint) => panic!("{text} was accepted as {endpoint}"),
            Err(refusal) => refusal.message,
        }
    }

    #[test]
    fn what_azure_gives_out_is_accepted() {
        assert_eq!(accepted("https://contoso.openai.azure.com"), "https://contoso.openai.azure.com");
        assert_eq!(accepted("https://Contoso.OpenAI.Azure.com/"), "https://contoso.openai.azure.com");
        assert_eq!(accepted("HTTPS://contoso.azure-api.net:8443/aoai/"), "https://contoso.azure-api.net:8443/aoai");
        assert_eq!(accepted("http://127.0.0.1:9001"), "http://127.0.0.1:9001");
        assert_eq!(accepted("http://[::1]:9001/x"), "http://[::1]:9001/x");
        assert_eq!(accepted("http://localhost"), "http://localhost");
    }

    #[test]
    fn what_could_send_the_key_elsewhere_is_refused() {
        for evil in [
            "evil#",
            "evil?",
            "contoso",
            "file:///etc/passwd",
            "ftp://x",
            "https://",
            "https:///x",
            "https://a@b",
            "https://contoso.openai.azure.com@evil.com",
            "https://a b",
            "https://a\\b",
            "https://a\nb",
            "https://a\tb",
            "https://2130706433",
            "https://0x7f000001",
            "https://127.1",
            "https://0177.0.0.1",
            "https://127.0.0.1.",
            "https://169.254.169.254",
            "https://[fe80::1]",
            "https://[::ffff:169.254.169.254]",
            "https://0.0.0.0",
            "https://[::]",
            "https://[::1",
            "https://[::1]x",
            "https://a:0",
            "https://a:65536",
            "https://a:+1",
            "https://a:",
            "https://ünï.de",
            "https://-a.de",
            "https://a..de",
            "https://a.de/%2e%2e",
            "https://a.de/..",
            "https://a.de/x?y",
            "https://a.de#f",
            "https://a%2f.de",
            "https://a,b",
            "http://contoso.openai.azure.com",
            "http://10.0.0.1",
            "http://127.0.0.1.nip.io",
            "http://localhost.evil.com",
        ] {
            refused(evil);
        }
    }

    #[test]
    fn the_portals_target_uri_is_explained() {
        let text = "https://c.openai.azure.com/openai/deployments/gpt4/chat/completions?api-version=2024-10-21";
        assert_eq!(
            parse(text, Kind::Azure, Insecure::LoopbackOnly),
            Err(Refusal {
                message: "includes \"/openai\", which the gateway adds itself".into(),
                tip: Some("write \"https://c.openai.azure.com\", and \"gpt4\" in its `deployments`".into()),
            })
        );
        assert!(refused("https://c.azure-api.net/team/v1").contains("/v1"));
    }

    #[test]
    fn clear_text_needs_a_word_from_the_operator() {
        assert!(parse("http://10.0.0.1", Kind::Azure, Insecure::Allowed).is_ok());
        assert!(parse("http://169.254.169.254", Kind::Azure, Insecure::Allowed).is_err());
    }

    #[test]
    fn openais_base_path_is_kept_and_its_operations_are_not() {
        let read = |text| parse(text, Kind::OpenAi, Insecure::LoopbackOnly);
        for base in ["https://api.openai.com/v1", "http://localhost:11434/v1", "https://api.groq.com/openai/v1"] {
            assert_eq!(read(base).map(|endpoint| endpoint.to_string()), Ok(base.to_owned()));
        }
        let refusal = read("https://api.openai.com/v1/chat/completions").unwrap_err();
        assert_eq!(refusal.tip.as_deref(), Some("write \"https://api.openai.com/v1\""));
    }

    #[test]
    fn azure_hosts_are_usual_and_lookalikes_are_not() {
        assert!(is_usual("contoso.openai.azure.com") && is_usual("::1") && is_usual("localhost"));
        assert!(
            !is_usual("contoso.openai.azure.com.evil.com") && !is_usual(".openai.azure.com") && !is_usual("10.0.0.1")
        );
    }

    proptest! {
        #[test]
        fn what_is_accepted_reads_back_as_itself(text in "https?://[a-zA-Z0-9.:/@?#_\\[\\]-]{0,40}") {
            for kind in [Kind::Azure, Kind::OpenAi] {
                if let Ok(endpoint) = parse(&text, kind, Insecure::Allowed) {
                    prop_assert_eq!(parse(&endpoint.to_string(), kind, Insecure::Allowed), Ok(endpoint));
                }
            }
        }
    }
}
