//! HengMrZ/chat_azure: one resource, a map of models, and users in `chat.db` whom an admin adds by `/v1/adduser`.
//!
//! Described by `RESOURCENAME`, `APIKEY` and `MAPPER_GPT35TUBER` (its container's variables), or by a `config.yaml`.

use std::path::Path;

use super::draft::{Draft, Home, Mapping};
use super::look::Look;
use super::refusals::{Said, Words};
use super::yaml::{Found, Yaml};
use crate::settings::Place;

pub fn by_variable(look: &Look<'_>) -> Option<Place> {
    let name = look.variable("RESOURCENAME")?;
    look.first(&["APIKEY", "MAPPER_GPT35TUBER"]).map(|_| name.place)
}

pub fn translate(look: &Look<'_>, file: Option<&Yaml>, draft: &mut Draft) {
    let (name, key, version, mappings) = match file {
        Some(file) => from_file(file),
        None => from_variables(look),
    };
    match name {
        Some(name) => {
            let endpoint = Found { text: format!("https://{}.openai.azure.com", name.text), ..name };
            // It takes a key that was pasted with the word before it.
            let key = key.map(|key| Found { text: key.text.trim_start_matches("Bearer ").to_owned(), ..key });
            if key.is_none() {
                draft.refuse(&endpoint.place, "there is no key for this resource", "set APIKEY, or apiKey in the file");
            }
            draft.estate(&[Home { kind: "azure", endpoint, key, version, proxy: None }], &mappings);
        }
        None => {
            let place = file.map_or(Place::Nowhere, |file| file.place.clone());
            draft.refuse(&place, "the resource has no name", "set RESOURCENAME, or resourceName in the file");
        }
    }
    for user in file.and_then(|file| file.get("initUsers")).map_or(&[][..], Yaml::items) {
        match (user.found_at("username"), user.found_at("token")) {
            (Some(name), Some(token)) => draft.user(&name.text, &token),
            _ => draft.refuse(&user.place, "a user of initUsers has no username or no token", "give it both"),
        }
    }
    listen(look, draft);
    database(look, draft);
}

type Described = (Option<Found>, Option<Found>, Option<Found>, Vec<Mapping>);

fn from_file(file: &Yaml) -> Described {
    let mapper = file.get("mapper").map_or(&[][..], Yaml::entries);
    let mappings =
        mapper.iter().filter_map(|(model, deployment)| Some(Mapping::new(model.clone(), deployment.found()?, 0)));
    (file.found_at("resourceName"), file.found_at("apiKey"), file.found_at("apiVersion"), mappings.collect())
}

fn from_variables(look: &Look<'_>) -> Described {
    let mapped = look.variable("MAPPER_GPT35TUBER");
    let mapping = |deployment| Mapping::new("gpt-3.5-turbo".to_owned(), deployment, 0);
    (look.variable("RESOURCENAME"), look.variable("APIKEY"), None, mapped.map(mapping).into_iter().collect())
}

fn listen(look: &Look<'_>, draft: &mut Draft) {
    match look.variable("LISTEN_PORT") {
        None => draft.port(8080, None),
        Some(found) => match found.text.parse() {
            Ok(port) => draft.port(port, Some(&found.place)),
            Err(_) => draft.refuse(&found.place, "LISTEN_PORT is no port", "a port is a number from 1 to 65535"),
        },
    }
}

/// Users and ledger stand side by side, so that whoever keeps one on a volume keeps the other.
fn database(look: &Look<'_>, draft: &mut Draft) {
    match look.variable("DB_ROOT") {
        Some(root) => {
            let file = |name: &str| Path::new(&root.text).join(name).display().to_string();
            draft.set(&["compat", "users_file"], file("chat.db"), &root.place);
            draft.set(&["database", "url"], format!("sqlite:{}", file("gateway.db")), &root.place);
        }
        None => draft.decide(&["compat", "users_file"], "chat.db"),
    }
    match look.variable("INIT_ADMIN_USER") {
        Some(name) => draft.set(&["compat", "admin_user"], name.text.as_str(), &name.place),
        None => draft.decide(&["compat", "admin_user"], "root"),
    }
    if let Some(token) = look.variable("INIT_ADMIN_TOKEN") {
        draft.set(&["compat", "admin_token"], token.text.as_str(), &token.place);
    }
    draft.tell("users in chat.db and by /v1/adduser");
}

/// Its refusals are lines of text.
pub fn words(words: &Words<'_>) -> Option<Said> {
    let line = |status, text: &str| Some(Said::line(status, text));
    match words.code {
        "invalid_api_key" if !words.brings_key => line(403, "token not found in URL"),
        "invalid_api_key" => line(403, "user does not exist"),
        "missing_model" => line(500, "The model field is missing in the request body"),
        "model_not_found" | "model_not_allowed" => line(403, "Missing model mapper"),
        "invalid_json" | "duplicate_field" | "invalid_type" => line(400, words.message),
        "unknown_path" => line(404, "404 page not found"),
        _ => None,
    }
}
