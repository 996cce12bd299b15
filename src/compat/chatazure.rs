//! libli/chatazure: one resource, a map of models, and users by password in `config.yaml` and in `chat.db`.
//!
//! Its documented versions (1.1 and 1.2) are stood in for: a model that is not mapped is a 400.

use super::draft::{Draft, Home, Mapping, without_path};
use super::refusals::{Said, Words};
use super::yaml::Yaml;
use crate::settings::Place;

pub fn translate(file: Option<&Yaml>, draft: &mut Draft) {
    let Some(file) = file else {
        draft.refuse(
            &Place::Nowhere,
            "chatazure is described by a config.yaml, and there is none",
            "mount it at /app/config.yaml",
        );
        return;
    };
    let azure = file.get("azure");
    let found = |name: &str| azure.and_then(|azure| azure.found_at(name));
    let mapped = azure.and_then(|azure| azure.get("deployments")).map_or(&[][..], Yaml::entries);
    let mappings: Vec<_> = mapped
        .iter()
        .filter_map(|(model, deployment)| Some(Mapping::new(model.clone(), deployment.found()?, 0)))
        .collect();
    match (found("endpoint"), found("api-key")) {
        (Some(endpoint), Some(key)) => {
            let home = Home {
                kind: "azure",
                endpoint: without_path(endpoint),
                key: Some(key),
                version: found("api-version"),
                proxy: None,
            };
            draft.estate(&[home], &mappings);
        }
        (endpoint, _) => {
            let place = azure.map_or_else(|| file.place.clone(), |azure| azure.place.clone());
            let what = if endpoint.is_none() { "azure.endpoint" } else { "azure.api-key" };
            draft.refuse(&place, format!("there is no {what}"), "both are needed");
        }
    }
    users(file, &mappings, draft);
    let web = |name: &str| file.get("web").and_then(|web| web.found_at(name));
    match web("port") {
        None => draft.port(8080, None),
        Some(found) => match found.text.trim_start_matches(':').parse() {
            Ok(port) => draft.port(port, Some(&found.place)),
            Err(_) => draft.refuse(&found.place, "web.port is no port", "a port is a number from 1 to 65535"),
        },
    }
    match web("dbName") {
        Some(name) => draft.set(&["compat", "users_file"], name.text.as_str(), &name.place),
        None => draft.decide(&["compat", "users_file"], "chat.db"),
    }
    draft.tell("users in config.yaml and chat.db");
}

/// Version 1.2 knows who may use GPT-4; in a file that says so of anybody, whoever is not named may not.
fn users(file: &Yaml, mappings: &[Mapping], draft: &mut Draft) {
    let users = file.get("users").map_or(&[][..], Yaml::items);
    let is_gated = users.iter().any(|user| user.get("gpt4").is_some());
    let others: Vec<_> =
        mappings.iter().map(|mapping| mapping.model.as_str()).filter(|model| !model.starts_with("gpt-4")).collect();
    for user in users {
        let (Some(name), Some(password)) = (user.found_at("username"), user.found_at("password")) else {
            draft.refuse(&user.place, "a user has no username or no password", "give it both");
            continue;
        };
        draft.user(&name.text, &password);
        let may_use_gpt4 = user.get("gpt4").and_then(Yaml::text).is_some_and(|text| text.eq_ignore_ascii_case("true"));
        if is_gated && !may_use_gpt4 {
            let models: Vec<String> = others.iter().map(|model| (*model).to_owned()).collect();
            draft.set(&["compat", "users", &name.text, "models"], models, &user.place);
        }
    }
}

pub fn words(words: &Words<'_>) -> Option<Said> {
    match words.code {
        "invalid_api_key" => Some(Said::text(401, "Unauthorized")),
        "model_not_allowed" => Some(Said::line(403, "Forbidden Use GPT-4")),
        "invalid_json" | "duplicate_field" | "invalid_type" | "missing_model" | "model_not_found" => {
            Some(Said::line(400, "Unsupported model"))
        }
        "unknown_path" => Some(Said::line(404, "404 page not found")),
        _ => None,
    }
}
