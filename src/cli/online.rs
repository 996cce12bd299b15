//! `aoai-gateway check --online`: whether each resource can be reached, and takes what it is called with.
//!
//! Asked for is its list of models, which costs nothing. Whether its deployments exist is not looked into: that needs a
//! real request to each (`aoai-gateway resources test`).

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::Method;
use actix_web::http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use futures_util::StreamExt;
use serde::Serialize;
use smallvec::smallvec;

use crate::azure::endpoint::Kind;
use crate::azure::request::{KEY_HEADER, models_path};
use crate::domain::ids::ResourceName;
use crate::domain::time;
use crate::settings::model::{Credential, Resource};
use crate::settings::{Place, Problem, Settings};
use crate::upstream::client::{UpstreamClient, UpstreamConfig, UpstreamRequest};
use crate::upstream::credentials;
use crate::upstream::lines::HeaderLines;

/// Resources asked at the same time.
const AT_ONCE: usize = 8;
const PATIENCE: Duration = Duration::from_secs(15);

/// One resource that answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Answered {
    pub resource: String,
    pub status: u16,
    pub ms: u64,
}

/// Those that answered, and what is wrong with any.
pub fn look(settings: &Settings) -> (Vec<Answered>, Vec<Problem>) {
    let config = match UpstreamConfig::new(&[]) {
        Ok(config) => config,
        Err(error) => return (Vec::new(), vec![Problem::error("resources", Place::Nowhere, error.to_string())]),
    };
    let looked: Vec<_> = actix::System::new().block_on(async {
        let client = UpstreamClient::new(&config);
        let enabled = settings.resources.iter().filter(|(_, resource)| resource.enabled);
        let asked = enabled.map(|(name, resource)| ask(&client, name, resource, settings));
        futures_util::stream::iter(asked).buffered(AT_ONCE).collect().await
    });
    let (answered, problems): (Vec<_>, Vec<_>) = looked.into_iter().unzip();
    (answered.into_iter().flatten().collect(), problems.into_iter().flatten().collect())
}

async fn ask(
    client: &UpstreamClient,
    name: &ResourceName,
    resource: &Resource,
    settings: &Settings,
) -> (Option<Answered>, Option<Problem>) {
    let wrong = |key: &str, told: String| Problem::error(format!("resources.{name}.{key}"), Place::Nowhere, told);
    let credential = match authorization(client, resource).await {
        Ok(credential) => credential,
        Err((key, trouble)) => return (None, Some(wrong(key, format!("resources.{name}: {trouble}")))),
    };
    let mut headers = HeaderLines::default();
    let has_credential = credential.is_some();
    if let Some((header, mut value)) = credential {
        value.set_sensitive(true);
        headers.insert(header, value);
    }
    let request = UpstreamRequest {
        endpoint: Arc::new(resource.endpoint.clone()),
        method: Method::GET,
        path_and_query: models_path(resource.kind, &resource.api_version),
        headers,
        body: smallvec![],
        connect_timeout: settings.routing.connect_timeout,
        head_timeout: PATIENCE,
        idle_timeout: PATIENCE,
    };
    let began = time::now();
    let status = match client.send(request).await {
        Ok(answer) => answer.status.as_u16(),
        Err(error) => {
            let told = format!("resources.{name}: {} cannot be reached: {error}", resource.endpoint);
            let tip =
                "check the endpoint, the name's address, and what stands between: firewall, proxy, private network";
            return (None, Some(wrong("endpoint", told).tip(tip)));
        }
    };
    let ms = u64::try_from(time::now().since(began).as_millis()).unwrap_or(u64::MAX);
    let answered = Answered { resource: name.to_string(), status, ms };
    let problem = match status {
        200..300 | 429 => None,
        // Nobody's key came with it.
        401 | 403 if !has_credential => None,
        401 | 403 => {
            let told = format!("resources.{name}: it answers {status} to what it is called with");
            let tip = "401: the key or the identity is not its own; 403: its network rules or its roles keep this machine out";
            Some(wrong(credential_key(resource), told).tip(tip))
        }
        status => {
            let told = format!("resources.{name}: it answers {status} when it is asked for its models");
            let tip = "is the endpoint the resource's own? `aoai-gateway resources test` asks its deployments";
            Some(Problem::warning(format!("resources.{name}.endpoint"), Place::Nowhere, told).tip(tip))
        }
    };
    (Some(answered), problem)
}

fn credential_key(resource: &Resource) -> &'static str {
    match resource.credential {
        Credential::Callers | Credential::Key(_) => "api_key",
        Credential::Entra(_) => "entra",
    }
}

/// The header to call it with; none where each caller brings their own. Else the setting that is wrong, and why.
async fn authorization(
    client: &UpstreamClient,
    resource: &Resource,
) -> Result<Option<(HeaderName, HeaderValue)>, (&'static str, String)> {
    let (name, text) = match (&resource.credential, resource.kind) {
        (Credential::Callers, _) => return Ok(None),
        (Credential::Key(key), Kind::Azure) => (HeaderName::from_static(KEY_HEADER), key.expose().to_owned()),
        (Credential::Key(key), Kind::OpenAi) => (AUTHORIZATION, format!("Bearer {}", key.expose())),
        (Credential::Entra(entra), _) => {
            let granted = credentials::ask(client, entra).await;
            let grant = granted.map_err(|trouble| ("entra", format!("no access token: {trouble}")))?;
            (AUTHORIZATION, format!("Bearer {}", grant.token.expose()))
        }
    };
    let unsendable = |_| (credential_key(resource), "its credential holds a character that cannot be sent".to_owned());
    HeaderValue::try_from(text).map(|value| Some((name, value))).map_err(unsendable)
}
