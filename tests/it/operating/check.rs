//! `POST /settings/check`: what a reload would change, without a change.

use aoai_gateway::settings::Source;
use aoai_gateway::simulator::Knobs;
use serde_json::{Value, json};

use crate::support::answers::answered;
use crate::support::client::{Answer, post};
use crate::support::fake_azure::{FakeAzure, Script};
use crate::support::gateway::{ADMIN_KEY, AZURE_KEY, DEPLOYMENT, MODEL, TestGateway};
use crate::support::process::{self, Estate, Gateway};

fn check(gateway: &Gateway, body: &str) -> Answer {
    let line = format!("authorization: Bearer {}\r\n", process::ADMIN_KEY);
    gateway.client().send(post("/admin/v1/settings/check", &line, body.as_bytes())).answer()
}

#[test]
fn mistakes_are_named_with_their_places() {
    let estate = Estate::of(&["eastus2", "westus3"], &Knobs::default(), "");
    let gateway = estate.start();
    let nothing = check(&gateway, "").expect(200).json();
    assert_eq!((&nothing["changes"], &nothing["needs_restart"]), (&json!([]), &json!([])), "{nothing}");
    let none = json!({ "added": [], "changed": [], "removed": [] });
    assert_eq!([&nothing["resources"], &nothing["deployments"], &nothing["models"]], [&none, &none, &none]);

    estate.write("05-wrong.toml", "[routing]\natempts = 3\n[server]\nworkers = \"many\"\n");
    let refused = check(&gateway, "{}").expect(422);
    assert_eq!(refused.header("content-type"), Some("application/problem+json"));
    let refused = refused.json();
    let told = |key: &str| {
        let errors = refused["errors"].as_array().unwrap();
        errors.iter().find(|error| error["pointer"] == key).unwrap_or_else(|| panic!("{key} in {refused}")).to_string()
    };
    let misspelt = told("routing.atempts");
    assert!(misspelt.contains("05-wrong.toml:2:") && misspelt.contains("attempts"), "{misspelt}");
    assert!(told("server.workers").contains("05-wrong.toml:4:"));
    // A program need not read sentences for the place.
    let places = |answer: &Value| -> Vec<(String, String, u64)> {
        let errors = answer["errors"].as_array().unwrap().iter();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        errors.map(|error| (text(&error["key"]), text(&error["file"]), error["line"].as_u64().unwrap())).collect()
    };
    let file = estate.settings().join("05-wrong.toml").display().to_string();
    let expected = vec![("routing.atempts".into(), file.clone(), 2), ("server.workers".into(), file, 4)];
    assert_eq!(places(&refused), expected);
    let line = format!("authorization: Bearer {}\r\n", process::ADMIN_KEY);
    let reload = || gateway.client().send(post("/admin/v1/settings/reload", &line, b"")).answer();
    assert_eq!(places(&reload().expect(422).json()), expected, "a reload says the same");
    gateway.admin("/readyz").expect(200);
    let body = check(&gateway, "{\"settings\":{}}").expect(400);
    assert!(body.text().contains("takes no body"), "{}", body.text());
    gateway.signal("TERM");
    gateway.ended();
}

#[test]
fn what_waits_on_disk_is_told_by_kind() {
    let azure = FakeAzure::start(Script::always(answered()));
    let gateway = TestGateway::with(|estate| {
        for name in ["stays", "changes", "goes"] {
            estate.azure(name, azure.address());
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let write = |file: &str, text: &str| std::fs::write(folder.path().join(file), text).unwrap();
    let common = format!(
        "[server]\nworkers = 3\nshutdown_grace = \"2s\"\nlisten = \"127.0.0.1:0\"\n[admin]\nkey = \"{ADMIN_KEY}\"\n\
         [database]\nurl = \"sqlite:{}\"\n[models.brand-new]\n",
        gateway.database().display()
    );
    write("00-common.toml", &common);
    let region = |name: &str, more: &str| {
        let endpoint = format!("endpoint = \"http://{}\"\napi_key = \"{AZURE_KEY}\"\n", azure.address());
        let deployment = format!("{DEPLOYMENT} = {{ model = \"{MODEL}\"{more} }}\n");
        write(
            &format!("20-{name}.toml"),
            &format!("[resources.{name}]\n{endpoint}[resources.{name}.deployments]\n{deployment}"),
        );
    };
    region("stays", "");
    region("changes", ", max_in_flight = 5");
    region("comes", "");
    assert!(gateway.house.settings_source.set(Source::new(folder.path())).is_ok());

    let told = gateway.admin("POST", "/settings/check", "").expect(200).json();
    let changes = |added: &str, changed: &str, removed: &str| {
        let list = |name: &str| if name.is_empty() { json!([]) } else { json!([name]) };
        json!({ "added": list(added), "changed": list(changed), "removed": list(removed) })
    };
    assert_eq!(told["resources"], changes("comes", "changes", "goes"), "{told}");
    let deployment = |name: &str| format!("{name}/{DEPLOYMENT}");
    let expected = changes(&deployment("comes"), &deployment("changes"), &deployment("goes"));
    assert_eq!(told["deployments"], expected, "{told}");
    assert_eq!(told["models"], changes("brand-new", "", ""), "{told}");
    assert_eq!(told["needs_restart"], json!(["server.workers"]), "{told}");
    let lines = told["changes"].to_string();
    assert!(
        lines.contains("- resources.goes") && lines.contains("server.workers 1 -> 3 (takes effect after a restart)")
    );
    assert!(told["warnings"].to_string().contains("api_key"), "keys in clear deserve a word: {told}");
    assert!(!told.to_string().contains(AZURE_KEY));
    assert!(gateway.house.settings().resources.contains_key("goes"), "nothing has changed");
    gateway.admin("GET", "/resources/comes", "").expect(404);
}

/// Whoever edits and then asks may find that the watcher was quicker; what waits for a restart is said all the same.
#[test]
fn what_waits_for_a_restart_is_said_as_long_as_it_waits() {
    let estate = Estate::of(&["eastus2"], &Knobs::default(), "");
    let mut gateway = estate.start();
    let line = format!("authorization: Bearer {}\r\n", process::ADMIN_KEY);
    let reload = |gateway: &Gateway| {
        gateway.client().send(post("/admin/v1/settings/reload", &line, b"")).answer().expect(200).json()
    };
    assert_eq!(reload(&gateway), json!({ "changes": [], "needs_restart": [] }));
    estate.write("05-server.toml", "[server]\nworkers = 3\n");
    gateway.says(|line| line["message"] == "settings in force");
    for _ in 0..2 {
        assert_eq!(reload(&gateway)["needs_restart"], json!(["server.workers"]));
        assert_eq!(check(&gateway, "").expect(200).json()["needs_restart"], json!(["server.workers"]));
    }
    std::fs::remove_file(estate.settings().join("05-server.toml")).unwrap();
    let after = reload(&gateway);
    assert_eq!(after["needs_restart"], json!([]), "it is as it was at the start: {after}");
    gateway.stop();
}

#[test]
fn a_gateway_without_a_directory_has_nothing_to_check() {
    let azure = FakeAzure::start(Script::always(answered()));
    let gateway = TestGateway::before(azure.address());
    assert!(gateway.admin("POST", "/settings/check", "").expect(409).text().contains("without a settings directory"));
    assert_eq!(gateway.admin("GET", "/settings/check", "").expect(405).header("allow"), Some("POST"));
}
