//! How a resource is reached and called: its kind, endpoint, way, credential and version.
//!
//! What an address may look like is `endpoint`'s part; here the keys of a resource are weighed against each other.

use std::sync::Arc;

use config::ValueKind;

use super::endpoint::{self, Insecure, Refusal};
use super::files::Target;
use super::identity;
use super::key_path::KeyPath;
use super::model::Credential;
use super::proxy;
use super::reader::Section;
use super::secrets::{self, Missing};
use crate::azure::endpoint::{ApiVersion, Endpoint, Kind};
use crate::domain::outbound::Way;

/// The GA version of the dated family.
const DEFAULT_API_VERSION: &str = "2024-10-21";
/// The `api_key` of a resource that is called with each caller's own.
const CALLERS: &str = "caller:";
const API_VERSION: &str = "\"v1\" or a dated version such as \"2024-10-21\" or \"2025-04-01-preview\"";

pub(super) fn kind(section: &Section<'_>) -> Kind {
    let read = |text: &str| match text {
        "azure" => Some(Kind::Azure),
        "openai" => Some(Kind::OpenAi),
        _ => None,
    };
    section.parsed("kind", "\"azure\" or \"openai\" (any OpenAI-compatible endpoint)", read).unwrap_or_default()
}

pub(super) fn endpoint(section: &Section<'_>, kind: Kind, insecure: Insecure, way: Way) -> Option<Endpoint> {
    let example = match kind {
        Kind::Azure => "https://NAME.openai.azure.com",
        Kind::OpenAi => "https://api.openai.com/v1",
    };
    let path = section.path.child("endpoint");
    if section.value("endpoint").is_none() {
        missing(section, "endpoint", &format!("add endpoint = \"{example}\""));
        return None;
    }
    let text = section.text("endpoint", "text such as \"https://contoso-eastus2.openai.azure.com\"")?;
    match endpoint::parse(text, kind, insecure) {
        Ok(endpoint) => {
            warn_of_endpoint(section, kind, &endpoint);
            Some(Endpoint { way, ..endpoint })
        }
        Err(refusal) => {
            refuse(section, &path, refusal);
            None
        }
    }
}

fn warn_of_endpoint(section: &Section<'_>, kind: Kind, endpoint: &Endpoint) {
    let path = section.path.child("endpoint");
    let (message, tip) = match kind {
        Kind::Azure if !endpoint::is_usual(&endpoint.host) => (
            format!("`{path}`: {} is not a host that Azure gives to OpenAI resources", endpoint.host),
            "right for a private endpoint or a proxy of your own; the resource's key is sent there".to_owned(),
        ),
        Kind::OpenAi if endpoint.prefix.is_empty() => (
            format!("`{path}` has no path, and OpenAI's API usually begins with /v1"),
            format!("write \"{endpoint}/v1\", unless this one answers at /chat/completions"),
        ),
        Kind::Azure | Kind::OpenAi => return,
    };
    section.reader.note(section.reader.warning(&path, Target::Value, message).tip(tip));
}

/// Straight on, unless there is a proxy.
pub(super) fn way(section: &Section<'_>, tolerance: Missing) -> Way {
    proxy::read(section, tolerance).map_or(Way::Direct, Way::Proxy)
}

/// None when it is missing or refused; that has been noted.
pub(super) fn credential(section: &Section<'_>, tolerance: Missing, kind: Kind, way: &Way) -> Option<Credential> {
    let is_set = |key| section.value(key).is_some();
    match (is_set("api_key"), is_set("entra")) {
        (true, false) if matches!(section.value("api_key").map(|value| &value.kind), Some(ValueKind::String(text)) if text == CALLERS) => {
            Some(Credential::Callers)
        }
        (true, false) => secrets::read(section, "api_key", tolerance).map(Credential::Key),
        (false, true) if kind == Kind::OpenAi => {
            let message = format!(
                "{} is for Azure only: an endpoint of kind \"openai\" takes an `api_key`",
                path_of(section, "entra")
            );
            section.reader.note(section.reader.error(&section.path.child("entra"), Target::Key, message));
            None
        }
        (false, true) => {
            let value = section.value("entra")?;
            if !matches!(value.kind, ValueKind::Table(_)) {
                let expected = "a table such as { kind = \"managed_identity\" }";
                section.wrong(&section.path.child("entra"), expected, &value.kind);
                return None;
            }
            identity::read(section.section("entra"), tolerance, way).map(|entra| Credential::Entra(Arc::new(entra)))
        }
        (true, true) => {
            let message = format!(
                "{} stands beside `api_key`, and a resource is called with one of them",
                path_of(section, "entra")
            );
            let problem = section.reader.error(&section.path.child("entra"), Target::Key, message);
            section.reader.note(problem.tip("remove one of the two"));
            None
        }
        (false, false) => {
            missing(section, "api_key", "add api_key = \"env:NAME\" or \"file:/run/secrets/NAME\"");
            None
        }
    }
}

fn path_of(section: &Section<'_>, key: &str) -> String {
    format!("`{}`", section.path.child(key))
}

pub(super) fn version(section: &Section<'_>, kind: Kind) -> ApiVersion {
    let version = section.parsed("api_version", API_VERSION, |text| text.parse().ok());
    match kind {
        Kind::Azure => version.unwrap_or_else(|| ApiVersion::Dated(DEFAULT_API_VERSION.to_owned())),
        Kind::OpenAi => {
            if section.value("api_version").is_some() {
                let path = section.path.child("api_version");
                let message = format!("`{path}` is Azure's: an endpoint of kind \"openai\" has no api-version");
                section.reader.note(section.reader.error(&path, Target::Key, message).tip("remove the line"));
            }
            ApiVersion::V1
        }
    }
}

fn missing(section: &Section<'_>, key: &str, tip: &str) {
    let message = format!("{}: no `{key}`", section.path);
    section.reader.note_missing(section.reader.error(&section.path, Target::Key, message).tip(tip));
}

/// Notes a refusal with its place.
pub(super) fn refuse(section: &Section<'_>, path: &KeyPath, refusal: Refusal) {
    let problem = section.reader.error(path, Target::Value, format!("`{path}` {}", refusal.message));
    section.reader.note(match refusal.tip {
        Some(tip) => problem.tip(tip),
        None => problem,
    });
}
