use super::*;
use crate::http::routes::{Route, find};
use serde_json::Value;

fn references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            found.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
            members.values().for_each(|member| references(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn every_reference_leads_somewhere_and_every_parameter_is_explained() {
    let document = serde_json::to_value(build()).unwrap();
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 30);
    for reference in found {
        assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference} leads nowhere");
    }
    for route in ROUTES {
        for name in route.query.iter().copied().chain(holes(route.path)) {
            assert!(PARAMETERS.iter().any(|(known, _)| *known == name), "{name} of {} is not explained", route.path);
        }
    }
}

#[test]
fn nothing_is_described_that_does_not_exist() {
    let document = serde_json::to_value(build()).unwrap();
    for path in document["paths"].as_object().unwrap().keys() {
        let found = find(&path.replace("{id}", "x"));
        assert!(!matches!(found, Route::Unknown(_)), "there is nothing at {path}");
    }
}

/// What a path of the document leads to; none for pages that are there for people.
fn kind(route: &Route) -> Option<&'static str> {
    match route {
        Route::Inference(_) => Some("inference"),
        Route::Kept(_) => Some("kept"),
        Route::Form(_) => Some("form"),
        Route::Object(..) => Some("object"),
        Route::Realtime(_) => Some("realtime"),
        Route::Models => Some("models"),
        Route::Model(_) => Some("model"),
        Route::Account(_) => Some("account"),
        Route::Admin(_) => Some("admin"),
        Route::Health => Some("health"),
        Route::Ready => Some("ready"),
        Route::Metrics => Some("metrics"),
        Route::OpenApi => Some("document"),
        Route::Root | Route::Docs | Route::Unknown(_) => None,
    }
}

#[test]
fn every_kind_of_route_is_described_and_so_are_both_kinds_of_sessions() {
    let document = serde_json::to_value(build()).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let kinds: std::collections::BTreeSet<_> = paths.keys().filter_map(|path| kind(&find(path))).collect();
    assert_eq!(kinds.len(), 13, "{kinds:?}");
    for (path, query) in [("/v1/responses", 0), ("/v1/realtime", 2)] {
        let session = &paths[path]["get"];
        let statuses: Vec<_> = session["responses"].as_object().unwrap().keys().collect();
        assert_eq!(statuses, ["101", "426", "default"], "{path}");
        assert_eq!(session["parameters"].as_array().map_or(0, Vec::len), query, "{path}");
        assert!(session["security"][0]["key"].is_array(), "{path}");
    }
    assert!(paths["/v1/responses"]["post"].is_object(), "it is posted to, too");
}

#[test]
fn every_route_is_in_it_and_nothing_else_is() {
    let document = serde_json::to_value(build()).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let described: usize = paths
        .iter()
        .filter(|(path, _)| path.starts_with("/admin/"))
        .map(|(_, item)| item.as_object().unwrap().len())
        .sum();
    assert_eq!(described, ROUTES.len());
    let mut ids = std::collections::BTreeSet::new();
    for route in ROUTES {
        let operation = &paths[&format!("/admin/v1{}", route.path)][route.verb.label().to_ascii_lowercase()];
        assert_eq!(operation["summary"], route.summary);
        assert!(operation["description"].as_str().unwrap().contains(route.scope.label()));
        assert!(ids.insert(operation["operationId"].to_string()), "{} comes twice", operation["operationId"]);
        let holes = route.path.matches('{').count();
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        assert_eq!(parameters.iter().filter(|one| one["in"] == "path").count(), holes);
    }
}
