//! `GET /admin/v1/settings`: what is in force. `…/reload`: what SIGHUP and a changed file do, with an answer. `…/check`:
//! the same up to the point where something would change.

use std::sync::PoisonError;

use actix_web::HttpResponse;
use serde_json::{Value, json};

use super::call::Call;
use super::problem::Problem;
use super::queries::blocking;
use crate::http::state::{House, Reloaded};
use crate::settings::{self, Difference};

/// Secrets are masked where the values are listed, not here.
pub(super) async fn show(call: &Call<'_>) -> Result<HttpResponse, Problem> {
    let house = call.house();
    let origins = house.origins.read().unwrap_or_else(PoisonError::into_inner).clone();
    let data: Vec<Value> = settings::entries(&house.settings())
        .into_iter()
        .map(|entry| {
            json!({
                "key": entry.key,
                "value": entry.json(),
                "origin": entry.origin(&origins).map_or("default".to_owned(), ToString::to_string),
                "needs_restart": settings::needs_restart(&entry.key),
            })
        })
        .collect();
    Ok(HttpResponse::Ok().json(json!({
        "data": data,
        // Those on disk, where they are not the ones in force.
        "refused": house.condition.refused_settings(),
    })))
}

pub(super) async fn reload(call: &Call<'_>) -> Result<HttpResponse, Problem> {
    match call.house().reload_settings().await {
        Some(Reloaded::InForce { changes }) => {
            let (store, by, after) = (call.house().store.clone(), call.by(), json!({ "changes": changes }));
            blocking(move || store.note_change(&by, "settings.reload", "settings", after)).await?;
            // The watcher may have been quicker: then nothing changes here, and still something waits for a restart.
            let house = call.house();
            let needs_restart = settings::restarts(&house.began_with, &house.settings());
            Ok(HttpResponse::Ok().json(json!({ "changes": changes, "needs_restart": needs_restart })))
        }
        Some(Reloaded::Refused { problems }) => Err(Problem::settings(problems)),
        None => Err(nothing_to_load()),
    }
}

/// Loads what a reload would load, now, and says what that would change; nothing does.
pub(super) async fn check(house: &House, body: &[u8]) -> Result<HttpResponse, Problem> {
    if !matches!(body.trim_ascii(), b"" | b"{}") {
        return Err(Problem::bad_request(
            "this takes no body: it checks the files in the settings directory, as a reload would read them",
        ));
    }
    let source = house.settings_source.get().cloned().ok_or_else(nothing_to_load)?;
    let loaded = actix_web::web::block(move || settings::load(&source)).await.map_err(|_| Problem::shutting_down())?;
    let loaded = loaded.map_err(|errors| Problem::settings(errors.mistakes()))?;
    let in_force = house.settings();
    let Difference { resources, deployments, models } = Difference::between(&in_force, &loaded.settings);
    Ok(HttpResponse::Ok().json(json!({
        "changes": settings::diff(&in_force, &loaded.settings),
        "resources": resources,
        "deployments": deployments,
        "models": models,
        "needs_restart": settings::restarts(&house.began_with, &loaded.settings),
        "warnings": loaded.warnings.iter().map(settings::Problem::in_one_line).collect::<Vec<_>>(),
    })))
}

fn nothing_to_load() -> Problem {
    Problem::conflict("this gateway was started without a settings directory; it has nothing to reload")
}
