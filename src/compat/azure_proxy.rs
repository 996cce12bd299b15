//! fredliu168/Azure_proxy: one resource, four fixed model names, one key that everybody shares.
//!
//! Its `Proxy-src` header chose among one upstream; it is ignored. Its HTML error pages are not taken over.

use super::draft::{Draft, Home, Mapping};
use super::look::Look;
use super::refusals::{Said, Words};
use super::yaml::Found;
use crate::settings::Place;

/// Models and their deployments.
const MAP: [(&str, &str); 4] = [
    ("gpt-3.5-turbo", "gpt-35-turbo"),
    ("gpt-3.5-turbo-16k", "gpt-35-turbo-16k"),
    ("gpt-35-turbo", "gpt-35-turbo"),
    ("gpt-35-turbo-16k", "gpt-35-turbo-16k"),
];

pub fn by_variable(look: &Look<'_>) -> Option<Place> {
    let endpoint = look.variable("AZURE_ENDPOINT")?;
    look.variable("AZURE_OPENAI_API_KEY")?;
    look.variable("AUTH_KEY").map(|_| endpoint.place)
}

pub fn translate(look: &Look<'_>, draft: &mut Draft) {
    let place = Place::Environment("AZURE_ENDPOINT".to_owned());
    let (endpoint, key) = (look.variable("AZURE_ENDPOINT"), look.variable("AZURE_OPENAI_API_KEY"));
    let (Some(endpoint), Some(key)) = (endpoint, key) else {
        draft.refuse(&place, "the resource has no endpoint or no key", "set AZURE_ENDPOINT and AZURE_OPENAI_API_KEY");
        return;
    };
    let mapping = |(model, deployment): &(&str, &str)| {
        let deployment = Found { text: (*deployment).to_owned(), place: place.clone() };
        Mapping::new((*model).to_owned(), deployment, 0)
    };
    let version = look.variable("AZURE_OPENAI_API_VERSION");
    draft.estate(
        &[Home { kind: "azure", endpoint, key: Some(key), version, proxy: None }],
        &MAP.iter().map(mapping).collect::<Vec<_>>(),
    );
    match look.variable("AUTH_KEY") {
        Some(key) => {
            draft.user("shared", &key);
            draft.tell("one shared key, AUTH_KEY");
        }
        None => draft.tell("no AUTH_KEY, so keys of this gateway only"),
    }
    draft.port(8000, None);
}

pub fn words(words: &Words<'_>) -> Option<Said> {
    match words.code {
        "invalid_api_key" => Some(Said::html(401, "Unauthorized")),
        _ => None,
    }
}
