//! The Cloudflare worker of haibbo and its fork with users by imatrixme: one resource, families of model names, and a
//! typewriter.
//!
//! Without `AZURE_AUTHKEY` it is haibbo's: the caller's bearer is the key of Azure. With it, it is the fork: callers are
//! those of `CHIT_USERS`.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;

use super::draft::{Draft, Home, Mapping};
use super::look::Look;
use super::refusals::{Said, Words};
use super::yaml::Found;
use crate::settings::Place;

/// A variable and the models that its deployment answers to, in the order of its list of models. The first variable
/// that is set counts.
const FAMILIES: [(&[&str], &[&str]); 6] = [
    (
        &["DEPLOY_NAME_GPT35", "DEPLOY_NAME"],
        &["gpt-3.5-turbo", "gpt-3.5-turbo-0301", "gpt-3.5-turbo-0613", "gpt-3.5-turbo-1106"],
    ),
    (&["DEPLOY_NAME_GPT35_16K", "DEPLOY_NAME_GPT35", "DEPLOY_NAME"], &["gpt-3.5-turbo-16k", "gpt-3.5-turbo-16k-0613"]),
    (
        &["DEPLOY_NAME_GPT4", "DEPLOY_NAME"],
        &["gpt-4", "gpt-4-0314", "gpt-4-0613", "gpt-4-1106-preview", "gpt-4-32k", "gpt-4-32k-0314"],
    ),
    (&["DEPLOY_NAME_DALLE3"], &["dall-e-3"]),
    (&["DEPLOY_NAME_EMBEDDING"], &["text-embedding-ada-002"]),
    (&["DEPLOY_NAME_WHISPER"], &["whisper-1"]),
];

pub fn by_variable(look: &Look<'_>) -> Option<Place> {
    let name = look.variable("RESOURCE_NAME")?;
    let families = FAMILIES.iter().flat_map(|(variables, _)| variables.iter().copied());
    let others: Vec<&str> = families.chain(["AZURE_AUTHKEY", "CHIT_USERS"]).collect();
    look.first(&others).map(|_| name.place)
}

pub fn translate(look: &Look<'_>, draft: &mut Draft) {
    let Some(name) = look.variable("RESOURCE_NAME") else {
        let place = Place::Environment("RESOURCE_NAME".to_owned());
        return draft.refuse(&place, "the resource has no name", "set RESOURCE_NAME");
    };
    let endpoint =
        Found { text: format!("https://{}.openai.azure.com", name.text.to_ascii_lowercase()), place: name.place };
    let mut mappings = Vec::new();
    for (variables, models) in FAMILIES {
        if let Some(deployment) = look.first(variables) {
            let mapping = |model: &&str| Mapping::new((*model).to_owned(), deployment.clone(), 0);
            mappings.extend(models.iter().map(mapping));
        }
    }
    let key = look.variable("AZURE_AUTHKEY");
    let has_key = key.is_some();
    let home = Home { kind: "azure", endpoint, key, version: look.variable("AZURE_API_VERSION"), proxy: None };
    draft.estate(&[home], &mappings);
    if has_key {
        users(look, draft);
    } else {
        draft.decide(&["compat", "callers"], "azure-keys");
        draft.tell("callers bring their key of Azure");
    }
    draft.decide(&["server", "typewriter"], "20ms");
    draft.port(8787, None);
}

#[derive(Deserialize)]
struct User {
    name: String,
    key: String,
}

fn users(look: &Look<'_>, draft: &mut Draft) {
    let place = Place::Environment("CHIT_USERS".to_owned());
    let tip = "it is the base64 of a JSON array: [{\"name\":\"amy\",\"key\":\"…\"}]";
    let Some(found) = look.variable("CHIT_USERS") else {
        return draft.refuse(&place, "AZURE_AUTHKEY is set and CHIT_USERS is not, so nobody could call", tip);
    };
    let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let text: String = found.text.split_whitespace().collect();
    let decoded = GeneralPurpose::new(&STANDARD, lenient).decode(text).ok();
    // What the parser says of it could show a key.
    let Some(users) = decoded.and_then(|json| serde_json::from_slice::<Vec<User>>(&json).ok()) else {
        return draft.refuse(&place, "CHIT_USERS cannot be read", tip);
    };
    let mut names = std::collections::BTreeSet::new();
    for User { name, key } in users {
        let mut unique = name.clone();
        while !names.insert(unique.clone()) {
            unique = format!("{name}-{}", names.len());
        }
        draft.user(&unique, &Found { text: key, place: place.clone() });
    }
    let users = if names.len() == 1 { "user" } else { "users" };
    draft.tell(format!("{} {users} of CHIT_USERS", names.len()));
}

pub fn words(words: &Words<'_>) -> Option<Said> {
    match words.code {
        "invalid_api_key" => Some(Said::text(
            403,
            match (words.brings_key, words.takes_azure_keys) {
                (_, true) => "Not allowed",
                (false, false) => "Not allowed for no key.",
                (true, false) => "Not allowed personal key.",
            },
        )),
        "missing_model" | "model_not_found" | "model_not_allowed" => Some(Said::text(403, "Missing model mapper")),
        "unknown_path" => Some(Said::text(404, "404 Not Found")),
        _ => None,
    }
}
