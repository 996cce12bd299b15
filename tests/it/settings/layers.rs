//! Which value counts when several are given, and where it is said to come from.

use std::collections::BTreeMap;
use std::time::Duration;

use aoai_gateway::azure::endpoint::{ApiVersion, Kind};
use aoai_gateway::azure::entra::Identity;
use aoai_gateway::domain::outbound::Way;
use aoai_gateway::domain::secret::Secret;
use aoai_gateway::settings::model::Credential;
use aoai_gateway::settings::{Origin, Place, Severity, Source, Variables, entries, load};
use proptest::prelude::*;

use super::{directory, source};

const REGION: &str = r#"
[resources.eastus2]
endpoint = "https://c.openai.azure.com"
api_key = "env:KEY"
[resources.eastus2.deployments]
"gpt-4.1" = "gpt-4.1"
"#;

fn with_variables(source: Source, pairs: &[(&str, &str)]) -> Source {
    let mut all = BTreeMap::from([("KEY".to_owned(), "abc".to_owned())]);
    all.extend(pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())));
    Source { variables: Variables::Given(all), ..source }
}

#[test]
fn a_file_adds_to_another_ones_tables() {
    let files = directory(&[
        ("10-a.toml", REGION),
        ("20-b.toml", "[resources.eastus2]\nweight = 7\n[models.\"gpt-4.1\"]\nprice = { input = 2.0 }\n"),
        ("30-c.toml", &REGION.replace("eastus2", "westus3")),
        (".hidden.toml", "broken ="),
        ("notes.txt", "broken ="),
    ]);
    let loaded = load(&source(files.path())).unwrap();
    assert_eq!(loaded.settings.resources.len(), 2);
    assert_eq!(loaded.settings.resources["eastus2"].weight, 7);
    assert_eq!(loaded.settings.resources["eastus2"].deployments.len(), 1);
    assert_eq!(loaded.settings.models["gpt-4.1"].price.input, 2_000_000);
    assert_eq!(loaded.settings.models["gpt-4.1"].price.cached_input, 2_000_000);
    assert_eq!(loaded.files.len(), 3);
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
}

#[test]
fn local_files_come_last_then_the_environment_then_flags() {
    let files = directory(&[
        ("00-a.local.toml", "[routing]\nattempts = 2\ncooldown = \"2s\"\nconnect_timeout = \"2s\"\n"),
        (
            "99-z.toml",
            "[routing]\nattempts = 1\ncooldown = \"1s\"\nconnect_timeout = \"1s\"\nresponse_timeout = \"1s\"\n",
        ),
    ]);
    let source = with_variables(
        source(files.path()),
        &[
            ("GATEWAY__ROUTING__COOLDOWN", "3s"),
            ("GATEWAY__ROUTING__CONNECT_TIMEOUT", "3s"),
            ("GATEWAY__ROUTING__ATTEMPTS", ""),
        ],
    )
    .with("routing.connect_timeout", "4s");
    let loaded = load(&source).unwrap();
    let routing = &loaded.settings.routing;
    assert_eq!(routing.response_timeout, Duration::from_secs(1));
    assert_eq!(routing.attempts, 2, "a variable set to nothing is not set");
    assert_eq!(routing.cooldown, Duration::from_secs(3));
    assert_eq!(routing.connect_timeout, Duration::from_secs(4));

    let file = files.path().join("00-a.local.toml");
    assert_eq!(loaded.origins["routing.attempts"], Origin::File { file, line: 2 });
    assert_eq!(loaded.origins["routing.cooldown"], Origin::Environment("GATEWAY__ROUTING__COOLDOWN".into()));
    assert_eq!(loaded.origins["routing.connect_timeout"], Origin::Flag);
    assert_eq!(loaded.origins.get("routing.first_byte_timeout"), None);
}

#[test]
fn the_environment_speaks_in_texts() {
    let files = directory(&[("10-a.toml", REGION)]);
    let source = with_variables(
        source(files.path()),
        &[
            ("GATEWAY__RESOURCES__EASTUS2__WEIGHT", "50"),
            ("GATEWAY__RESOURCES__EASTUS2__ENABLED", "FALSE"),
            ("GATEWAY__RESOURCES__EASTUS2__API_KEY", "clear-but-in-no-file"),
            ("GATEWAY__MODELS__GPT-4.1__PRICE__INPUT", "0.15"),
            ("GATEWAY__MODELS__GPT-4.1__ALIASES", "gpt-4, gpt-4-turbo"),
            ("GATEWAY__DEFAULTS__LIMITS__RPM", "unlimited"),
            ("GATEWAY__DEFAULTS__LIMITS__CONCURRENCY", "1_000"),
            ("GATEWAY_PORT", "tcp://10.0.0.1:80"),
        ],
    );
    let loaded = load(&source).unwrap();
    let resource = &loaded.settings.resources["eastus2"];
    assert_eq!((resource.weight, resource.enabled), (50, false));
    assert_eq!(resource.credential, Credential::Key(Secret::new("clear-but-in-no-file")));
    assert_eq!(loaded.settings.models["gpt-4.1"].price.input, 150_000);
    assert_eq!(loaded.settings.models["gpt-4.1"].aliases, ["gpt-4", "gpt-4-turbo"]);
    assert_eq!(loaded.settings.default_limits.rpm, None);
    assert_eq!(loaded.settings.default_limits.concurrency, Some(1000));
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
}

#[test]
fn a_mistake_in_the_environment_or_a_flag_names_it() {
    let files = directory(&[("10-a.toml", "[routing]\nattempts = 2\n")]);
    let source = with_variables(
        source(files.path()),
        &[("GATEWAY__ROUTING__ATTEMPTS", "many"), ("GATEWAY__SERVR__LISTEN", "x")],
    )
    .with("server.listen", "here");
    let errors = load(&source).unwrap_err();
    assert_eq!(
        errors.to_string(),
        r#"error: `server.listen` must be an address with a port such as "0.0.0.0:8080", not the text "here"
  --> command line (server.listen)
error: `routing.attempts` must be a whole number from 1 to 10, not the text "many"
  --> environment variable GATEWAY__ROUTING__ATTEMPTS
error: unknown setting `servr`
  --> environment variable GATEWAY__SERVR__LISTEN
   = tip: did you mean `server`?
3 errors, no warnings
"#
        .trim_end()
    );
}

#[test]
fn a_file_that_cannot_be_parsed_hides_no_mistake_and_invents_none() {
    let files = directory(&[
        ("10-a.toml", "[resources.eastus2]\nweight = \"x\"\n"),
        ("20-b.toml", "[resources.eastus2]\nendpoint = \n"),
        ("30-c.toml", "\u{feff}[server]\r\nworkers = -1\r\n"),
    ]);
    std::fs::write(files.path().join("40-d.toml"), b"[server]\nx = \"\xff\"\n").unwrap();
    let errors = load(&source(files.path())).unwrap_err();
    let said: Vec<_> = errors
        .problems
        .iter()
        .map(|problem| {
            (problem.file().unwrap().file_name().unwrap().to_str().unwrap(), problem.line(), problem.column())
        })
        .collect();
    assert_eq!(
        said,
        [
            ("10-a.toml", Some(2), Some(10)),
            ("20-b.toml", Some(2), Some(12)),
            ("30-c.toml", Some(2), Some(11)),
            ("40-d.toml", Some(2), Some(6)),
        ],
        "{errors}"
    );
}

#[test]
fn without_a_directory_the_defaults_hold() {
    let nowhere = tempfile::tempdir().unwrap();
    let mut source = source(&nowhere.path().join("absent"));
    let loaded = load(&source).unwrap();
    assert_eq!(loaded.settings, aoai_gateway::settings::Settings::default());
    assert_eq!(loaded.settings.server.listen.to_string(), "0.0.0.0:8080");
    assert!(matches!(loaded.warnings.as_slice(), [warning] if warning.message.contains("does not exist")));

    source.directory = nowhere.path().to_owned();
    let empty = load(&source).unwrap();
    assert!(matches!(empty.warnings.as_slice(), [warning] if warning.severity == Severity::Warning));

    let file = nowhere.path().join("file");
    std::fs::write(&file, "").unwrap();
    source.directory = file;
    assert!(load(&source).is_err(), "a file is no directory");
}

#[test]
fn the_admin_key_may_come_from_the_variable_of_its_name() {
    let files = directory(&[("10-a.toml", "")]);
    let long = "a-key-of-more-than-twenty-characters";
    let loaded = load(&with_variables(source(files.path()), &[("GATEWAY_ADMIN_KEY", long)])).unwrap();
    assert_eq!(loaded.settings.admin.key.unwrap().expose(), long);
    let errors = load(&with_variables(source(files.path()), &[("GATEWAY_ADMIN_KEY", "changeme")])).unwrap_err();
    assert_eq!(errors.problems[0].place, Place::Environment("GATEWAY_ADMIN_KEY".into()));
    assert!(
        load(&with_variables(source(files.path()), &[("GATEWAY_ADMIN_KEY", "two words, and long enough")])).is_err()
    );
    assert_eq!(load(&source(files.path())).unwrap().settings.admin.key, None);
}

#[test]
fn a_rotated_secret_file_is_another_content() {
    let files = directory(&[]);
    let secret = files.path().join("key");
    let region = REGION.replace("env:KEY", &format!("file:{}", secret.display()));
    std::fs::write(files.path().join("10-a.toml"), region).unwrap();
    std::fs::write(&secret, "first\n").unwrap();
    let first = load(&source(files.path())).unwrap();
    assert_eq!(first.settings.resources["eastus2"].credential, Credential::Key(Secret::new("first")));
    assert_eq!(load(&source(files.path())).unwrap().content_hash, first.content_hash);
    std::fs::write(&secret, "second\n").unwrap();
    let second = load(&source(files.path())).unwrap();
    assert_eq!(second.settings.resources["eastus2"].credential, Credential::Key(Secret::new("second")));
    assert_ne!(second.content_hash, first.content_hash);
    std::fs::remove_file(&secret).unwrap();
    assert_ne!(load(&source(files.path())).unwrap_err().content_hash, second.content_hash);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However the keys are spread over files, variables and flags: the last one that sets a key wins.
    #[test]
    fn the_last_layer_that_sets_a_key_wins(layers in proptest::collection::vec([any::<bool>(), any::<bool>(), any::<bool>()], 1..6)) {
        const KEYS: [&str; 3] = ["attempts", "weight", "rpm"];
        let files = directory(&[("00-base.toml", REGION)]);
        let mut source = with_variables(source(files.path()), &[]);
        let mut expected = [4, 100, 600];
        let last = layers.len() - 1;
        for (at, sets) in layers.iter().enumerate() {
            let value = at as u32 + 1;
            let path = |key: &str| match key {
                "attempts" => "routing.attempts",
                "weight" => "resources.eastus2.weight",
                _ => "defaults.limits.rpm",
            };
            let set: Vec<_> = KEYS.iter().zip(sets).filter(|(_, set)| **set).map(|(key, _)| path(key)).collect();
            for (slot, _) in sets.iter().enumerate().filter(|(_, set)| **set) {
                expected[slot] = value;
            }
            // The last two layers are the environment and the flags, where there are that many.
            if at == last && at >= 2 {
                source.overrides.extend(set.iter().map(|key| (key.to_string(), value.to_string())));
            } else if at + 1 == last && at >= 1 && last >= 2 {
                let Variables::Given(variables) = &mut source.variables else { unreachable!() };
                variables.extend(set.iter().map(|key| {
                    (format!("GATEWAY__{}", key.to_uppercase().replace('.', "__")), value.to_string())
                }));
            } else {
                let text: String = set.iter().map(|key| format!("{key} = {value}\n")).collect();
                std::fs::write(files.path().join(format!("{at:02}-layer.toml")), text).unwrap();
            }
        }
        let settings = load(&source).unwrap().settings;
        let found = [settings.routing.attempts, settings.resources["eastus2"].weight, settings.default_limits.rpm.unwrap()];
        prop_assert_eq!(found, expected);
    }
}

/// The identity of the only resource, with this environment.
fn identity(entra: &str, variables: Variables) -> Identity {
    let text = format!("[resources.a]\nendpoint = \"https://a.openai.azure.com\"\nentra = {entra}\n");
    let files = directory(&[("20-a.toml", &text)]);
    let loaded = load(&Source { variables, ..source(files.path()) }).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(loaded.warnings, []);
    match &loaded.settings.resources["a"].credential {
        Credential::Entra(entra) => entra.identity.clone(),
        Credential::Key(_) | Credential::Callers => panic!("there is no key"),
    }
}

#[test]
fn a_managed_identity_is_what_the_platform_says_it_is() {
    let managed = r#"{ kind = "managed_identity" }"#;
    let Identity::Machine { endpoint, client_id: None } = identity(managed, Variables::given([])) else { panic!() };
    assert_eq!(endpoint.to_string(), "http://169.254.169.254/metadata/identity/oauth2/token");
    assert_eq!(endpoint.way, Way::Platform, "never through a proxy");
    // As App Service on Linux has it.
    let platform = [("IDENTITY_ENDPOINT", "http://169.254.130.2:8081/msi/token/"), ("IDENTITY_HEADER", "abc")];
    let Identity::App { endpoint, header, .. } = identity(managed, Variables::given(platform)) else { panic!() };
    assert_eq!((endpoint.to_string().as_str(), header.expose()), ("http://169.254.130.2:8081/msi/token", "abc"));
    let own = r#"{ kind = "managed_identity", endpoint = "http://localhost:1/x", client_id = "me" }"#;
    let Identity::Machine { endpoint, client_id } = identity(own, Variables::given(platform)) else { panic!() };
    assert_eq!((endpoint.to_string().as_str(), client_id.as_deref()), ("http://localhost:1/x", Some("me")));
}

#[test]
fn a_workload_identity_takes_what_kubernetes_sets() {
    let variables = Variables::given([
        ("AZURE_CLIENT_ID", "client"),
        ("AZURE_TENANT_ID", "tenant"),
        ("AZURE_FEDERATED_TOKEN_FILE", "/var/run/token"),
        ("AZURE_AUTHORITY_HOST", "https://login.microsoftonline.us/"),
    ]);
    let taken = identity(r#"{ kind = "workload_identity", client_id = "mine" }"#, variables);
    let Identity::Workload { authority, tenant, client_id, token_file } = taken else { panic!() };
    assert_eq!(authority.to_string(), "https://login.microsoftonline.us");
    assert_eq!((tenant.as_str(), client_id.as_str(), token_file.to_str()), ("tenant", "mine", Some("/var/run/token")));
}

#[test]
fn an_authority_is_reached_as_its_resource_is() {
    let text = r#"
[resources.a]
endpoint = "https://a.openai.azure.com"
proxy = "env:PROXY"
entra = { kind = "client_secret", tenant_id = "t", client_id = "c", client_secret = "env:KEY" }
"#;
    let files = directory(&[("20-a.toml", text)]);
    let variables = Variables::given([("KEY", "abc"), ("PROXY", "http://me:word@proxy.contoso.com:3128")]);
    let settings = load(&Source { variables, ..source(files.path()) }).unwrap().settings;
    let resource = &settings.resources["a"];
    let Credential::Entra(entra) = &resource.credential else { panic!() };
    assert_eq!(entra.endpoint().to_string(), "https://login.microsoftonline.com");
    let Way::Proxy(proxy) = &resource.endpoint.way else { panic!() };
    assert_eq!(entra.endpoint().way, resource.endpoint.way);
    assert_eq!(proxy.to_string(), "http://proxy.contoso.com:3128");
    let shown: Vec<_> =
        entries(&settings).into_iter().map(|entry| format!("{} = {}", entry.key, entry.value)).collect();
    for line in [
        "resources.a.proxy = \"http://me:…@proxy.contoso.com:3128\"",
        "resources.a.entra.kind = \"client_secret\"",
        "resources.a.entra.client_secret = \"…\"",
    ] {
        assert!(shown.contains(&line.to_owned()), "{line}: {shown:#?}");
    }
}

#[test]
fn a_last_resort_keeps_its_base_path_and_its_models_names() {
    let text = r#"
[models."gpt-4o-mini"]
[resources.local]
kind = "openai"
endpoint = "http://localhost:11434/v1/"
api_key = "env:KEY"
priority = 9
[resources.local.deployments]
"llama3.1:8b" = "gpt-4o-mini"
"meta-llama/Llama-3" = { model = "gpt-4o-mini" }
"#;
    let files = directory(&[("20-local.toml", text)]);
    let loaded = load(&source(files.path())).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(loaded.warnings, []);
    let resource = &loaded.settings.resources["local"];
    assert_eq!((resource.kind, &resource.api_version), (Kind::OpenAi, &ApiVersion::V1));
    assert_eq!(resource.endpoint.to_string(), "http://localhost:11434/v1");
    let deployments: Vec<_> = resource.deployments.iter().map(|(name, d)| (name.as_str(), d.priority)).collect();
    assert_eq!(deployments, [("llama3.1:8b", 9), ("meta-llama/Llama-3", 9)]);
}
