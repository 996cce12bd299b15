//! What is recognised, what it becomes, and what counts over it.

use super::{AZURE_KEY, Place};

fn shown(place: &Place, variables: &[(&str, &str)]) -> String {
    let output = place.output(&["config", "show", "--origin"], variables);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

const RUN: [(&str, &str); 2] =
    [("AZURE_OPENAI_ENDPOINT", "https://Contoso.openai.azure.com"), ("AZURE_OPENAI_MODEL_MAPPER", "gpt-4=four")];

#[track_caller]
fn has(listing: &str, setting: &str, origin: &str) {
    let line = listing.lines().find(|line| line.starts_with(setting));
    let line = line.unwrap_or_else(|| panic!("no {setting} in {listing}"));
    assert!(line.ends_with(&format!("# {origin}")), "{line}");
}

#[test]
fn every_value_says_where_it_comes_from_and_ours_count_over_it() {
    let place = Place::with(&[]);
    let listing = shown(&place, &RUN);
    has(&listing, r#"compat.profile = "azure_openai_proxy""#, "env AZURE_OPENAI_ENDPOINT");
    has(&listing, r#"resources.contoso.endpoint = "https://contoso.openai.azure.com""#, "env AZURE_OPENAI_ENDPOINT");
    has(&listing, r#"resources.contoso.api_key = "caller:""#, "env AZURE_OPENAI_ENDPOINT");
    has(&listing, r#"resources.contoso.deployments.four.model = "gpt-4""#, "env AZURE_OPENAI_MODEL_MAPPER");

    std::fs::create_dir(place.path("settings")).unwrap();
    place.write("settings/10-own.toml", "[resources.contoso]\napi_key = \"own-key\"\nweight = 7\n");
    let own = ("GATEWAY__RESOURCES__CONTOSO__ENDPOINT", "https://other.openai.azure.com");
    let listing = shown(&place, &[&RUN[..], &[own]].concat());
    has(&listing, "resources.contoso.endpoint = \"https://other.openai.azure.com\"", &format!("env {}", own.0));
    has(&listing, "resources.contoso.weight = 7", "settings/10-own.toml:3");
    assert!(!listing.contains("caller:") && !listing.contains("own-key"), "{listing}");

    let off = shown(&place, &[&RUN[..], &[("GATEWAY__COMPAT__PROFILE", "off"), own]].concat());
    assert!(off.contains("compat.profile = \"off\"") && !off.contains("deployments.four"), "{off}");
}

#[test]
fn the_price_lists_aliases_give_way_to_what_is_mapped() {
    let place = Place::with(&[]);
    std::fs::create_dir(place.path("settings")).unwrap();
    let list = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("settings/10-models.toml");
    std::fs::copy(list, place.path("settings/10-models.toml")).unwrap();
    let variables = [RUN[0], ("AZURE_OPENAI_MODEL_MAPPER", "gpt-3.5-turbo=gpt-35,gpt-4o=shared,gpt-4o-mini=shared")];
    let listing = shown(&place, &variables);
    assert!(listing.contains("resources.contoso.deployments.gpt-35.model = \"gpt-3.5-turbo\""), "{listing}");
    let aliases = |model: &str| {
        let line = listing.lines().find(|line| line.starts_with(&format!("models.{model}.aliases"))).unwrap();
        line.to_owned()
    };
    assert!(!listing.contains(r#"["gpt-3.5-turbo", "#), "it has a deployment of its own: {listing}");
    assert!(aliases("gpt-4o").contains("\"gpt-4o-mini\""), "{listing}");
    assert!(!listing.contains("models.gpt-4o-mini."), "it is a name of another model now");
}

#[test]
fn variables_that_many_programs_know_are_not_enough() {
    let place = Place::with(&[]);
    for variables in [
        &[("AZURE_OPENAI_ENDPOINT", "https://c.openai.azure.com"), ("AZURE_OPENAI_API_KEY", AZURE_KEY)][..],
        &[("AZURE_ENDPOINT", "https://c.openai.azure.com"), ("AZURE_OPENAI_API_KEY", AZURE_KEY)],
        &[("RESOURCE_NAME", "c")],
        &[("AUTH_KEY", "x"), ("APIKEY", "y"), ("LISTEN", ":1"), ("CORS", "true"), ("VERSION", "true")],
    ] {
        let listing = shown(&place, variables);
        assert!(listing.contains("compat.profile = \"off\"") && !listing.contains("resources."), "{listing}");
    }
    // Another program's file is its own business, also when it is broken.
    for text in ["model_list: [{model_name: x}]\n", "a: [1\n", "- 1\n"] {
        place.write("config.yaml", text);
        assert!(shown(&place, &[]).contains("compat.profile = \"off\""));
    }
}

#[test]
fn a_mistake_is_shown_where_it_stands_and_no_secret_with_it() {
    let place = Place::with(&[]);
    place.write(
        "config.yaml",
        "deployment_config:\n  - deployment_name: \"a b\"\n    model_name: gpt-4\n    endpoint: ftp://contoso\n    api_key: my secret key\n",
    );
    let output = place.output(&["check"], &[]);
    let told = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(2), "{told}");
    for part in ["config.yaml:4:15", "ftp://contoso", "config.yaml:2:22", "config.yaml:5:14"] {
        assert!(told.contains(part), "no {part} in {told}");
    }
    assert!(!told.contains("my secret"), "{told}");

    let place = Place::with(&[]);
    let output = place.output(&["check"], &[RUN[0], ("AZURE_OPENAI_MODEL_MAPPER", "gpt-4")]);
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(told.contains("`gpt-4` is no MODEL=DEPLOYMENT") && told.contains("AZURE_OPENAI_MODEL_MAPPER"), "{told}");
}

#[test]
fn of_two_that_look_alike_one_counts_and_the_other_is_named() {
    let place = Place::with(&[]);
    let both = [RUN[0], RUN[1], ("RESOURCENAME", "other"), ("APIKEY", AZURE_KEY), ("MAPPER_GPT35TUBER", "x")];
    let output = place.output(&["check"], &both);
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(told.contains("azure_openai_proxy, and also of chat_azure"), "{told}");
    let wanted = ("GATEWAY__COMPAT__PROFILE", "chat_azure");
    let listing = shown(&place, &[&both[..], &[wanted]].concat());
    assert!(listing.contains("resources.other.endpoint") && !listing.contains("contoso"), "{listing}");
}
