//! `POST /admin/v1/settings/reload`: what SIGHUP and a changed file do, with an answer. `…/check`: the same up to the
//! point where something would change.

use actix_web::HttpResponse;
use serde_json::json;

use super::problem::Problem;
use crate::http::state::{House, Reloaded};
use crate::settings::{self, Difference};

pub(super) async fn reload(house: &House) -> Result<HttpResponse, Problem> {
    match house.reload_settings().await {
        Some(Reloaded::InForce { changes }) => Ok(HttpResponse::Ok().json(json!({ "changes": changes }))),
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
    let Difference { resources, deployments, models, needs_restart } = Difference::between(&in_force, &loaded.settings);
    Ok(HttpResponse::Ok().json(json!({
        "changes": settings::diff(&in_force, &loaded.settings),
        "resources": resources,
        "deployments": deployments,
        "models": models,
        "needs_restart": needs_restart,
        "warnings": loaded.warnings.iter().map(settings::Problem::in_one_line).collect::<Vec<_>>(),
    })))
}

fn nothing_to_load() -> Problem {
    Problem::conflict("this gateway was started without a settings directory; it has nothing to reload")
}
