//! The token endpoints of Entra and of Azure's platforms, played by the resource itself: what they are asked for is
//! checked as they do, and what they give out is what the resource then takes as `Authorization: Bearer`.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde_json::json;

use super::reply::{Answer, Head};
use super::request::Request;
use super::state::Shared;
use crate::domain::time::{self, Timestamp};

/// What an identity must know to be given a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SimulatedIdentity {
    pub tenant: String,
    pub client_id: String,
    pub client_secret: String,
    /// What App Service puts into IDENTITY_HEADER.
    pub header: String,
}

impl Default for SimulatedIdentity {
    fn default() -> Self {
        Self {
            tenant: "contoso.onmicrosoft.com".to_owned(),
            client_id: "11111111-2222-3333-4444-555555555555".to_owned(),
            client_secret: "simulated-client-secret".to_owned(),
            header: "simulated-identity-header".to_owned(),
        }
    }
}

/// One request for a token, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TokenCall {
    /// `client_secret`, `workload_identity`, `machine` or `app`.
    pub protocol: &'static str,
    pub status: u16,
    /// What a workload proved itself with.
    pub assertion: Option<String>,
    pub token: Option<String>,
}

/// Tokens that were given out.
#[derive(Debug, Default)]
pub(super) struct Tokens(Mutex<Given>);

#[derive(Debug, Default)]
struct Given {
    calls: Vec<TokenCall>,
    valid: Vec<(String, Timestamp)>,
}

impl Tokens {
    pub(super) fn calls(&self) -> Vec<TokenCall> {
        self.given().calls.clone()
    }

    /// None of those given out so far is good any more.
    pub(super) fn revoke(&self) {
        self.given().valid.clear();
    }

    pub(super) fn is_valid(&self, token: &str, now: Timestamp) -> bool {
        self.given().valid.iter().any(|(known, expires_at)| known == token && now < *expires_at)
    }

    fn given(&self) -> MutexGuard<'_, Given> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const SCOPE: &str = "https://cognitiveservices.azure.com/.default";
const RESOURCE: &str = "https://cognitiveservices.azure.com";

/// The answer to a request for a token; `None` when it is a request for something else.
pub(super) fn answer(shared: &Shared, request: &Request) -> Option<Answer> {
    let checked = match (request.method.as_str(), request.path()) {
        ("POST", path) if path.ends_with("/oauth2/v2.0/token") => application(shared, request, path),
        ("GET", "/metadata/identity/oauth2/token") => ("machine", None, machine(request)),
        ("GET", "/msi/token") => ("app", None, app(shared, request)),
        _ => return None,
    };
    Some(settle(shared, checked))
}

/// Protocol, assertion, and why there is no token.
type Checked = (&'static str, Option<String>, Result<(), (u16, &'static str, &'static str)>);

fn application(shared: &Shared, request: &Request, path: &str) -> Checked {
    let identity = &shared.resource.identity;
    let form = |name: &str| field(&String::from_utf8_lossy(&request.body), name);
    let assertion = form("client_assertion");
    let protocol = if assertion.is_some() { "workload_identity" } else { "client_secret" };
    let is_jwt = assertion.as_ref().is_some_and(|jwt| jwt.matches('.').count() == 2);
    let is_bearer =
        form("client_assertion_type").as_deref() == Some("urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
    let checked = if path != format!("/{}/oauth2/v2.0/token", identity.tenant) {
        Err((
            400,
            "invalid_request",
            "AADSTS90002: Tenant not found. Check to make sure you have the correct tenant ID.",
        ))
    } else if form("grant_type").as_deref() != Some("client_credentials") {
        Err((400, "unsupported_grant_type", "AADSTS70003: The app requested an unsupported grant type."))
    } else if form("client_id").as_deref() != Some(&identity.client_id) {
        Err((400, "unauthorized_client", "AADSTS700016: Application was not found in the directory."))
    } else if form("scope").as_deref() != Some(SCOPE) {
        Err((400, "invalid_scope", "AADSTS70011: The provided value for the input parameter 'scope' is not valid."))
    } else if assertion.is_some() && !(is_jwt && is_bearer) {
        Err((401, "invalid_client", "AADSTS50027: JWT token is invalid or malformed."))
    } else if assertion.is_none() && form("client_secret").as_deref() != Some(&identity.client_secret) {
        Err((401, "invalid_client", "AADSTS7000215: Invalid client secret provided."))
    } else {
        Ok(())
    };
    (protocol, assertion, checked)
}

fn machine(request: &Request) -> Result<(), (u16, &'static str, &'static str)> {
    if request.header("metadata") != Some("true") {
        return Err((400, "invalid_request", "Required metadata header not specified"));
    }
    query(request, "2018-02-01")
}

fn app(shared: &Shared, request: &Request) -> Result<(), (u16, &'static str, &'static str)> {
    if request.header("x-identity-header") != Some(&shared.resource.identity.header) {
        return Err((401, "unauthorized", "The X-IDENTITY-HEADER is wrong."));
    }
    query(request, "2019-08-01")
}

fn query(request: &Request, version: &str) -> Result<(), (u16, &'static str, &'static str)> {
    if request.query("api-version") != Some(version) {
        return Err((400, "bad_request_103", "Unsupported api-version."));
    }
    if request.query("resource").map(decoded).as_deref() != Some(RESOURCE) {
        return Err((400, "invalid_resource", "AADSTS500011: The resource principal was not found."));
    }
    Ok(())
}

fn settle(shared: &Shared, (protocol, assertion, checked): Checked) -> Answer {
    let (lifetime, status) = {
        let knobs = shared.knobs();
        (knobs.token_lifetime_s, knobs.token_status)
    };
    let mut given = shared.tokens.given();
    let number = given.calls.len();
    let checked = match status {
        200 => checked,
        status => Err((status, "temporarily_unavailable", "AADSTS90033: A transient error has occurred.")),
    };
    if let Err((status, error, text)) = checked {
        given.calls.push(TokenCall { protocol, status, assertion, token: None });
        let text = format!("{text} Trace ID: 0 Correlation ID: {number}");
        return Answer::json(Head::new(status), json!({"error": error, "error_description": text}).to_string());
    }
    // Shaped as a JWT, and like nothing else that could be looked for.
    let token = format!("eyJ0eXAi.simulated-{}-{number}.{:016x}", shared.resource.name, fastrand::u64(..));
    given.valid.push((token.clone(), time::now().after(Duration::from_secs(lifetime))));
    given.calls.push(TokenCall { protocol, status: 200, assertion, token: Some(token.clone()) });
    let expires_on = (u64::try_from(time::wall_now().0 / 1_000_000).unwrap_or_default() + lifetime).to_string();
    let body = match protocol {
        "machine" => json!({
            "access_token": token, "refresh_token": "", "expires_in": lifetime.to_string(), "expires_on": expires_on,
            "not_before": "0", "resource": RESOURCE, "token_type": "Bearer",
        }),
        "app" => json!({
            "access_token": token, "expires_on": expires_on, "resource": RESOURCE, "token_type": "Bearer",
            "client_id": shared.resource.identity.client_id,
        }),
        _ => json!({
            "token_type": "Bearer", "expires_in": lifetime, "ext_expires_in": lifetime, "access_token": token,
        }),
    };
    Answer::json(Head::new(200), body.to_string())
}

/// A field of a form.
fn field(form: &str, name: &str) -> Option<String> {
    form.split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| decoded(value))
}

fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}
