//! `check --online`: each resource is asked for something that costs nothing, and what is wrong is put into words.

use aoai_gateway::simulator::Knobs;
use serde_json::{Value, json};

use crate::support::answers::answered;
use crate::support::fake_azure::{FakeAzure, Reply, Script};
use crate::support::process::{Estate, key_of};

fn check(estate: &Estate, more: &[&str]) -> (Option<i32>, Value) {
    let output = estate.command(&[&["check", "--json"][..], more].concat()).output().unwrap();
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap())
}

fn region(name: &str, url: &str, key: &str, more: &str) -> String {
    format!(
        "[resources.{name}]\nendpoint = \"{url}\"\napi_key = \"{key}\"\n{more}[resources.{name}.deployments]\nmini = \"gpt-4o-mini\"\n"
    )
}

#[test]
fn what_answers_is_told_and_nothing_is_billed() {
    let estate = Estate::of(&["eastus2", "westus3"], &Knobs::default(), "");
    // The other family, and an endpoint that is not Azure's.
    let url = estate.url("eastus2");
    estate.write("40-v1.toml", &region("v1", &url, &key_of("eastus2"), "api_version = \"v1\"\n"));
    let openai = FakeAzure::start(Script::each(|request| {
        assert_eq!((request.method.as_str(), request.target.as_str()), ("GET", "/v1/models"));
        match request.header("authorization") {
            Some("Bearer its-key") => Reply::json(200, "{}"),
            _ => Reply::json(401, "{}"),
        }
    }));
    let base = format!("{}/v1", openai.url());
    estate.write("41-openai.toml", &region("other", &base, "its-key", "kind = \"openai\"\n"));
    estate.write("42-off.toml", &region("off", "http://127.0.0.1:1", "k", "enabled = false\n"));
    let (code, told) = check(&estate, &["--online"]);
    assert_eq!((code, &told["ok"], &told["errors"]), (Some(0), &json!(true), &json!(0)), "{told}");
    let answered: Vec<_> =
        told["online"].as_array().unwrap().iter().map(|one| (one["resource"].clone(), one["status"].clone())).collect();
    let expected = ["eastus2", "other", "v1", "westus3"].map(|name| (json!(name), json!(200)));
    assert_eq!(answered, expected, "{told}");
    assert!(estate.journals().iter().all(|entry| !entry.charged), "{:?}", estate.journals());
    let text = estate.run(&["check", "--online"]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("resources.eastus2: 200 in ") && text.contains("no errors"), "{text}");
    // Without the flag nobody is called.
    let before = openai.requests().len();
    assert!(check(&estate, &[]).1.get("online").is_none());
    assert_eq!(openai.requests().len(), before);
}

#[test]
fn what_is_wrong_is_named_with_the_setting_to_look_at() {
    let estate = Estate::of(&["eastus2"], &Knobs::default(), "[routing]\nconnect_timeout = \"500ms\"\n");
    let forbidding = FakeAzure::start(Script::always(Reply::json(403, "{}")));
    let missing = FakeAzure::start(Script::always(Reply::json(404, "{}")));
    let nobody = { FakeAzure::start(Script::always(answered())).url() };
    let url = estate.url("eastus2");
    estate.write("40-a.toml", &region("a", &url, "a-wrong-key-of-somebody", ""));
    estate.write("41-b.toml", &region("b", &forbidding.url(), "k", ""));
    estate.write("42-c.toml", &region("c", &missing.url(), "k", ""));
    estate.write("43-d.toml", &region("d", &nobody, "k", ""));
    let (code, told) = check(&estate, &["--online"]);
    assert_eq!(code, Some(2), "{told}");
    let problem = |key: &str| {
        let problems = told["problems"].as_array().unwrap();
        problems.iter().find(|one| one["key"] == key).unwrap_or_else(|| panic!("{key}: {told}")).clone()
    };
    for (key, severity, says) in [
        ("resources.a.api_key", "error", "answers 401"),
        ("resources.b.api_key", "error", "answers 403"),
        ("resources.c.endpoint", "warning", "answers 404"),
        ("resources.d.endpoint", "error", "cannot be reached"),
    ] {
        // The keys stand in clear here, and a warning says so under the same name.
        let found = told["problems"]
            .as_array()
            .unwrap()
            .iter()
            .find(|one| one["key"] == key && one["message"].as_str().unwrap().contains(says));
        let found = found.unwrap_or_else(|| panic!("{key} {says}: {}", problem(key)));
        assert_eq!((&found["severity"], found["tip"].is_string()), (&json!(severity), true), "{found}");
    }
    assert_eq!(told["errors"], 3);
    assert!(!told.to_string().contains("a-wrong-key"), "{told}");
}
