//! `POST /admin/v1/settings/reload`: what SIGHUP and a changed file do, with an answer.

use actix_web::HttpResponse;
use serde_json::json;

use super::problem::Problem;
use crate::http::state::{House, Reloaded};

pub(super) async fn reload(house: &House) -> Result<HttpResponse, Problem> {
    match house.reload_settings().await {
        Some(Reloaded::InForce { changes }) => Ok(HttpResponse::Ok().json(json!({ "changes": changes }))),
        Some(Reloaded::Refused { problems }) => Err(Problem::settings(problems)),
        None => {
            Err(Problem::conflict("this gateway was started without a settings directory; it has nothing to reload"))
        }
    }
}
