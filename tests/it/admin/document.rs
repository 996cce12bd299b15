//! The OpenAPI document beside what the gateway answers.

use aoai_gateway::http::admin::routes::{Gives, ROUTES, Verb};
use serde_json::{Value, json};

use super::{admin, text};
use crate::support::answers::{QUESTION, answered};
use crate::support::client::{get, post};
use crate::support::fake_azure::{FakeAzure, Script};
use crate::support::gateway::TestGateway;

/// The members that a schema describes, and those that must be there; `None` where anything goes.
fn members(document: &Value, schema: &Value) -> Option<(Vec<String>, Vec<String>)> {
    let schema = match schema["$ref"].as_str() {
        Some(reference) => document.pointer(reference.trim_start_matches('#')).expect(reference),
        None => schema,
    };
    if let Some(parts) = schema["allOf"].as_array() {
        let parts = parts.iter().filter_map(|part| members(document, part));
        return parts.reduce(|one, other| ([one.0, other.0].concat(), [one.1, other.1].concat()));
    }
    let properties = schema["properties"].as_object()?;
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    Some((properties.keys().cloned().collect(), required.iter().map(text).collect()))
}

#[track_caller]
fn fits(document: &Value, schema: &Value, answer: &Value, what: &str) {
    let (known, required) = members(document, schema).unwrap_or_else(|| panic!("{what} is not described"));
    for name in answer.as_object().unwrap_or_else(|| panic!("{what} is no object: {answer}")).keys() {
        assert!(known.contains(name), "{what}: `{name}` is not described");
    }
    for name in required {
        assert!(answer.get(&name).is_some(), "{what}: `{name}` is missing in {answer}");
    }
}

#[test]
fn answers_are_as_the_document_says() {
    let azure = FakeAzure::start(Script::always(answered()));
    let gateway = TestGateway::before(azure.address());
    let document = gateway.client().send(get("/openapi.json", "")).answer().expect(200).json();
    let (key, secret) = gateway.new_key(json!({ "user": "Ada", "name": "one" }));
    let user = text(&admin(&gateway, "POST", "/users", json!({ "name": "Bob" })).expect(201).json()["id"]);
    let (admin_key, _) = super::credential(&gateway, "read");
    let lines = format!("authorization: Bearer {secret}\r\n");
    gateway.client().send(post("/v1/chat/completions", &lines, QUESTION.as_bytes())).answer().expect(200);
    gateway.settle();
    let request = text(&gateway.admin("GET", "/requests", "").expect(200).json()["data"][0]["id"]);
    let mut seen = 0;
    for route in ROUTES {
        let id = match route.path.split('/').nth(1).unwrap() {
            "keys" => &key,
            "users" => &user,
            "admin-keys" => &admin_key,
            _ => &request,
        };
        let path = route.path.replace("{id}", id).replace("{name}", "east").replace("{grant}", "none");
        let operation = &document["paths"][format!("/admin/v1{}", route.path)][route.verb.label().to_ascii_lowercase()];
        let schema = |status: &str| operation["responses"][status]["content"]["application/json"]["schema"].clone();
        let body = match (route.verb, route.path) {
            // They end what others need, or have nothing to work on here.
            (Verb::Delete, _) | (_, "/settings/reload" | "/settings/check") => continue,
            (_, "/keys") => json!({ "name": "two" }),
            (_, "/users" | "/users/{id}") => json!({ "name": format!("user of {}", route.verb.label()) }),
            (Verb::Put, "/keys/{id}/quota" | "/users/{id}/quota") => json!({ "period": "month", "tokens": 5_000 }),
            (Verb::Post, "/keys/{id}/grants") => json!({ "tokens": 5 }),
            (_, "/admin-keys") => json!({ "name": "two", "scopes": ["read"] }),
            (_, _) => json!({}),
        };
        let body = if route.verb == Verb::Get { String::new() } else { body.to_string() };
        let ask = |status| gateway.admin(route.verb.label(), &path, &body).expect(status).json();
        match route.gives {
            Gives::One(_) => fits(&document, &schema("200"), &ask(200), route.path),
            Gives::Created(_) => fits(&document, &schema("201"), &ask(201), route.path),
            Gives::Page(_) => {
                let page = ask(200);
                fits(&document, &schema("200"), &page, route.path);
                let row = page["data"].get(0).unwrap_or_else(|| panic!("{} is empty", route.path));
                fits(&document, &schema("200")["properties"]["data"]["items"], row, route.path);
            }
            Gives::Nothing | Gives::Events => continue,
        }
        seen += 1;
    }
    assert!(seen > 20, "{seen}");
    let problem = gateway.admin("POST", "/keys", "{}").expect(422).json();
    fits(&document, &json!({ "$ref": "#/components/schemas/Problem" }), &problem, "a problem");
}

#[test]
fn the_page_brings_all_it_needs() {
    let gateway = super::gateway();
    let page = gateway.client().send(get("/docs", "")).answer().expect(200);
    assert!(page.header("content-type").unwrap().starts_with("text/html"));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'sha256-") && !policy.contains("unsafe"), "{policy}");
    assert!(page.text().contains("openapi.json"));
    let json = gateway.client().send(get("/openapi.json", "")).answer().expect(200);
    assert_eq!(json.header("content-type"), Some("application/json"));
    assert!(json.json()["openapi"].as_str().unwrap().starts_with("3."));
}

#[test]
fn a_browser_gets_the_console_and_curl_a_line() {
    let gateway = super::gateway();
    let root = |accept: &str| gateway.client().send(get("/", &format!("accept: {accept}\r\n"))).answer().expect(200);
    let page = root("text/html,application/xhtml+xml;q=0.9,*/*;q=0.8");
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'sha256-") && !policy.contains("unsafe"), "{policy}");
    assert!(
        page.text().contains("<title>aoai-gateway</title>")
            && !page.text().contains(crate::support::gateway::ADMIN_KEY)
    );
    for tool in ["*/*", "application/json"] {
        let line = root(tool);
        assert!(line.text().lines().count() == 1 && line.text().contains("is running"), "{}", line.text());
        assert_eq!(line.header("vary"), Some("accept"));
    }
    let own = crate::support::gateway::TestGateway::with(|estate| {
        estate.0.admin.listen = aoai_gateway::settings::model::AdminListen::Own("127.0.0.1:0".parse().unwrap());
    });
    let public = own.client().send(get("/", "accept: text/html\r\n")).answer().expect(200);
    assert!(public.text().contains("is running"), "the console is where the admin plane is");
    own.client().send(get("/docs", "")).answer().expect(404);
}
