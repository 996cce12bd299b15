//! Entra ID: how an access token is asked for, what the answer means, and when it is time for the next.
//!
//! Four protocols of one request each. Sending it, and keeping the token, belongs to the floors below.
//! Source: <https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow> and
//! <https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token>

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::Value;

use super::endpoint::Endpoint;
use crate::domain::secret::Secret;
use crate::domain::time::WallTime;

/// An identity, and what its tokens are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entra {
    pub identity: Identity,
    /// Ends in `/.default`.
    pub scope: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// A virtual machine's own, by the instance metadata service. `endpoint` is the whole address of its tokens.
    Machine {
        endpoint: Arc<Endpoint>,
        client_id: Option<String>,
    },
    /// That of an App Service, a function or a container app.
    App {
        endpoint: Arc<Endpoint>,
        header: Secret,
        client_id: Option<String>,
    },
    /// A Kubernetes service account's, whose own token is in a file that is replaced from time to time.
    Workload {
        authority: Arc<Endpoint>,
        tenant: String,
        client_id: String,
        token_file: PathBuf,
    },
    ClientSecret {
        authority: Arc<Endpoint>,
        tenant: String,
        client_id: String,
        secret: Secret,
    },
}

/// One request for a token; a GET when there is no form.
#[derive(Debug, PartialEq, Eq)]
pub struct TokenRequest {
    /// After the endpoint's prefix.
    pub path_and_query: String,
    pub header: Option<(&'static str, Secret)>,
    /// `application/x-www-form-urlencoded`
    pub form: Option<Secret>,
}

/// A token that was given.
#[derive(Debug, PartialEq, Eq)]
pub struct Grant {
    pub token: Secret,
    /// From the moment it came.
    pub lifetime: Duration,
}

/// RFC 3986's unreserved characters stay as they are.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

impl Entra {
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        match &self.identity {
            Identity::Machine { endpoint, .. } | Identity::App { endpoint, .. } => endpoint,
            Identity::Workload { authority, .. } | Identity::ClientSecret { authority, .. } => authority,
        }
    }

    /// As the settings and the log call it.
    pub fn kind(&self) -> &'static str {
        match &self.identity {
            Identity::Machine { .. } | Identity::App { .. } => "managed_identity",
            Identity::Workload { .. } => "workload_identity",
            Identity::ClientSecret { .. } => "client_secret",
        }
    }

    /// Whether a token of `other` is as good as one of this: the same one asks for the same, if with another secret.
    pub fn is_same_identity(&self, other: &Self) -> bool {
        let same = match (&self.identity, &other.identity) {
            (
                Identity::Workload { tenant, client_id, .. } | Identity::ClientSecret { tenant, client_id, .. },
                Identity::Workload { tenant: their_tenant, client_id: their_id, .. }
                | Identity::ClientSecret { tenant: their_tenant, client_id: their_id, .. },
            ) => tenant == their_tenant && client_id == their_id,
            (one, other) => one == other,
        };
        same && self.scope == other.scope
    }

    /// `assertion` is what the file of a workload identity holds at the moment.
    pub fn request(&self, assertion: Option<&Secret>) -> TokenRequest {
        let resource = escape(self.scope.strip_suffix("/.default").unwrap_or(&self.scope));
        let by_id = |client_id: &Option<String>| match client_id {
            Some(id) => format!("&client_id={}", escape(id)),
            None => String::new(),
        };
        match &self.identity {
            Identity::Machine { client_id, .. } => TokenRequest {
                path_and_query: format!("?api-version=2018-02-01&resource={resource}{}", by_id(client_id)),
                header: Some(("metadata", Secret::new("true"))),
                form: None,
            },
            Identity::App { header, client_id, .. } => TokenRequest {
                path_and_query: format!("?api-version=2019-08-01&resource={resource}{}", by_id(client_id)),
                header: Some(("x-identity-header", header.clone())),
                form: None,
            },
            Identity::Workload { tenant, client_id, .. } => {
                let assertion = assertion.map(Secret::expose).unwrap_or_default();
                let proof = format!(
                    "client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer&client_assertion={}",
                    escape(assertion)
                );
                self.credentials(tenant, client_id, &proof)
            }
            Identity::ClientSecret { tenant, client_id, secret, .. } => {
                self.credentials(tenant, client_id, &format!("client_secret={}", escape(secret.expose())))
            }
        }
    }

    fn credentials(&self, tenant: &str, client_id: &str, proof: &str) -> TokenRequest {
        let (client_id, scope) = (escape(client_id), escape(&self.scope));
        let form = format!("grant_type=client_credentials&client_id={client_id}&scope={scope}&{proof}");
        TokenRequest {
            path_and_query: format!("/{}/oauth2/v2.0/token", escape(tenant)),
            header: None,
            form: Some(Secret::new(form)),
        }
    }
}

fn escape(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    /// Seconds, or the moment in seconds since the epoch; numbers from Entra, texts from managed identities.
    expires_in: Option<Value>,
    expires_on: Option<Value>,
}

#[derive(Deserialize)]
struct Denied {
    error: Option<String>,
    error_description: Option<String>,
}

/// No token is trusted for longer.
const LONGEST_LIFE: Duration = Duration::from_secs(24 * 3600);

/// Reads an answer; the error is a text for operators that holds no secret.
pub fn read(status: u16, body: &[u8], now: WallTime) -> Result<Grant, String> {
    if status != 200 {
        return Err(denial(status, body));
    }
    // The error of the JSON parser might quote the token.
    let granted: Granted = serde_json::from_slice(body).map_err(|_| "the answer holds no access_token".to_owned())?;
    let seconds = |value: &Value| value.as_u64().or_else(|| value.as_str()?.trim().parse().ok());
    let lifetime = match (granted.expires_in.as_ref().and_then(seconds), granted.expires_on.as_ref().and_then(seconds))
    {
        (Some(lifetime), _) => lifetime,
        (None, Some(moment)) => moment.saturating_sub(u64::try_from(now.0 / 1_000_000).unwrap_or_default()),
        (None, None) => return Err("the answer does not say when the token expires".to_owned()),
    };
    let lifetime = Duration::from_secs(lifetime).min(LONGEST_LIFE);
    if lifetime.is_zero() {
        return Err("the token in the answer has expired already; is this machine's clock right?".to_owned());
    }
    if granted.access_token.is_empty() || !granted.access_token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("the token in the answer cannot be sent as a header".to_owned());
    }
    Ok(Grant { token: Secret::new(granted.access_token), lifetime })
}

/// What Entra gives as the reason, without the ids that follow it.
fn denial(status: u16, body: &[u8]) -> String {
    const LONGEST: usize = 300;
    let Ok(Denied { error, error_description }) = serde_json::from_slice(body) else {
        return format!("status {status}");
    };
    let mut text = format!("status {status}");
    for part in [error, error_description].into_iter().flatten() {
        let reason = part.split(" Trace ID").next().unwrap_or_default().lines().next().unwrap_or_default();
        let reason: String = reason.chars().filter(|c| !c.is_control()).take(LONGEST).collect();
        text += &format!(": {}", reason.trim().trim_end_matches('.'));
    }
    text
}

/// How long a token is used before the next is asked for: 80 % of its life, and at least five minutes before its end
/// where it lives that long.
pub fn refresh_after(lifetime: Duration) -> Duration {
    const MARGIN: Duration = Duration::from_secs(300);
    let most = lifetime * 4 / 5;
    if lifetime > MARGIN * 2 { most.min(lifetime - MARGIN) } else { most }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::outbound::Way;

    const SCOPE: &str = "https://cognitiveservices.azure.com/.default";

    fn entra(identity: impl FnOnce(Arc<Endpoint>) -> Identity) -> Entra {
        let endpoint = Endpoint { tls: false, host: "x".into(), port: 80, prefix: String::new(), way: Way::Direct };
        Entra { identity: identity(Arc::new(endpoint)), scope: SCOPE.to_owned() }
    }

    fn secret(secret: &str) -> Entra {
        entra(|authority| Identity::ClientSecret {
            authority,
            tenant: "t/../x".into(),
            client_id: "id".into(),
            secret: Secret::new(secret),
        })
    }

    #[test]
    fn every_protocol_asks_as_it_should() {
        let managed = entra(|endpoint| Identity::Machine { endpoint, client_id: Some("a b".into()) }).request(None);
        assert_eq!(
            managed.path_and_query,
            "?api-version=2018-02-01&resource=https%3A%2F%2Fcognitiveservices.azure.com&client_id=a%20b"
        );
        assert_eq!(managed.header, Some(("metadata", Secret::new("true"))));
        let app = entra(|endpoint| Identity::App { endpoint, header: Secret::new("h"), client_id: None }).request(None);
        assert!(app.path_and_query.starts_with("?api-version=2019-08-01&") && app.form.is_none());
        assert_eq!(app.header, Some(("x-identity-header", Secret::new("h"))));
        let TokenRequest { path_and_query, form, .. } = secret("a+b&c").request(None);
        assert_eq!(path_and_query, "/t%2F..%2Fx/oauth2/v2.0/token");
        assert_eq!(
            form.unwrap().expose(),
            "grant_type=client_credentials&client_id=id&scope=https%3A%2F%2Fcognitiveservices.azure.com%2F.default\
             &client_secret=a%2Bb%26c"
        );
        let workload = entra(|authority| Identity::Workload {
            authority,
            tenant: "t".into(),
            client_id: "id".into(),
            token_file: "x".into(),
        });
        let form = workload.request(Some(&Secret::new("a.b.c"))).form.unwrap();
        assert!(form.expose().ends_with("jwt-bearer&client_assertion=a.b.c"), "{}", form.expose());
    }

    #[test]
    fn another_secret_is_the_same_identity_and_another_scope_is_not() {
        let (one, mut other) = (secret("one"), secret("other"));
        assert!(one != other && one.is_same_identity(&other));
        other.scope = "https://ai.azure.com/.default".into();
        assert!(!one.is_same_identity(&other));
    }

    #[test]
    fn lifetimes_are_read_as_numbers_and_as_texts() {
        let now = WallTime(1_000_000_000);
        let life = |body: &str| read(200, body.as_bytes(), now).map(|grant| grant.lifetime.as_secs());
        assert_eq!(life(r#"{"access_token":"a","expires_in":3599,"ext_expires_in":1}"#), Ok(3599));
        assert_eq!(life(r#"{"access_token":"a","expires_in":"3599","expires_on":"1"}"#), Ok(3599));
        assert_eq!(life(r#"{"access_token":"a","expires_on":"1060"}"#), Ok(60));
        assert_eq!(life(r#"{"access_token":"a","expires_on":1060}"#), Ok(60));
        assert_eq!(life(r#"{"access_token":"a","expires_in":999999999}"#), Ok(86_400));
        for wrong in [
            r#"{"access_token":"a"}"#,
            r#"{"access_token":"a","expires_on":"999"}"#,
            r#"{"access_token":"a\nb","expires_in":9}"#,
            r#"{"access_token":"","expires_in":9}"#,
            "<html>",
        ] {
            assert!(life(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_denial_says_why_in_one_line() {
        let body = br#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret provided. Trace ID: 1 Correlation","error_codes":[7000215]}"#;
        assert_eq!(
            read(401, body, WallTime(0)).unwrap_err(),
            "status 401: invalid_client: AADSTS7000215: Invalid client secret provided"
        );
        assert_eq!(read(502, b"<html>", WallTime(0)).unwrap_err(), "status 502");
    }

    #[test]
    fn the_next_token_is_asked_for_ahead_of_time() {
        let after = |seconds| refresh_after(Duration::from_secs(seconds)).as_secs_f64();
        assert_eq!((after(86_400), after(3600), after(1200), after(5)), (69_120.0, 2880.0, 900.0, 4.0));
        for life in 1..10_000 {
            assert!(after(life) <= life as f64 * 0.8 && after(life) > 0.0, "{life}");
        }
    }
}
