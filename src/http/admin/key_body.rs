//! The bodies that describe a key. A new key and a changed one are read by the same code: a merge patch (RFC 7396) is
//! applied to what the key is, and the result is read like a new one.

use serde_json::{Map, Value, json};

use super::call::printable;
use super::members::{Reader, Unreadable, object};
use super::quotas;
use crate::domain::class::{Class, UnknownClass};
use crate::domain::ids::ModelName;
use crate::domain::regions::{RegionCode, Regions};
use crate::settings::Settings;
use crate::settings::regions;
use crate::storage::key_changes::{KeySpec, Owner};
use crate::storage::keys::{KeyLimits, KeyRow, Limit};
use crate::storage::page::rfc3339;
use crate::storage::quotas::QuotaTerms;
use crate::storage::secret_key::KeySecret;

/// What may be said of a key when it is made.
pub(super) const NEW: [&str; 9] =
    ["name", "user", "secret", "models", "regions", "class", "limits", "quota", "expires_at"];
/// What may be changed later.
pub(super) const CHANGEABLE: [&str; 7] = ["name", "user", "models", "regions", "class", "limits", "expires_at"];
pub(super) const LIMITS: [&str; 3] = ["rpm", "tpm", "concurrency"];

/// What a body says of a new key.
type New = (KeySpec, KeySecret, Option<QuotaTerms>);

/// A new key, its secret, and its quota if it has one. With it come warnings.
pub fn new_key(body: &[u8], settings: &Settings) -> Result<(New, Vec<String>), Unreadable> {
    let members = object(body)?;
    let mut reader = Reader::default();
    reader.only(&members, "", &NEW);
    let secret = secret(&mut reader, &members)?;
    let spec = spec(&mut reader, &members, settings);
    let quota = members.get("quota").and_then(|quota| quotas::read_terms(&mut reader, quota, "/quota"));
    reader.done((spec, secret, quota))
}

/// What a key becomes by a merge patch.
pub fn changed_key(key: &KeyRow, body: &[u8], settings: &Settings) -> Result<(KeySpec, Vec<String>), Unreadable> {
    let mut patch = object(body)?;
    let mut reader = Reader::default();
    if patch.remove("quota").is_some() {
        reader.wrong("/quota", "a quota is replaced as a whole, at its own place: PUT /admin/v1/keys/{id}/quota");
    }
    reader.only(&patch, "", &CHANGEABLE);
    let mut merged = described(key);
    // Regions that the settings know no more are nobody's mistake as long as nobody names them.
    let keeps_regions = !patch.contains_key("regions");
    merge(&mut merged, &Value::Object(patch));
    let Value::Object(members) = merged else { return Err(Unreadable::Body("the body must be a JSON object".into())) };
    let mut spec = spec(&mut reader, &members, settings);
    if keeps_regions {
        spec.regions = key.regions.clone();
    }
    reader.done(spec)
}

/// The secret that was chosen, else a new one.
pub(super) fn secret(reader: &mut Reader, members: &Map<String, Value>) -> Result<KeySecret, Unreadable> {
    let chosen = reader.text(members, "secret").map(|text| KeySecret::chosen(&text));
    match chosen {
        Some(Ok(secret)) => return Ok(secret),
        Some(Err(error)) => reader.wrong("/secret", &error.to_string()),
        None => {}
    }
    KeySecret::generate().map_err(|error| Unreadable::Body(error.to_string()))
}

/// A key as its own body, without regions.
fn described(key: &KeyRow) -> Value {
    json!({
        "name": key.name,
        "user": key.user.as_ref().map(|user| user.id.to_string()),
        "models": key.models.as_ref().map(|models| models.iter().map(ModelName::as_str).collect::<Vec<_>>()),
        "class": key.class.label(),
        "limits": key.limits,
        "expires_at": key.expires_at.map(rfc3339),
    })
}

/// RFC 7396.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else { return };
    for (name, value) in patch {
        if value.is_null() {
            target.remove(name);
        } else {
            merge(target.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

fn spec(reader: &mut Reader, members: &Map<String, Value>, settings: &Settings) -> KeySpec {
    let name = reader.name(members);
    let user = reader.label(members, "user").map(|text| match text.parse() {
        Ok(id) => Owner::Known(id),
        Err(_) => Owner::Named(text),
    });
    let models = models(reader, members);
    let regions = regions(reader, members, settings);
    let class = match reader.text(members, "class").map(|text| text.parse()) {
        None => Class::default(),
        Some(Ok(class)) => class,
        Some(Err(UnknownClass)) => {
            reader.wrong("/class", &UnknownClass.to_string());
            Class::default()
        }
    };
    let limits = limits(reader, members);
    let expires_at = reader.time(members, "expires_at");
    KeySpec { name, user, models, regions, class, limits, expires_at }
}

fn models(reader: &mut Reader, members: &Map<String, Value>) -> Option<Vec<ModelName>> {
    let value = members.get("models").filter(|value| !value.is_null())?;
    let names: Option<Vec<&str>> = value.as_array().and_then(|names| names.iter().map(Value::as_str).collect());
    let Some(names) = names else {
        reader.wrong("/models", "expected a list of model names, or nothing for every model");
        return None;
    };
    for (index, name) in names.iter().enumerate() {
        if name.is_empty() || name.len() > 200 || name.chars().any(char::is_control) {
            let detail = format!("`{}` is no model's name", printable(name));
            reader.wrong(&format!("/models/{index}"), &detail);
        }
    }
    Some(names.into_iter().map(ModelName::from).collect())
}

fn regions(reader: &mut Reader, members: &Map<String, Value>, settings: &Settings) -> Regions {
    let Some(value) = members.get("regions").filter(|value| !value.is_null()) else { return Regions::default() };
    let names: Option<Vec<&str>> = value
        .as_array()
        .and_then(|names| names.iter().map(Value::as_str).collect())
        .filter(|names: &Vec<_>| !names.is_empty());
    let Some(names) = names else {
        reader.wrong("/regions", "expected a list of regions such as [\"swedencentral\"], or nothing for every region");
        return Regions::default();
    };
    let mut codes: Vec<RegionCode> = Vec::new();
    for (index, name) in names.into_iter().enumerate() {
        match regions::named(name, settings) {
            Ok(named) => {
                codes.push(named.code);
                reader.warnings.extend(named.warning);
            }
            Err(mistake) => reader.wrong(&format!("/regions/{index}"), &mistake),
        }
    }
    Regions::only(codes)
}

fn limits(reader: &mut Reader, members: &Map<String, Value>) -> KeyLimits {
    let Some(value) = members.get("limits").filter(|value| !value.is_null()) else { return KeyLimits::default() };
    let Value::Object(limits) = value else {
        reader.wrong("/limits", "expected an object such as {\"rpm\": 60, \"tpm\": 60000, \"concurrency\": 4}");
        return KeyLimits::default();
    };
    reader.only(limits, "/limits", &LIMITS);
    let [rpm, tpm, concurrency] = LIMITS.map(|name| limit(reader, limits, "/limits", name));
    KeyLimits { rpm, tpm, concurrency }
}

pub(super) fn limit(reader: &mut Reader, limits: &Map<String, Value>, at: &str, name: &str) -> Limit {
    match limits.get(name) {
        None | Some(Value::Null) => Limit::Inherit,
        Some(Value::String(text)) if text == "unlimited" => Limit::Unlimited,
        Some(value) => match value.as_u64().and_then(|limit| u32::try_from(limit).ok()) {
            Some(limit) => Limit::Of(limit),
            None => {
                let detail = "expected a whole number, \"unlimited\", or null for the default";
                reader.wrong(&format!("{at}/{name}"), detail);
                Limit::Inherit
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::{KeyId, UserId};
    use crate::domain::time::WallTime;
    use crate::storage::keys::KeyUser;

    fn key() -> KeyRow {
        KeyRow {
            id: KeyId::generate(),
            name: "alice".into(),
            user: Some(KeyUser { id: UserId::generate(), name: "Alice".into() }),
            hash: [0; 32],
            prefix: String::new(),
            models: Some(vec!["gpt-4.1".into()]),
            regions: Regions::only([RegionCode::of("atlantis")]),
            class: Class::Batch,
            limits: KeyLimits { rpm: Limit::Of(60), tpm: Limit::Of(9_000), concurrency: Limit::Unlimited },
            expires_at: Some(WallTime(4_000_000_000_000_000)),
            revoked_at: None,
            created_at: WallTime(0),
        }
    }

    fn patched(key: &KeyRow, patch: &str) -> Result<KeySpec, Unreadable> {
        changed_key(key, patch.as_bytes(), &Settings::default()).map(|(spec, _)| spec)
    }

    #[test]
    fn a_patch_changes_what_it_names_and_null_takes_away() {
        let key = key();
        let unchanged = patched(&key, "{}").unwrap();
        let same = KeySpec {
            name: "alice".into(),
            user: key.user.as_ref().map(|user| Owner::Known(user.id)),
            models: key.models.clone(),
            regions: key.regions.clone(),
            class: key.class,
            limits: key.limits,
            expires_at: key.expires_at,
        };
        assert_eq!(unchanged, same);
        let one = patched(&key, r#"{"limits":{"rpm":5}}"#).unwrap();
        assert_eq!(one, KeySpec { limits: KeyLimits { rpm: Limit::Of(5), ..key.limits }, ..same.clone() });
        let all = patched(&key, r#"{"limits":null,"models":null,"expires_at":null,"user":null,"class":null}"#).unwrap();
        let bare = KeySpec {
            limits: KeyLimits::default(),
            models: None,
            expires_at: None,
            user: None,
            class: Class::default(),
            ..same
        };
        assert_eq!(all, bare);
        assert_eq!(patched(&key, r#"{"regions":null}"#).unwrap().regions, Regions::default());
    }

    #[test]
    fn each_mistake_has_its_place() {
        let body = r#"{"nmae":"x","name":"a\nb","limits":{"rmp":1,"rpm":-1},"models":["a\u0000"],"class":7,"user":""}"#;
        let Err(Unreadable::Members(errors)) = new_key(body.as_bytes(), &Settings::default()) else {
            panic!("it was taken")
        };
        let pointers: Vec<_> = errors.iter().map(|error| error.pointer.as_str()).collect();
        assert_eq!(pointers, ["/nmae", "/name", "/user", "/models/0", "/class", "/limits/rmp", "/limits/rpm"]);
        assert!(errors[0].detail.contains("did you mean `name`?"));
        assert!(matches!(patched(&key(), r#"{"name":null}"#), Err(Unreadable::Members(_))));
        let Err(Unreadable::Members(errors)) = patched(&key(), r#"{"quota":null}"#) else { panic!("it was taken") };
        assert!(errors.len() == 1 && errors[0].detail.contains("PUT"), "{errors:?}");
        assert!(matches!(patched(&key(), r#"{"secret":"12345678"}"#), Err(Unreadable::Members(_))));
        for body in ["", "[]", "{"] {
            assert!(matches!(patched(&key(), body), Err(Unreadable::Body(_))), "{body}");
        }
    }
}
