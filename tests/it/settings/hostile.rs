//! Whatever is in the files, the loader answers; it never panics, and it never quotes a secret.

use aoai_gateway::settings::load;
use proptest::prelude::*;

use super::{directory, found, source};

/// Keys that mean something somewhere, and some that are meant to hurt.
fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("server"),
        Just("resources"),
        Just("models"),
        Just("deployments"),
        Just("endpoint"),
        Just("api_key"),
        Just("price"),
        Just("input"),
        Just("aliases"),
        Just("defaults"),
        Just("limits"),
        Just("rpm"),
        Just("routing"),
        Just("attempts"),
        Just("listen"),
        Just("enabled"),
        Just("\"a[99999999999]\""),
        Just("\"a.b\""),
        Just("\"\""),
        Just("\"\\u001b[31m\""),
        Just("x"),
    ]
    .prop_map(str::to_owned)
}

fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        Just("nan".to_owned()),
        Just("-inf".to_owned()),
        Just("1e308".to_owned()),
        Just("true".to_owned()),
        Just("1979-05-27T07:32:00Z".to_owned()),
        Just("\"https://a@b\"".to_owned()),
        Just("\"file:/\"".to_owned()),
        Just("\"env:\"".to_owned()),
        Just("\"\"".to_owned()),
        Just("\"ünï\\u0000\"".to_owned()),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(", "))),
            proptest::collection::btree_map(key(), inner, 0..4).prop_map(|entries| {
                let entries: Vec<_> = entries.into_iter().map(|(key, value)| format!("{key} = {value}")).collect();
                format!("{{ {} }}", entries.join(", "))
            }),
        ]
    })
}

fn line() -> impl Strategy<Value = String> {
    let path = || proptest::collection::vec(key(), 1..5).prop_map(|keys| keys.join("."));
    prop_oneof![
        4 => (path(), value()).prop_map(|(path, value)| format!("{path} = {value}\n")),
        2 => path().prop_map(|path| format!("[{path}]\n")),
        1 => path().prop_map(|path| format!("[[{path}]]\n")),
        1 => "[ -~]{0,30}".prop_map(|noise| format!("{noise}\n")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_toml_makes_the_loader_panic(
        one in proptest::collection::vec(line(), 0..6),
        other in proptest::collection::vec(line(), 0..6),
        noise in any::<Vec<u8>>(),
        variable in "GATEWAY__[A-Z_.\\[\\]0-9-]{0,30}",
    ) {
        let files = directory(&[("10-a.toml", &one.concat()), ("20-b.toml", &other.concat())]);
        std::fs::write(files.path().join("30-c.toml"), noise).unwrap();
        let mut source = source(files.path()).with(variable.to_lowercase(), "1");
        source.variables = aoai_gateway::settings::Variables::given([(&variable, "x")]);
        match load(&source) {
            Ok(loaded) => loaded.warnings.iter().for_each(|warning| assert!(!warning.to_string().is_empty())),
            Err(errors) => assert!(!errors.to_string().contains('\u{1b}')),
        }
    }

    #[test]
    fn one_file_alone_never_does_either(lines in proptest::collection::vec(line(), 0..8)) {
        let text = found(&[("10-a.toml", &lines.concat())]);
        prop_assert_eq!(text.find('\u{1b}'), None);
    }
}

#[test]
fn a_secret_is_quoted_nowhere() {
    let canary = "c4n4ryc4n4ryc4n4ryc4n4ryc4n4ry";
    let wrong = [
        format!("[resources.a]\napi_key = \"{canary}\"\nendpoint = \"x\"\n"),
        format!("[resources.a]\napi_key = \"{canary}\n"),
        format!("[resources.a]\napi_key = {canary}\n"),
        format!("[resources.a]\nkey = \"{canary}\"\n"),
        format!("[resources.a]\nendpoint = \"{canary}\"\n"),
        format!("[resources.a]\nendpoint = \"https://me:{canary}@c.openai.azure.com\"\n"),
        format!("[resources.a]\nregion = \"a {canary}\"\n"),
        format!("[resources]\na = {{ api_key = [\"{canary}\"], b = 1 }}\n"),
        format!("[resources.a.deployments]\napi_key = \"{canary}\"\n"),
        format!("[admin]\nkey = \"{canary} \"\nlisten = \"{canary}\"\n"),
        format!("[database]\nurl = \"mysql://me:{canary}@db/x\"\n"),
        format!("x = \"\"\"\napi_key = {canary}\n"),
    ];
    for toml in wrong {
        let files = directory(&[("10-a.toml", &toml)]);
        let said = match load(&source(files.path())) {
            Ok(loaded) => format!("{:?}", loaded.warnings),
            Err(errors) => format!("{errors}\n{errors:?}\n{}", serde_json::to_string(&errors.problems).unwrap()),
        };
        assert!(!said.contains(canary), "{toml}\n{said}");
    }
}
