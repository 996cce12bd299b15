//! `/admin/v1/keys`: make, list, show, revoke.

use actix_web::http::header::{HOST, LOCATION};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Map, Value, json};

use super::Query;
use super::problem::{FieldError, Problem, did_you_mean};
use super::queries::{blocking, page};
use super::quotas;
use crate::domain::class::{Class, UnknownClass};
use crate::domain::ids::{KeyId, ModelName};
use crate::domain::regions::Regions;
use crate::domain::time::WallTime;
use crate::http::state::House;
use crate::settings::Settings;
use crate::settings::regions;
use crate::storage::keys::{KeyLimits, Limit, NewKey, Revoked};
use crate::storage::quotas::Owner;
use crate::storage::secret_key::KeySecret;

pub(super) async fn list(house: &House, query: &Query) -> Result<HttpResponse, Problem> {
    query.only(&["limit", "cursor"])?;
    let (cursor, size) = page(query)?;
    let store = house.store.clone();
    Ok(HttpResponse::Ok().json(blocking(move || store.list_keys(cursor, size)).await?))
}

pub(super) async fn show(house: &House, id: &str) -> Result<HttpResponse, Problem> {
    let id = parse_id(id)?;
    let store = house.store.clone();
    match blocking(move || store.key(id)).await? {
        Some(key) => {
            let mut answer = serde_json::to_value(&key).map_err(|_| Problem::shutting_down())?;
            answer["quota"] = quotas::quota_of(house, Owner::Key(id));
            Ok(HttpResponse::Ok().json(answer))
        }
        None => Err(no_such_key(id)),
    }
}

/// The row stays, because requests go on naming the key. It is refused from the answer on.
pub(super) async fn revoke(house: &House, id: &str) -> Result<HttpResponse, Problem> {
    let id = parse_id(id)?;
    let store = house.store.clone();
    match blocking(move || store.revoke_key(id)).await? {
        Revoked::Now | Revoked::Before => {
            house.reload_callers().await?;
            Ok(HttpResponse::NoContent().finish())
        }
        Revoked::NoSuchKey => Err(no_such_key(id)),
    }
}

/// 201 with the secret, which is shown this once.
pub(super) async fn create(house: &House, body: &[u8], request: &HttpRequest) -> Result<HttpResponse, Problem> {
    let (new, warnings) = read_new_key(body, &house.settings())?;
    let secret = new.secret.text.clone();
    let store = house.store.clone();
    let created = actix_web::web::block(move || store.create_key(&new)).await.map_err(|_| Problem::shutting_down())?;
    let key = created.map_err(|error| match error.is_conflict() {
        true => Problem::conflict("this secret is in use already; choose another, or leave `secret` out"),
        false => error.into(),
    })?;
    house.reload_callers().await?;
    let location = format!("/admin/v1/keys/{}", key.id);
    let mut answer = serde_json::to_value(&key).map_err(|_| Problem::shutting_down())?;
    answer["secret"] = json!(secret);
    answer["share"] = share(&secret, request);
    answer["quota"] = quotas::quota_of(house, Owner::Key(key.id));
    if !warnings.is_empty() {
        answer["warnings"] = json!(warnings);
    }
    Ok(HttpResponse::Created().insert_header((LOCATION, location)).json(answer))
}

/// What to hand to the key's owner. The link's place of ChatGPT-Next-Web is not known here, so it is relative to it.
fn share(secret: &str, request: &HttpRequest) -> Value {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
    let scheme = request
        .headers()
        .get("x-forwarded-proto")
        .and_then(|scheme| scheme.to_str().ok())
        .filter(|scheme| *scheme == "https");
    let base = format!("{}://{host}", scheme.unwrap_or("http"));
    let settings = json!({ "key": secret, "url": base }).to_string();
    let link = percent_encoding::utf8_percent_encode(&settings, percent_encoding::NON_ALPHANUMERIC);
    json!({
        "nextchat": format!("/#/?settings={link}"),
        "env": format!("OPENAI_BASE_URL={base}/v1\nOPENAI_API_KEY={secret}"),
    })
}

fn parse_id(id: &str) -> Result<KeyId, Problem> {
    id.parse()
        .map_err(|_| Problem::not_found(format!("`{}` is no key's id; they begin with key_", super::printable(id))))
}

fn no_such_key(id: KeyId) -> Problem {
    Problem::not_found(format!("there is no key {id}"))
}

/// Reads the body member by member, so that every mistake is named in one answer. With the key come warnings.
fn read_new_key(body: &[u8], settings: &Settings) -> Result<(NewKey, Vec<String>), Problem> {
    const FIELDS: [&str; 9] = ["name", "user", "secret", "models", "regions", "class", "limits", "quota", "expires_at"];
    let value: Value =
        serde_json::from_slice(body).map_err(|error| Problem::bad_request(format!("the body is not JSON: {error}")))?;
    let Value::Object(members) = value else { return Err(Problem::bad_request("the body must be a JSON object")) };
    let mut reader = Reader { errors: Vec::new(), warnings: Vec::new() };
    reader.only(&members, "", &FIELDS);
    let name = reader.text(&members, "name");
    if name.as_deref().is_none_or(|name| name.trim().is_empty() || name.len() > 200) {
        reader.wrong("/name", "expected a name of 1 to 200 characters");
    }
    let user = reader.text(&members, "user");
    let secret = match reader.text(&members, "secret").map(|text| KeySecret::chosen(&text)) {
        None => KeySecret::generate().map_err(|error| Problem::bad_request(error.to_string()))?,
        Some(Ok(secret)) => secret,
        Some(Err(error)) => {
            reader.wrong("/secret", &error.to_string());
            KeySecret::generate().map_err(|error| Problem::bad_request(error.to_string()))?
        }
    };
    let models = reader.models(&members);
    let regions = reader.regions(&members, settings);
    let class = match reader.text(&members, "class").map(|text| text.parse()) {
        None => Class::default(),
        Some(Ok(class)) => class,
        Some(Err(UnknownClass)) => {
            reader.wrong("/class", &UnknownClass.to_string());
            Class::default()
        }
    };
    let limits = reader.limits(&members);
    let quota = match members.get("quota") {
        Some(quota) => quotas::read_terms(quota, "/quota", &mut reader.errors),
        None => None,
    };
    let expires_at = reader.text(&members, "expires_at").and_then(|text| match text.parse::<jiff::Timestamp>() {
        Ok(at) => Some(WallTime(at.as_microsecond())),
        Err(_) => {
            reader.wrong("/expires_at", "expected a time such as 2027-06-30T00:00:00Z");
            None
        }
    });
    match reader.errors.is_empty() {
        true => {
            let name = name.unwrap_or_default();
            Ok((NewKey { name, user, secret, models, regions, class, limits, quota, expires_at }, reader.warnings))
        }
        false => Err(Problem::invalid(reader.errors)),
    }
}

struct Reader {
    errors: Vec<FieldError>,
    warnings: Vec<String>,
}

impl Reader {
    fn wrong(&mut self, pointer: &str, detail: &str) {
        self.errors.push(FieldError { pointer: pointer.to_owned(), detail: detail.to_owned() });
    }

    fn only(&mut self, members: &Map<String, Value>, at: &str, allowed: &[&str]) {
        for name in members.keys().filter(|name| !allowed.contains(&name.as_str())) {
            self.wrong(
                &format!("{at}/{}", super::printable(name)),
                &format!("unknown field; {}", did_you_mean(name, allowed)),
            );
        }
    }

    fn text(&mut self, members: &Map<String, Value>, name: &str) -> Option<String> {
        match members.get(name)? {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                self.wrong(&format!("/{name}"), "expected a string");
                None
            }
        }
    }

    fn models(&mut self, members: &Map<String, Value>) -> Option<Vec<ModelName>> {
        let value = members.get("models").filter(|value| !value.is_null())?;
        let names =
            value.as_array().and_then(|names| names.iter().map(|name| name.as_str().map(ModelName::from)).collect());
        if names.is_none() {
            self.wrong("/models", "expected a list of model names, or nothing for every model");
        }
        names
    }

    fn regions(&mut self, members: &Map<String, Value>, settings: &Settings) -> Regions {
        let Some(value) = members.get("regions").filter(|value| !value.is_null()) else { return Regions::default() };
        let names: Option<Vec<&str>> = value
            .as_array()
            .and_then(|names| names.iter().map(Value::as_str).collect())
            .filter(|names: &Vec<_>| !names.is_empty());
        let Some(names) = names else {
            self.wrong(
                "/regions",
                "expected a list of regions such as [\"swedencentral\"], or nothing for every region",
            );
            return Regions::default();
        };
        let mut codes = Vec::new();
        for (index, name) in names.into_iter().enumerate() {
            match regions::named(name, settings) {
                Ok(named) => {
                    codes.push(named.code);
                    self.warnings.extend(named.warning);
                }
                Err(mistake) => self.wrong(&format!("/regions/{index}"), &mistake),
            }
        }
        Regions::only(codes)
    }

    fn limits(&mut self, members: &Map<String, Value>) -> KeyLimits {
        let Some(value) = members.get("limits").filter(|value| !value.is_null()) else { return KeyLimits::default() };
        let Value::Object(limits) = value else {
            self.wrong("/limits", "expected an object such as {\"rpm\": 60, \"tpm\": 60000, \"concurrency\": 4}");
            return KeyLimits::default();
        };
        self.only(limits, "/limits", &["rpm", "tpm", "concurrency"]);
        let [rpm, tpm, concurrency] = ["rpm", "tpm", "concurrency"].map(|name| self.limit(limits, name));
        KeyLimits { rpm, tpm, concurrency }
    }

    fn limit(&mut self, limits: &Map<String, Value>, name: &str) -> Limit {
        match limits.get(name) {
            None | Some(Value::Null) => Limit::Inherit,
            Some(Value::String(text)) if text == "unlimited" => Limit::Unlimited,
            Some(value) => match value.as_u64().and_then(|limit| u32::try_from(limit).ok()) {
                Some(limit) => Limit::Of(limit),
                None => {
                    self.wrong(
                        &format!("/limits/{name}"),
                        "expected a whole number, \"unlimited\", or null for the default",
                    );
                    Limit::Inherit
                }
            },
        }
    }
}
