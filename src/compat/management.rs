//! `/v1/adduser` and `/v1/queryuser`: JSON in, whatever its content type says (`curl -d` calls it a form), and the
//! literal answers of chat_azure.
//!
//! Who may add users: an admin among the older proxy's users, and, where the admin plane shares the port, this gateway's
//! admin key. A user without a name or a token is refused, where chat_azure said "ok" and added nobody.

use actix_web::dev::Payload;
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};

use super::refusals::Said;
use super::users;
use crate::domain::scope::Scope;
use crate::domain::time;
use crate::http::body::{self, BodyLimits};
use crate::http::client_address;
use crate::http::state::{Surface, Worker};
use crate::storage::legacy::{Absent, Declared, LegacyUser, Origin, Standing};
use crate::storage::legacy_file::LegacyFile;
use crate::storage::secret_key::hash;
use crate::storage::{StorageError, Store};

const BODY_LIMIT: usize = 64 * 1024;
/// As long as a credential may be.
const LONGEST_TOKEN: usize = 512;

/// `{"admin_token","username","token"}` → `{"status":"ok"}`.
pub(super) async fn add(request: &HttpRequest, payload: Payload, worker: &web::Data<Worker>) -> HttpResponse {
    let asked = match read(request, payload, worker).await {
        Ok(asked) => asked,
        Err(said) => return said.response(),
    };
    let member = |name: &str| asked.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (admin, name, token) = (member("admin_token"), member("username"), member("token"));
    let house = worker.house.clone();
    // A wrong admin's token here is a wrong admin key there.
    let address = client_address::of(request, &house.settings().server.trusted_proxies);
    if address.is_some_and(|address| !house.guesses.wait(address, time::now()).is_zero()) {
        return Said::line(401, "admin token not found").response();
    }
    let administrator = (worker.surface == Surface::All).then(|| house.admins.find(&admin, time::wall_now())).flatten();
    let is_house_admin = administrator.is_some_and(|administrator| administrator.may(Scope::KeysWrite));
    let added = web::block({
        let (store, compat) = (house.store.clone(), house.settings().compat.clone());
        move || {
            if !is_house_admin && !is_admin(&store, &admin)? {
                return Ok(Some(Said::line(401, "admin token not found")));
            }
            if let Some(mistake) = mistake(&name, &token) {
                return Ok(Some(Said::line(400, mistake)));
            }
            let user = Declared {
                name,
                hash: hash(&token),
                standing: Standing::Normal,
                count: 0,
                created_at: None,
                models: None,
            };
            put(&store, compat.users_file.as_deref(), users::column(&compat), &user)
        }
    });
    match added.await {
        Ok(Ok(None)) => match house.reload_callers().await {
            Ok(()) => Said::text(200, &json!({ "status": "ok" }).to_string()).response(),
            Err(error) => failed(&error),
        },
        Ok(Ok(Some(said))) => {
            if let Some(address) = address.filter(|_| said.status == 401) {
                house.guesses.failed(address, time::now());
            }
            said.response()
        }
        Ok(Err(error)) => failed(&error),
        // The blocking pool is gone: the process is ending.
        Err(_) => Said::line(503, "the gateway is shutting down").response(),
    }
}

/// `{"token"}` → `{"count","status","username"}`, in this order.
pub(super) async fn query(request: &HttpRequest, payload: Payload, worker: &web::Data<Worker>) -> HttpResponse {
    let asked = match read(request, payload, worker).await {
        Ok(asked) => asked,
        Err(said) => return said.response(),
    };
    let Some(token) = asked.get("token").and_then(Value::as_str).map(hash) else {
        return Said::line(400, "token is missing").response();
    };
    let store = worker.house.store.clone();
    match web::block(move || store.legacy_user(&token)).await {
        Ok(Ok(Some(LegacyUser { name, standing, count }))) => {
            let (status, name) = (standing.number(), json!(name));
            Said::text(200, &format!("{{\"count\":{count},\"status\":{status},\"username\":{name}}}")).response()
        }
        Ok(Ok(None)) => Said::line(400, "user not found").response(),
        Ok(Err(error)) => failed(&error),
        Err(_) => Said::line(503, "the gateway is shutting down").response(),
    }
}

async fn read(request: &HttpRequest, mut payload: Payload, worker: &Worker) -> Result<Value, Said> {
    let settings = worker.house.settings();
    let (idle, total) = (settings.server.body_idle_timeout, settings.server.body_timeout);
    let limits = BodyLimits { bytes: BODY_LIMIT, idle, total };
    let body = body::read(request, &mut payload, limits).await;
    let body = body.map_err(|error| Said::line(400, &error.to_string()))?;
    if body.is_empty() {
        return Err(Said::line(400, "EOF"));
    }
    serde_json::from_slice(&body).map_err(|error| Said::line(400, &error.to_string()))
}

fn is_admin(store: &Store, token: &str) -> Result<bool, StorageError> {
    let user = if token.is_empty() { None } else { store.legacy_user(&hash(token))? };
    Ok(user.is_some_and(|user| user.standing == Standing::Admin))
}

/// Why nobody could call by this name and token.
fn mistake(name: &str, token: &str) -> Option<&'static str> {
    if name.is_empty() || token.is_empty() {
        Some("username and token are needed")
    } else if token.len() > LONGEST_TOKEN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        Some("a token has at most 512 visible ASCII characters")
    } else if name.len() > 200 {
        Some("a username has at most 200 characters")
    } else {
        None
    }
}

/// Into the older proxy's table, where there is one that can be written, and into our own. Gives the refusal.
fn put(
    store: &Store,
    file: Option<&std::path::Path>,
    column: crate::storage::legacy_file::Column,
    user: &Declared,
) -> Result<Option<Said>, StorageError> {
    let taken = |column: &str| Ok(Some(Said::line(500, &format!("UNIQUE constraint failed: users.{column}"))));
    let _alone = users::alone();
    if store.has_legacy_user(&user.name)? {
        return taken("username");
    }
    if store.legacy_user(&user.hash)?.is_some() {
        return taken("token");
    }
    let mut origin = Origin::Call;
    if let Some(path) = file {
        let written = LegacyFile::open_or_create(path, column)
            .and_then(|mut file| file.add(&user.name, &user.hash, user.standing));
        match written {
            Ok(()) => origin = Origin::File,
            Err(error) if error.is_conflict() => {
                return taken(if error.to_string().contains("username") { "username" } else { "token" });
            }
            Err(error) => tracing::warn!(%error, "the user is kept in the gateway's own database alone"),
        }
    }
    let followed = store.follow_users(origin, std::slice::from_ref(user), Absent::Kept)?;
    if followed.refused.is_empty() { Ok(None) } else { taken("token") }
}

fn failed(error: &StorageError) -> HttpResponse {
    tracing::error!(%error, "a user could not be looked up or added");
    Said::line(500, "the gateway cannot reach its database right now").response()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::settings::Settings;
    use crate::settings::model::{Compat, Durability, Profile};

    #[test]
    fn who_is_added_while_the_table_is_looked_at_is_not_taken_for_absent() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("gateway.db"), Durability::Process).unwrap();
        let file = folder.path().join("chat.db");
        let known = Settings::default().compat;
        let compat = Compat { profile: Some(Profile::ChatAzure), users_file: Some(file.clone()), ..known };
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    users::sync(&store, &compat).unwrap();
                }
            });
            for n in 0..8 {
                let hash = hash(&format!("token-{n}"));
                let user = Declared {
                    name: format!("user-{n}"),
                    hash,
                    standing: Standing::Normal,
                    count: 0,
                    created_at: None,
                    models: None,
                };
                assert!(put(&store, Some(&file), users::column(&compat), &user).unwrap().is_none());
                let found = store.legacy_user(&hash).unwrap().map(|user| user.standing);
                if found != Some(Standing::Normal) {
                    done.store(true, Ordering::SeqCst);
                }
                assert_eq!(found, Some(Standing::Normal), "user {n}");
            }
            done.store(true, Ordering::SeqCst);
        });
    }
}
