//! What `check --online` finds out beyond the files: one tiny real request to each deployment, as the settings say.
//!
//! It is made by a gateway that nobody else reaches and whose books are thrown away, so it goes the way of every other
//! request, with the credentials, proxies and api-versions of the settings. Users and their tokens are left alone.

use std::net::{Ipv4Addr, SocketAddr};

use actix_web::http::Method;
use serde_json::Value;
use tokio::sync::oneshot;

use super::admin_client::{Failure, segment};
use super::line::Line;
use super::print::cell;
use crate::domain::secret::Secret;
use crate::server::Gateway;
use crate::settings::model::{AdminListen, Credential, Database};
use crate::settings::{Place, Problem, Settings};
use crate::storage::secret_key;

/// What was asked, and what is wrong with it.
#[derive(Debug, Default)]
pub struct Looked {
    pub answered: usize,
    pub problems: Vec<Problem>,
}

/// Asks every deployment of every enabled resource that has a credential of its own.
pub fn look(settings: &Settings) -> Looked {
    let is_asked = |name: &str| {
        let resource = &settings.resources[name];
        resource.enabled && resource.credential != Credential::Callers
    };
    let resources: Vec<String> =
        settings.resources.keys().map(ToString::to_string).filter(|name| is_asked(name)).collect();
    let mut looked = Looked::default();
    if resources.is_empty() {
        return looked;
    }
    let problem = |error: &dyn std::fmt::Display| {
        Problem::error("resources", Place::Nowhere, format!("the resources could not be asked: {error}"))
    };
    match ask(settings, &resources) {
        Ok(answers) => answers.iter().for_each(|(resource, answer)| looked.judge(resource, answer)),
        Err(error) => looked.problems.push(problem(&error)),
    }
    looked
}

impl Looked {
    fn judge(&mut self, resource: &str, answer: &Value) {
        let Some(results) = answer["deployments"].as_array() else {
            let (key, cause) = (format!("resources.{resource}"), cell(&answer["detail"]));
            let message = format!("`{key}` could not be asked: {cause}");
            return self.problems.push(Problem::error(key, Place::Nowhere, message));
        };
        for result in results {
            if result["ok"] == true {
                self.answered += 1;
                continue;
            }
            let key = format!("resources.{resource}.deployments.{:?}", cell(&result["deployment"]));
            let status = result["status"].as_u64().map_or_else(String::new, |status| format!(" ({status})"));
            let message = format!("`{key}`{status}: {}", cell(&result["meaning"]));
            // A quota that is used up for the moment is no mistake of the settings.
            self.problems.push(match result["status"].as_u64() {
                Some(429) => Problem::warning(key, Place::Nowhere, message),
                Some(_) | None => Problem::error(key, Place::Nowhere, message),
            });
        }
    }
}

/// What each resource's test says.
fn ask(settings: &Settings, resources: &[String]) -> Result<Vec<(String, Value)>, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::Refused(error.to_string());
    let folder = tempfile::Builder::new().prefix("aoai-gateway-check-").tempdir().map_err(|error| failed(&error))?;
    let key = secret_key::generate_admin_key().map_err(|error| failed(&error))?;
    let mut settings = settings.clone();
    settings.server.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    settings.server.workers = 1;
    settings.admin.listen = AdminListen::Same;
    settings.admin.key = Some(Secret::new(key.as_str()));
    settings.database = Database { path: folder.path().join("gateway.db"), server: None };
    settings.compat = Settings::default().compat;
    let (told, started) = std::sync::mpsc::channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let gateway = std::thread::spawn(move || {
        actix::System::new().block_on(async move {
            match Gateway::build(settings, None).await {
                Ok(gateway) => {
                    // Whoever waits for it is there until it has ended.
                    let _ = told.send(Ok(gateway.address()));
                    gateway.run(async { drop(stopped.await) }).await;
                }
                Err(error) => drop(told.send(Err(error.to_string()))),
            }
        });
    });
    let asked = started.recv().map_err(|error| failed(&error)).and_then(|address| {
        let line =
            Line::new(&format!("http://{}", address.map_err(|error| failed(&error))?), &Secret::new(key.as_str()))?;
        let test = |name: &String| {
            let path = format!("/admin/v1/resources/{}/test", segment(name));
            Ok((name.clone(), line.send(Method::POST, &path, &Value::Null)?.body))
        };
        resources.iter().map(test).collect()
    });
    drop(stop);
    let _ = gateway.join();
    asked
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::settings::Severity;

    #[test]
    fn what_was_not_asked_is_a_mistake_and_a_full_quota_is_none() {
        let mut looked = Looked::default();
        looked.judge("east", &json!({ "detail": "it is gone" }));
        let full = json!({ "deployment": "mini", "ok": false, "status": 429, "meaning": "It is full." });
        looked.judge("west", &json!({ "deployments": [full, { "ok": true }] }));
        let told: Vec<_> = looked.problems.iter().map(|problem| (problem.severity, problem.in_one_line())).collect();
        assert!(
            matches!(&told[..], [(Severity::Error, east), (Severity::Warning, west)]
            if east.contains("it is gone") && west.contains("(429)")),
            "{told:?}"
        );
        assert_eq!(looked.answered, 1);
    }
}
