//! `aoai-gateway import`: what others have, as settings and keys of this gateway.

use std::process::Output;

use serde_json::json;

use super::{AZURE_KEY, HELLO, Place, chat, curl, says};

fn out(output: &Output) -> String {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text + &String::from_utf8(output.stderr.clone()).unwrap()
}

/// Both ways: what it would do changes nothing, and what it does is what it said.
fn import(place: &Place, file: &str) -> String {
    let before = std::fs::read_dir(place.folder.path()).unwrap().count();
    let dry = place.output(&["import", file], &[]);
    assert!(dry.status.success() && out(&dry).contains("nothing was written"), "{}", out(&dry));
    assert_eq!(std::fs::read_dir(place.folder.path()).unwrap().count(), before);
    let done = place.output(&["import", file, "--write"], &[]);
    let told = out(&done);
    let planned = String::from_utf8(dry.stdout).unwrap();
    assert!(told.starts_with(&planned), "{told}\nis not\n{planned}");
    told
}

#[test]
fn both_users_tables_with_their_counts() {
    for (column, times) in [("token", "'2023-09-18 02:00:00'"), ("password", "'2023-09-18 10:00:00.12+08:00'")] {
        let place = Place::with(&["gpt-35"]);
        place.sql(
            "old.db",
            &format!(
                "CREATE TABLE users (id integer PRIMARY KEY, username text NOT NULL UNIQUE, {column} text NOT NULL \
                 UNIQUE, count integer NOT NULL DEFAULT 0, status integer NOT NULL DEFAULT 1, create_time datetime, \
                 update_time datetime);
                 INSERT INTO users VALUES (1, 'amy', 'amy-secret', 4711, 1, {times}, {times}), \
                 (2, 'bob', 'bob-secret', 7, 0, {times}, {times})"
            ),
        );
        let told = import(&place, "old.db");
        assert!(told.contains("amy: 4711 used so far\n") && told.contains("bob: 7 used so far, disabled\n"), "{told}");
        assert!(told.contains("2 users added") && !told.contains("secret"), "{told}");
        let again = out(&place.output(&["import", "old.db", "--write"], &[]));
        assert!(again.contains("0 users added, 0 changed"), "{again}");
        assert!(place.read("old.db").windows(10).any(|bytes| bytes == b"amy-secret"), "the source stays as it is");

        std::fs::create_dir_all(place.path("settings")).unwrap();
        let region = format!(
            "[resources.contoso]\nendpoint = \"https://contoso.openai.azure.com\"\napi_key = \"{AZURE_KEY}\"\n[resources.contoso.deployments]\ngpt-35 = \"gpt-3.5-turbo\"\n"
        );
        place.write("settings/20-contoso.toml", &region);
        let gateway = place.start(&[]);
        let query = |token: &str| curl(&gateway, "/v1/queryuser", "", &json!({ "token": token }).to_string());
        says(&query("amy-secret"), 200, r#"{"count":4711,"status":1,"username":"amy"}"#);
        chat(&gateway, "Bearer amy-secret", HELLO).expect(200);
        assert_eq!(chat(&gateway, "Bearer bob-secret", HELLO).status, 401);
        gateway.stop();
    }
}

#[test]
fn a_litellm_file_becomes_regions() {
    let place = Place::with(&["mini-a", "mini-b"]);
    place.write(
        "config.yaml",
        &format!(
            "model_list:\n  - model_name: gpt-4o-mini\n    litellm_params:\n      model: azure/mini-a\n      \
             api_base: https://contoso.openai.azure.com/\n      api_key: {AZURE_KEY}\n      api_version: \"2024-10-21\"\n      \
             rpm: 60\n      tpm: 10_000\n  - model_name: gpt-4o-mini\n    litellm_params:\n      model: azure/mini-b\n      \
             api_base: https://fabrikam.openai.azure.com/\n      api_key: os.environ/FABRIKAM_KEY\n  - model_name: claude\n    \
             litellm_params:\n      model: anthropic/claude-3\n      api_key: os.environ/X\nlitellm_settings:\n  \
             fallbacks: [{{\"gpt-4o-mini\": [\"gpt-4.1-mini\"]}}]\ngeneral_settings:\n  master_key: sk-1234\n"
        ),
    );
    let told = import(&place, "config.yaml");
    assert!(!told.contains(AZURE_KEY) && !told.contains("sk-1234"), "{told}");
    for part in ["claude is served by anthropic", "general_settings: make an admin key", "FABRIKAM_KEY is not set"] {
        assert!(told.contains(part), "no {part} in {told}");
    }
    let region = String::from_utf8(place.read("settings/30-contoso.toml")).unwrap();
    assert!(region.contains(r#""mini-a" = { model = "gpt-4o-mini", tpm = 10000, rpm = 60 }"#), "{region}");
    assert!(region.contains(r#"models."gpt-4o-mini".fallback = ["gpt-4.1-mini"]"#), "{region}");
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(place.path("settings/contoso.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    // It runs as it stands, with the variable and the model that the fallback needs.
    place.write("settings/40-more.toml", "[models.\"gpt-4.1-mini\"]\n[compat.users.amy]\ntoken = \"amy-token\"\n");
    let fabrikam = format!("GATEWAY__RESOURCES__FABRIKAM__ENDPOINT={}", place.azure.url());
    let (name, url) = fabrikam.split_once('=').unwrap();
    let gateway = place.start(&[("FABRIKAM_KEY", AZURE_KEY), (name, url)]);
    chat(&gateway, "Bearer amy-token", &HELLO.replace("gpt-3.5-turbo", "gpt-4o-mini")).expect(200);
    gateway.stop();

    let again = place.output(&["import", "config.yaml", "--write"], &[("FABRIKAM_KEY", AZURE_KEY)]);
    assert!(!again.status.success() && out(&again).contains("exists already"), "{}", out(&again));
}

#[test]
fn one_apis_channels_and_tokens() {
    let place = Place::with(&["gpt-35-turbo"]);
    place.sql(
        "one-api.db",
        &format!(
            "CREATE TABLE channels (id integer PRIMARY KEY, type integer, key text, status integer, name text, weight \
             integer, base_url text, other text, models text, model_mapping text, priority integer);
             INSERT INTO channels VALUES (1, 3, '{AZURE_KEY}', 1, 'east', 0, 'https://contoso.openai.azure.com', \
             '2024-10-21', 'gpt-3.5-turbo,gpt-4o', '{{\"gpt-3.5-turbo\":\"gpt-3.5-turbo\"}}', 0), \
             (2, 14, 'x', 1, 'claude', 0, '', '', 'claude-3', '', 0), (3, 3, 'y', 2, 'off', 0, 'https://off.openai.azure.com', '', 'gpt-4', '', 0);
             CREATE TABLE tokens (id integer PRIMARY KEY, key text, name text, status integer, used_quota integer);
             INSERT INTO tokens VALUES (1, 'abcdefgh', 'amy', 1, 10), (2, 'ijklmnop', 'amy', 1, 0)"
        ),
    );
    let told = import(&place, "one-api.db");
    for part in [
        "\"gpt-35-turbo\" = \"gpt-3.5-turbo\"",
        "channel 2 (claude)",
        "channel 3 (off)",
        "quotas of tokens",
        "2 users added",
    ] {
        assert!(told.contains(part), "no {part} in {told}");
    }
    assert!(!told.contains(AZURE_KEY) && !told.contains("abcdefgh"), "{told}");
    let gateway = place.start(&[]);
    for key in ["sk-abcdefgh", "sk-ijklmnop"] {
        chat(&gateway, &format!("Bearer {key}"), HELLO).expect(200);
    }
    gateway.stop();
}

/// As later versions have it, and as new-api does: what they would refuse opens nothing here, and what a key cannot be told
/// is said.
#[test]
fn tokens_that_are_refused_over_there_open_nothing_here() {
    let place = Place::with(&["gpt-4.1", "gpt-41"]);
    place.sql(
        "new-api.db",
        &format!(
            "CREATE TABLE channels (id integer PRIMARY KEY, type integer, key text, status integer, name text, weight \
             integer, created_time bigint, base_url text, other text, models text, model_mapping text, priority bigint, \
             tag text, config text, \"group\" text);
             INSERT INTO channels VALUES (1, 3, '{AZURE_KEY}', 1, 'new', 0, 1760000000, 'https://contoso.openai.azure.com/', \
             '', 'gpt-4.1', NULL, 0, NULL, '{{\"api_version\":\"2024-10-21\"}}', 'default'), \
             (2, 3, '{AZURE_KEY}', 1, 'old', 0, 1700000000, 'https://fabrikam.openai.azure.com', '2024-06-01', 'gpt-4.1', '', \
             0, NULL, '', 'default');
             CREATE TABLE users (id integer PRIMARY KEY, username text, password text, status integer);
             INSERT INTO users VALUES (1, 'root', 'x', 1), (2, 'banned', 'x', 2), (3, 'amy', 'x', 1);
             CREATE TABLE tokens (id integer PRIMARY KEY, user_id integer, key text, name text, status integer, \
             expired_time bigint, remain_quota integer, unlimited_quota numeric, used_quota integer, \
             model_limits_enabled numeric, model_limits text, allow_ips text, deleted_at datetime);
             INSERT INTO tokens VALUES \
             (1, 1, 'token-good-01', 'default', 1, -1, 0, 1, 5, 0, 'gpt-9', '', NULL), \
             (2, 3, 'token-limited', 'default', 1, 4000000000, 500, 0, 5, 1, 'gpt-4.1,gpt-9', '10.0.0.0/8', NULL), \
             (3, 1, 'token-expired', 'expired', 1, 1600000000, 500, 0, 5, 0, '', '', NULL), \
             (4, 1, 'token-used-up', 'used up', 1, -1, 0, 0, 5, 0, '', '', NULL), \
             (5, 2, 'token-banned0', 'banned', 1, -1, 0, 1, 5, 0, '', '', NULL), \
             (6, 1, 'token-deleted', 'deleted', 1, -1, 0, 1, 5, 0, '', '', '2025-01-01 00:00:00')"
        ),
    );
    let told = import(&place, "new-api.db");
    for part in [
        "\"gpt-4.1\" = \"gpt-4.1\"",
        "\"gpt-41\" = \"gpt-4.1\"",
        "api_version = \"2024-10-21\"",
        "api_version = \"2024-06-01\"",
        "default of amy: 0 used so far, for gpt-4.1, gpt-9 alone",
        "token default of amy: it would expire on 2096-10-02T07:06:40Z",
        "token default of amy: it was bound to the addresses 10.0.0.0/8",
        "token expired: it has expired, so it comes disabled",
        "token used up: its quota is used up",
        "token banned: its account is switched off",
        "5 users added",
    ] {
        assert!(told.contains(part), "no {part} in {told}");
    }
    assert!(!told.contains("deleted") && !told.contains("token-"), "{told}");
    let fabrikam = format!("GATEWAY__RESOURCES__FABRIKAM__ENDPOINT={}", place.azure.url());
    let (name, url) = fabrikam.split_once('=').unwrap();
    let gateway = place.start(&[(name, url)]);
    let hello = HELLO.replace("gpt-3.5-turbo", "gpt-4.1");
    for key in ["sk-token-good-01", "sk-token-limited"] {
        chat(&gateway, &format!("Bearer {key}"), &hello).expect(200);
    }
    for key in ["sk-token-expired", "sk-token-used-up", "sk-token-banned0", "sk-token-deleted"] {
        assert_eq!(chat(&gateway, &format!("Bearer {key}"), &hello).status, 401, "{key}");
    }
    gateway.stop();
}

#[test]
fn a_litellm_file_that_refers_to_the_environment() {
    let place = Place::with(&["mini"]);
    place.write(
        "config.yaml",
        "model_list:\n  - model_name: gpt-4o-mini\n    litellm_params:\n      model: azure/mini\n      api_base: \
         os.environ/CONTOSO_BASE\n      api_key: os.environ/CONTOSO_KEY\n      api_version: os.environ/CONTOSO_VERSION\n  \
         - model_name: o1\n    litellm_params:\n      model: azure/o_series/my-o1\n  \
         - model_name: \"*\"\n    litellm_params: {model: \"azure/*\"}\n  \
         - model_name: gpt-4.1\n    litellm_params: {model: azure/x, api_base: \"https://x.openai.azure.com\", tenant_id: y}\n  \
         - model_name: gpt-4o\n    litellm_params: {model: gpt-4o, order: 2}\n\
         router_settings:\n  model_group_alias:\n    gpt-4: gpt-4o-mini\n    gpt-3.5-turbo: {model: gpt-4o-mini, hidden: true}\n",
    );
    let bare = out(&place.output(&["import", "config.yaml"], &[]));
    assert!(bare.contains("the api_base of gpt-4o-mini is in CONTOSO_BASE, which is not set here"), "{bare}");
    assert!(bare.contains("o1 has no api_base, and AZURE_API_BASE is not set here"), "{bare}");
    let variables = [
        ("CONTOSO_BASE", "https://contoso.openai.azure.com"),
        ("CONTOSO_VERSION", "2024-10-21"),
        ("AZURE_API_BASE", "https://fabrikam.openai.azure.com/openai/deployments/my-o1/chat/completions?api-version=x"),
        ("CONTOSO_KEY", AZURE_KEY),
        ("AZURE_API_KEY", AZURE_KEY),
        ("OPENAI_API_KEY", AZURE_KEY),
    ];
    let done = place.output(&["import", "config.yaml", "--write"], &variables);
    let told = out(&done);
    assert!(done.status.success(), "{told}");
    for part in [
        "endpoint = \"https://contoso.openai.azure.com\"",
        "api_version = \"2024-10-21\"",
        "api_key = \"env:CONTOSO_KEY\"",
        "endpoint = \"https://fabrikam.openai.azure.com\"",
        "\"my-o1\" = \"o1\"",
        "api_key = \"env:AZURE_API_KEY\"",
        "api_key = \"env:OPENAI_API_KEY\"",
        "* stands for any model",
        "gpt-4.1 is called with an Entra identity",
        "order and weight",
    ] {
        assert!(told.contains(part), "no {part} in {told}");
    }
    assert!(!told.contains(AZURE_KEY), "{told}");
    place.write("settings/40-more.toml", "[compat.users.amy]\ntoken = \"amy-token\"\n");
    let gateway = place.start(&variables);
    for model in ["gpt-4o-mini", "gpt-4", "gpt-3.5-turbo"] {
        chat(&gateway, "Bearer amy-token", &HELLO.replace("gpt-3.5-turbo", model)).expect(200);
    }
    gateway.stop();
}

#[test]
fn its_own_proxies_files_and_nothing_that_is_unknown() {
    let place = Place::with(&[]);
    place.write(
        "old.yaml",
        &format!("resourceName: Contoso\napiKey: {AZURE_KEY}\napiVersion: 2024-10-21\nmapper: {{gpt-4: one, gpt-4-0613: one}}\ninitUsers: [{{Username: amy, Token: amy-secret}}]\n"),
    );
    let told = import(&place, "old.yaml");
    assert!(told.contains("gpt-4-0613 = \"gpt-4\"") && told.contains("    amy: 0 used so far\n"), "{told}");
    assert!(!told.contains(AZURE_KEY) && !told.contains("amy-secret"), "{told}");
    let listing = out(&place.output(&["config", "show"], &[]));
    assert!(listing.contains("models.gpt-4.aliases = [\"gpt-4-0613\"]"), "{listing}");
    assert!(listing.contains("resources.contoso.api_version = \"2024-10-21\""), "{listing}");

    for (name, text, says) in [
        ("a.yaml", "a: [1\n", "a.yaml:"),
        ("b.yaml", "x: 1\n", "nothing that is known"),
        ("c.yaml", "", "is empty"),
        ("d.yaml", "resourceName: x\nmapper: {a: b}\n", "there is no key"),
        ("e.yaml", "model_list: [{model_name: x, litellm_params: {model: anthropic/y}}]\n", "no entry of Azure"),
    ] {
        place.write(name, text);
        let refused = place.output(&["import", name, "--write"], &[]);
        assert_eq!(refused.status.code(), Some(2));
        assert!(out(&refused).contains(says), "{}", out(&refused));
    }
    place.sql("other.db", "CREATE TABLE x (y integer)");
    assert_eq!(place.output(&["import", "other.db"], &[]).status.code(), Some(2));
    assert_eq!(place.output(&["import", "missing.db"], &[]).status.code(), Some(2));
}
