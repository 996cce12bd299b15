//! The files that come with the gateway: they load as they are, and what they document is true.

use std::collections::BTreeSet;
use std::path::PathBuf;

use aoai_gateway::settings::{Settings, Source, Variables, entries, load};

use super::{directory, source};

fn shipped() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/settings"))
}

fn text(name: &str) -> String {
    std::fs::read_to_string(shipped().join(name)).unwrap()
}

/// The file with its settings switched on: prose begins with `# `, settings with `#` alone.
fn switched_on(name: &str) -> String {
    let is_prose = |rest: &str| rest.is_empty() || rest.starts_with(' ');
    let line = |line: &str| match line.strip_prefix('#') {
        Some(rest) if !is_prose(rest) => format!("{rest}\n"),
        Some(_) | None => format!("{line}\n"),
    };
    text(name).lines().map(line).collect()
}

#[test]
fn as_shipped_there_is_no_problem_and_no_resource() {
    let loaded = load(&Source { variables: Variables::given([]), ..Source::new(shipped()) }).unwrap();
    assert_eq!(loaded.warnings, []);
    assert!(loaded.settings.resources.is_empty());
    assert_eq!(loaded.files.len(), 3);
    let plain = Settings { models: loaded.settings.models.clone(), ..Settings::default() };
    assert_eq!(loaded.settings, plain, "every setting is commented out");
    assert_eq!(loaded.settings.models["gpt-4o-mini"].price.input, 150_000);
}

#[test]
fn every_documented_default_is_the_default_and_none_is_missing() {
    let on = switched_on("00-gateway.toml");
    let files = directory(&[("00-gateway.toml", &on)]);
    let key = "a-key-of-more-than-twenty-characters";
    let variables = Variables::given([("GATEWAY_ADMIN_KEY", key)]);
    let loaded = load(&Source { variables, ..source(files.path()) }).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(loaded.warnings, []);

    let documented: BTreeSet<String> = loaded.origins.keys().cloned().collect();
    for entry in entries(&Settings::default()) {
        assert!(documented.contains(&entry.key), "{} is not in 00-gateway.toml", entry.key);
    }
    let mut settings = loaded.settings;
    assert_eq!(settings.admin.key.take().unwrap().expose(), key);
    let limits = &mut settings.default_limits;
    assert_eq!(limits.burst.take(), limits.rpm.map(|rpm| rpm / 4), "what it says of burst");
    assert_eq!(settings, Settings::default());
}

#[test]
fn the_example_region_works_once_it_is_switched_on() {
    let on = switched_on("20-example-region.toml");
    let models = text("10-models.toml");
    let files = directory(&[("10-models.toml", &models), ("20-region.toml", &on)]);
    let variables = Variables::given([("AZURE_EASTUS2_KEY", "abc")]);
    let loaded = load(&Source { variables, ..source(files.path()) }).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(loaded.warnings, []);
    let resource = &loaded.settings.resources["eastus2"];
    assert_eq!((resource.priority, resource.weight, resource.enabled), (1, 100, true));
    assert_eq!(resource.api_version.to_string(), "2024-10-21");
    let priorities: Vec<_> =
        resource.deployments.iter().map(|(name, deployment)| (name.as_str(), deployment.priority)).collect();
    assert_eq!(priorities, [("gpt-4o-mini", 1), ("gpt41-prod", 1), ("gpt41-ptu", 0)]);

    // What it calls a default is one.
    let short: String = on
        .lines()
        .filter(|line| {
            !["priority", "weight", "enabled", "allow_insecure", "api_version", "kind", "proxy"]
                .iter()
                .any(|key| line.starts_with(key))
        })
        .map(|line| format!("{line}\n"))
        .collect();
    let files = directory(&[("10-models.toml", &models), ("20-region.toml", &short)]);
    let variables = Variables::given([("AZURE_EASTUS2_KEY", "abc")]);
    let terse = load(&Source { variables, ..source(files.path()) }).unwrap();
    assert_eq!(terse.settings, loaded.settings);
}
