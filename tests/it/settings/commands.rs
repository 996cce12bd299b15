//! `check` and `config show`, and the words for a change.

use aoai_gateway::cli::check::{Format, report};
use aoai_gateway::cli::config_show::{Origins, listing};
use aoai_gateway::settings::{diff, load};

use super::{directory, source};

const REGION: &str = r#"
[models."gpt-4o-mini"]
[resources.eastus2]
endpoint = "https://c.openai.azure.com"
api_key = "env:KEY"
[resources.eastus2.deployments]
mini = "gpt-4o-mini"
"#;

#[test]
fn check_counts_and_exits_with_two_on_errors() {
    let files = directory(&[("10-a.toml", "[server]\nlistn = 1\nworkers = -1\ntrusted_proxies = [\"0.0.0.0/0\"]\n")]);
    let report = report(&source(files.path()), Format::Text);
    assert_eq!(report.exit_code, 2);
    assert!(report.text.ends_with("\n2 errors, 1 warning"), "{}", report.text);
}

#[test]
fn check_speaks_json() {
    let files = directory(&[("10-a.toml", "[server]\nlistn = 1\n")]);
    let found = report(&source(files.path()), Format::Json);
    let json: serde_json::Value = serde_json::from_str(&found.text).unwrap();
    let file = files.path().join("10-a.toml");
    assert_eq!(
        json,
        serde_json::json!({"ok": false, "errors": 1, "warnings": 0, "problems": [{
            "severity": "error", "key": "server.listn", "message": "unknown setting `listn`",
            "tip": "did you mean `listen`?", "file": file, "line": 2, "column": 1, "variable": null,
        }]})
    );
    assert_eq!(found.exit_code, 2);
}

#[test]
fn what_is_read_can_be_had_as_json() {
    let files = directory(&[("10-a.toml", REGION)]);
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_aoai-gateway"));
        command.args(arguments).arg("--settings").arg(files.path()).env("KEY", "a-secret-of-the-tests");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    assert_eq!(run(&["check", "--json"]), run(&["check", "--format", "json"]));
    let shown = run(&["config", "show", "--json"]);
    let entry = |key: &str| {
        let found = shown.as_array().unwrap().iter().find(|entry| entry["key"] == key);
        found.unwrap_or_else(|| panic!("{key}: {shown}")).clone()
    };
    assert_eq!((&entry("server.workers")["value"], &entry("server.workers")["origin"]), (&0.into(), &"default".into()));
    assert_eq!(entry("resources.eastus2.weight")["value"], 100);
    let origin = entry("resources.eastus2.deployments.mini.model")["origin"].clone();
    assert!(origin.as_str().unwrap().ends_with("10-a.toml:7"), "{origin}");
    assert!(!shown.to_string().contains("a-secret"), "{shown}");
}

#[test]
fn check_says_what_is_probably_not_wanted() {
    let good = directory(&[("10-a.toml", REGION)]);
    let found = report(&source(good.path()), Format::Text);
    assert_eq!((found.text.as_str(), found.exit_code), ("no errors, no warnings", 0));

    let off = directory(&[("10-a.toml", &REGION.replace("api_key", "enabled = false\napi_key"))]);
    let found = report(&source(off.path()), Format::Text);
    assert!(found.text.starts_with("warning: no enabled resource has a deployment"), "{}", found.text);
    assert_eq!(found.exit_code, 0);

    let other = REGION.replace("gpt-4o-mini", "gpt-4.1");
    let found = report(&source(directory(&[("10-a.toml", &other)]).path()), Format::Text);
    assert!(found.text.contains("no enabled resource serves `gpt-4o-mini`"), "{}", found.text);

    let aliased = other.replace("[resources.eastus2]", "aliases = [\"gpt-4o-mini\"]\n[resources.eastus2]");
    let found = report(&source(directory(&[("10-a.toml", &aliased)]).path()), Format::Text);
    assert_eq!(found.text, "no errors, no warnings");
}

#[test]
fn config_show_names_origins_and_hides_secrets() {
    let files = directory(&[("10-a.toml", REGION)]);
    let text = listing(&source(files.path()).with("server.listen", "127.0.0.1:0"), Origins::Shown).unwrap();
    let shown = text.replace(&files.path().display().to_string(), "settings");
    let line = |start: &str| {
        let line = shown.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start}: {shown}"));
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(line("server.listen"), "server.listen = \"127.0.0.1:0\" # flag");
    assert_eq!(line("server.workers"), "server.workers = 0 # default");
    assert_eq!(line("server.body_limit"), "server.body_limit = \"32MiB\" # default");
    assert_eq!(line("resources.eastus2.api_key"), "resources.eastus2.api_key = \"…\" # settings/10-a.toml:5");
    assert_eq!(
        line("resources.eastus2.deployments.mini.model"),
        "resources.eastus2.deployments.mini.model = \"gpt-4o-mini\" # settings/10-a.toml:7"
    );
    assert!(!shown.contains("abc"), "{shown}");
}

#[test]
fn what_config_show_prints_is_valid_toml_with_the_same_meaning() {
    let files = directory(&[("10-a.toml", REGION)]);
    let before = load(&source(files.path())).unwrap().settings;
    let text = listing(&source(files.path()), Origins::Shown).unwrap().replace("\"…\"", "\"env:KEY\"");
    let again = load(&source(directory(&[("10-a.toml", &text)]).path())).unwrap();
    assert_eq!(again.settings, before);
}

#[test]
fn a_change_is_put_into_words() {
    let at = |text: &str| load(&source(directory(&[("10-a.toml", text)]).path())).unwrap().settings;
    let old = at(&format!("{REGION}[models.old]\n"));
    let changed = REGION
        .replace("eastus2.deployments", "eastus2x.deployments")
        .replace("[resources.eastus2]", "[resources.eastus2]\nweight = 50")
        .replace("env:KEY", "rotated");
    let second = REGION.replace("eastus2", "swedencentral").replace("[models.\"gpt-4o-mini\"]", "");
    let new = at(&format!(
        "{}{second}[routing]\nattempts = 3\n[server]\nlisten = \"127.0.0.1:1\"\n",
        changed.replace("eastus2x", "eastus2"),
    ));
    assert_eq!(
        diff(&old, &new),
        [
            "+ resources.swedencentral (1 deployment)",
            "- models.old",
            "~ resources.eastus2.api_key (another secret)",
            "~ resources.eastus2.weight 100 -> 50",
            "~ routing.attempts 4 -> 3",
            "~ server.listen \"0.0.0.0:8080\" -> \"127.0.0.1:1\" (takes effect after a restart)",
        ]
    );
    let without = at("");
    assert_eq!(diff(&new, &without)[..2], ["- resources.eastus2", "- resources.swedencentral"]);
    assert!(diff(&new, &new).is_empty());
    let renamed = at(&REGION.replace("mini =", "\"gpt4.mini\" ="));
    assert_eq!(
        diff(&at(REGION), &renamed),
        [
            "+ resources.eastus2.deployments.\"gpt4.mini\".model = \"gpt-4o-mini\"",
            "- resources.eastus2.deployments.mini.model",
        ]
    );
}
