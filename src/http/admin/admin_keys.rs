//! `/admin/v1/admin-keys`: credentials of the admin plane that can do less than the first admin key, end by themselves,
//! and are told apart in the audit. The first one is not here: it is in the settings, or was made at the first start.

use actix_web::HttpResponse;
use actix_web::http::header::LOCATION;
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::call::{Call, listed, printable};
use super::members::{self, Reader};
use super::problem::Problem;
use super::queries::{blocking, page};
use crate::domain::ids::AdminKeyId;
use crate::domain::scope::Scope;
use crate::http::admins::Administrator;
use crate::storage::keys::Revoked;
use crate::storage::secret_key;

/// What may be said of one.
pub(super) const FIELDS: [&str; 3] = ["name", "scopes", "expires_at"];

pub(super) async fn list(call: &Call<'_>) -> Result<HttpResponse, Problem> {
    let (cursor, size) = page(&call.query)?;
    let store = call.house().store.clone();
    Ok(listed(&blocking(move || store.list_admin_keys(cursor, size)).await?))
}

pub(super) async fn show(call: &Call<'_>) -> Result<HttpResponse, Problem> {
    let (id, store) = (parse_id(call.id)?, call.house().store.clone());
    let key = blocking(move || store.admin_key(id)).await?.ok_or_else(|| no_such_key(id))?;
    Ok(HttpResponse::Ok().json(key))
}

/// Who asks. A page that knows it offers nothing that would be refused.
#[derive(Serialize, ToSchema)]
#[schema(as = OwnAdminKey)]
pub struct OwnView {
    /// Null: the first admin key.
    pub id: Option<String>,
    pub name: String,
    /// Some of `admin`, `keys:write`, `read`; each holds those after it.
    pub scopes: Vec<&'static str>,
}

pub(super) fn own(call: &Call<'_>) -> HttpResponse {
    let Administrator { id, name, scopes } = &call.who;
    let scopes = scopes.iter().map(|scope| scope.label()).collect();
    HttpResponse::Ok().json(OwnView { id: id.map(|id| id.to_string()), name: name.clone(), scopes })
}

/// 201 with the secret, which is shown this once.
pub(super) async fn create(call: &Call<'_>) -> Result<HttpResponse, Problem> {
    let members = members::object(&call.body)?;
    let mut reader = Reader::default();
    reader.only(&members, "", &FIELDS);
    let name = reader.name(&members);
    let scopes = scopes(&mut reader, &members);
    let expires_at = reader.time(&members, "expires_at");
    let ((name, scopes, expires_at), _) = reader.done((name, scopes, expires_at))?;
    let secret = secret_key::generate_admin_key().map_err(|error| Problem::unavailable(error.to_string()))?;
    let (store, by, hash) = (call.house().store.clone(), call.by(), secret_key::hash(&secret));
    let key = blocking(move || store.create_admin_key(&name, hash, &scopes, expires_at, &by)).await?;
    call.house().reload_callers().await?;
    let location = format!("/admin/v1/admin-keys/{}", key.id);
    let mut answer = serde_json::to_value(&key).map_err(|_| Problem::shutting_down())?;
    answer["secret"] = json!(secret);
    Ok(HttpResponse::Created().insert_header((LOCATION, location)).json(answer))
}

/// It is refused from the answer on.
pub(super) async fn revoke(call: &Call<'_>) -> Result<HttpResponse, Problem> {
    let id = parse_id(call.id)?;
    let (store, by) = (call.house().store.clone(), call.by());
    match blocking(move || store.revoke_admin_key(id, &by)).await? {
        Revoked::Now | Revoked::Before => {
            call.house().reload_callers().await?;
            Ok(HttpResponse::NoContent().finish())
        }
        Revoked::NoSuchKey => Err(no_such_key(id)),
    }
}

fn scopes(reader: &mut Reader, members: &Map<String, Value>) -> Vec<Scope> {
    let named: Option<Vec<&str>> =
        members.get("scopes").and_then(Value::as_array).and_then(|all| all.iter().map(Value::as_str).collect());
    let Some(named) = named.filter(|named| !named.is_empty()) else {
        reader.wrong("/scopes", "expected a list of `admin`, `keys:write`, `read`, such as [\"read\"]");
        return Vec::new();
    };
    let mut scopes = Vec::new();
    for (index, name) in named.into_iter().enumerate() {
        match name.parse() {
            Ok(scope) => scopes.push(scope),
            Err(error) => reader.wrong(&format!("/scopes/{index}"), &format!("{error}, not `{}`", printable(name))),
        }
    }
    scopes.sort_unstable();
    scopes.dedup();
    scopes
}

fn parse_id(id: &str) -> Result<AdminKeyId, Problem> {
    let why = || format!("`{}` is no admin key's id; they begin with adm_", printable(id));
    id.parse().map_err(|_| Problem::not_found(why()))
}

fn no_such_key(id: AdminKeyId) -> Problem {
    Problem::not_found(format!("there is no admin key {id}"))
}
