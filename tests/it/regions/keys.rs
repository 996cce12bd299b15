//! How a key is limited to regions, and what it then sees.

use aoai_gateway::domain::ids::{DeploymentName, ModelName, ResourceName};
use aoai_gateway::fleet::pool::Reload;
use aoai_gateway::settings::model::{Deployment, Settings};
use aoai_gateway::simulator::Knobs;
use serde_json::{Value, json};

use super::ask;
use crate::support::answers::{QUESTION, answered};
use crate::support::client::{Answer, get};
use crate::support::fake_azure::{FakeAzure, Script};
use crate::support::gateway::{MODEL, TestGateway, eventually, wait};
use crate::support::process::Estate;

const OTHER: &str = "gpt-4.1";

/// The model in the EU and in America, another model in America only.
fn start() -> (TestGateway, [FakeAzure; 2]) {
    let azures = [(); 2].map(|()| FakeAzure::start(Script::always(answered())));
    let gateway = TestGateway::with(|estate| {
        estate.azure("sweden", azures[0].address()).region = Some("Sweden Central".into());
        let other = Deployment { model: ModelName::from(OTHER), ..estate.deployment() };
        let america = estate.azure("america", azures[1].address());
        america.region = Some("eastus2".into());
        america.deployments.insert(DeploymentName::from("other-one"), other);
    });
    (gateway, azures)
}

fn models(gateway: &TestGateway, key: &str, path: &str) -> Answer {
    gateway.client().send(get(path, &format!("authorization: Bearer {key}\r\n"))).answer()
}

#[test]
fn a_model_that_is_nowhere_in_the_keys_regions_is_not_its_model() {
    let (gateway, _azures) = start();
    let (_, key) = gateway.new_key(json!({ "regions": ["swedencentral"] }));
    let listed = models(&gateway, &key, "/v1/models").expect(200).json();
    let listed: Vec<_> = listed["data"].as_array().unwrap().iter().map(|model| model["id"].clone()).collect();
    assert_eq!(listed, [MODEL]);
    models(&gateway, &key, &format!("/v1/models/{MODEL}")).expect(200);
    let unknown = models(&gateway, &key, &format!("/v1/models/{OTHER}")).expect(404);
    assert_eq!(unknown.code(), "model_not_found");
    let answer = ask(&gateway, &key, &QUESTION.replace(MODEL, OTHER)).expect(403);
    assert_eq!(answer.code(), "model_not_allowed");
    let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
    let said = format!(
        "The model `{OTHER}` is not deployed in the regions that this key is limited to (swedencentral). It may use: {MODEL}."
    );
    assert_eq!(message, said);
    // Nothing at all is there: the message does not send the caller's admin on a wrong track.
    let (_, key) = gateway.new_key(json!({ "regions": ["francecentral"] }));
    assert_eq!(models(&gateway, &key, "/v1/models").expect(200).json()["data"], json!([]));
    let answer = ask(&gateway, &key, QUESTION).expect(403);
    assert!(answer.text().contains("none is deployed in its regions (francecentral)"), "{}", answer.text());
    gateway.chat(&QUESTION.replace(MODEL, OTHER)).expect(200);
}

#[test]
fn the_admin_plane_takes_regions_as_people_write_them_and_refuses_mistakes() {
    let (gateway, _azures) = start();
    let make =
        |regions: Value| gateway.admin("POST", "/keys", &json!({ "name": "eu", "regions": regions }).to_string());
    let made = make(json!(["SWEDEN central", "swedencentral"])).expect(201).json();
    assert_eq!((&made["regions"], made.get("warnings")), (&json!(["swedencentral"]), None));
    let shown = gateway.admin("GET", &format!("/keys/{}", made["id"].as_str().unwrap()), "").expect(200).json();
    assert_eq!(shown["regions"], json!(["swedencentral"]));

    let made = make(json!(["swedencentral", "France Central"])).expect(201).json();
    assert_eq!(made["regions"], json!(["francecentral", "swedencentral"]));
    let warnings = made["warnings"].as_array().unwrap();
    assert!(warnings.len() == 1 && warnings[0].as_str().unwrap().contains("no resource is in `francecentral` yet"));

    let problem = make(json!(["swedencentral", "swedencentrl", "the moon"])).expect(422).json();
    let errors = problem["errors"].as_array().unwrap();
    assert_eq!(errors.iter().map(|error| &error["pointer"]).collect::<Vec<_>>(), ["/regions/1", "/regions/2"]);
    assert!(errors[0]["detail"].as_str().unwrap().ends_with("did you mean `swedencentral`?"), "{problem}");
    assert!(errors[1]["detail"].as_str().unwrap().ends_with("are in eastus2, swedencentral"), "{problem}");
    for odd in [json!([]), json!("swedencentral"), json!([1]), json!({})] {
        let problem = make(odd).expect(422).json();
        assert_eq!(problem["errors"][0]["pointer"], "/regions", "{problem}");
    }
    for all in [Value::Null, json!(null)] {
        assert_eq!(make(all).expect(201).json()["regions"], Value::Null);
    }
}

#[test]
fn a_resource_that_moves_takes_its_deployments_along() {
    let (gateway, [sweden, america]) = start();
    let (_, key) = gateway.new_key(json!({ "regions": ["swedencentral"] }));
    ask(&gateway, &key, QUESTION).expect(200);
    let label = |name: &str, region: Option<&str>| {
        let mut settings = Settings::clone(&gateway.house.settings());
        settings.resources.get_mut(&ResourceName::from(name)).unwrap().region = region.map(Into::into);
        let settings = std::sync::Arc::new(settings);
        wait(gateway.house.pool.send(Reload(settings.clone()))).unwrap();
        gateway.house.replace_settings(settings);
    };
    let becomes = |status: u16| {
        eventually(|| match ask(&gateway, &key, QUESTION).status {
            same if same == status => Ok(()),
            other => Err(format!("still {other}")),
        });
    };
    label("sweden", None);
    becomes(403);
    let before = sweden.requests().len();
    ask(&gateway, &key, QUESTION).expect(403);
    assert_eq!((sweden.requests().len(), america.requests().len()), (before, 0));
    label("sweden", Some("SWEDEN CENTRAL"));
    becomes(200);
    assert!(america.requests().is_empty());
}

#[test]
fn a_label_that_azure_contradicts_is_named_once() {
    let mut estate = Estate::of(&[], &Knobs::default(), "");
    // Simulated regions say that they are in East US 2.
    for (name, label) in [("right", "eastus2"), ("wrong", "swedencentral"), ("own", "site-7")] {
        estate.build(name, &Knobs::default());
        let text = estate.region(name).replacen("endpoint", &format!("region = \"{label}\"\nendpoint"), 1);
        estate.write(&format!("30-{name}.toml"), &text);
    }
    let mut gateway = estate.start();
    let told = |name: &str| {
        let shown = gateway.admin(&format!("/admin/v1/resources/{name}")).expect(200).json();
        let deployments = shown["deployments"].as_array().unwrap();
        deployments.iter().find(|one| one["name"] == MODEL).unwrap()["answers_from"].clone()
    };
    while ["right", "wrong", "own"].iter().any(|name| told(name) != "eastus2") {
        gateway.chat(&estate.key, QUESTION).expect(200);
    }
    let line = gateway.says(|line| line["answers_from"] == "eastus2");
    assert_eq!(
        (&line["resource"], &line["region"], &line["level"]),
        (&json!("wrong"), &json!("swedencentral"), &json!("WARN"))
    );
    gateway.stop();
}

#[test]
fn the_command_limits_a_key_to_regions() {
    let mut estate = Estate::of(&[], &Knobs::default(), "");
    for (name, label) in [("sweden", "Sweden Central"), ("america", "eastus2")] {
        estate.build(name, &Knobs::default());
        let text = estate.region(name).replacen("endpoint", &format!("region = \"{label}\"\nendpoint"), 1);
        estate.write(&format!("30-{name}.toml"), &text);
    }
    let add = |arguments: &[&str]| {
        let output = estate.command(&[&["keys", "add", "eu", "--regions"], arguments].concat()).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, made, said) = add(&["Sweden Central,francecentral", "--json"]);
    let made: Value = serde_json::from_str(&made).unwrap();
    assert_eq!((code, &made["regions"]), (Some(0), &json!(["francecentral", "swedencentral"])));
    assert!(said.contains("warning: no resource is in `francecentral` yet"), "{said}");
    let (code, out, said) = add(&["swedncentral"]);
    assert!(code == Some(2) && out.is_empty() && said.contains("did you mean `swedencentral`?"), "{said}");
    let list = String::from_utf8(estate.run(&["keys", "ls"]).stdout).unwrap();
    assert!(list.contains("REGIONS") && list.contains("\tfrancecentral,swedencentral\t") && list.contains("\tall\t"));
    let shown = String::from_utf8(estate.run(&["keys", "show", "eu"]).stdout).unwrap();
    assert!(shown.contains("regions\tfrancecentral,swedencentral"), "{shown}");

    let gateway = estate.start();
    let key = made["secret"].as_str().unwrap();
    for _ in 0..5 {
        gateway.chat(key, QUESTION).expect(200);
    }
    assert_eq!((estate.control("sweden").journal().len(), estate.control("america").journal().len()), (5, 0));
    gateway.stop();
}
