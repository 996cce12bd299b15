//! LiteLLM's `config.yaml`: the Azure and OpenAI entries of `model_list`, fallbacks, and names of groups.

use std::path::Path;

use super::{ImportError, Plan, of_foreign, sketch};
use crate::compat::draft::{Draft, Home, Mapping, without_path};
use crate::compat::yaml::{Found, Yaml};
use crate::settings::Variables;

/// What an entry may say instead of a key.
const IDENTITIES: [&str; 4] = ["azure_ad_token", "azure_ad_token_provider", "tenant_id", "azure_username"];

pub fn plan(path: &Path, file: &Yaml, settings: &Path, variables: &Variables) -> Result<Plan, ImportError> {
    let mut draft = sketch(path);
    let (mut homes, mut mappings, mut left_out): (Vec<Home>, Vec<Mapping>, Vec<String>) =
        (Vec::new(), Vec::new(), Vec::new());
    for entry in file.get("model_list").map_or(&[][..], Yaml::items) {
        match served(entry, variables) {
            Ok((home, mapping)) => {
                let at = Home::place_in(&mut homes, home);
                mappings.push(Mapping { home: at, ..mapping });
            }
            Err(why) => left_out.push(format!("{}: {why}", entry.place)),
        }
        if let Some(params) = entry.get("litellm_params").filter(|params| params.has_any(&["order", "weight"])) {
            let advice = "order and weight: set `priority` (the lowest is used first) and `weight` of the resource";
            left_out.push(format!("{}: {advice}", params.place));
        }
    }
    if mappings.is_empty() {
        return Err(ImportError::Refused(format!(
            "{} has no entry of Azure or OpenAI that could be carried over: {}",
            path.display(),
            left_out.join("; ")
        )));
    }
    draft.estate(&homes, &mappings);
    aliases(file, &mut draft);
    fallbacks(file, &mut draft);
    for (section, advice) in [
        (
            "general_settings",
            "make an admin key (admin.key) and keys (`aoai-gateway keys add`); the database of keys is LiteLLM's own",
        ),
        ("router_settings", "routing is balanced by itself; timeouts and retries are in [routing]"),
        (
            "litellm_settings",
            "callbacks, caches, budgets and other kinds of fallbacks have no equal here; `fallbacks` were carried over",
        ),
    ] {
        if file.get(section).is_some() {
            left_out.push(format!("{section}: {advice}"));
        }
    }
    let mut plan = of_foreign("LiteLLM", draft.finish(Vec::new()), settings)?;
    plan.left_out = left_out;
    Ok(plan)
}

/// One entry of `model_list`, or why it cannot be carried over. Where the mapping's home stands, the caller knows.
fn served(entry: &Yaml, variables: &Variables) -> Result<(Home, Mapping), String> {
    let params = entry.get("litellm_params");
    let found = |name: &str| params.and_then(|params| params.found_at(name));
    let (Some(name), Some(model)) = (entry.found_at("model_name"), found("model")) else {
        return Err("an entry without model_name or litellm_params.model".to_owned());
    };
    let (name, at) = (name.text, model.place.clone());
    // What stands there, or in the variable that it names, or in the one that LiteLLM looks at where nothing stands.
    let value = |key: &str, usual: &str| -> Result<Option<Found>, String> {
        let Some(found) = found(key) else {
            return Ok(variables.get(usual).map(|text| Found { text, place: at.clone() }));
        };
        let Some(variable) = found.text.strip_prefix("os.environ/") else { return Ok(Some(found)) };
        match variables.get(variable) {
            Some(text) => Ok(Some(Found { text, place: found.place })),
            None => {
                Err(format!("the {key} of {name} is in {variable}, which is not set here: set it and import again"))
            }
        }
    };
    let (provider, upstream) = model.text.split_once('/').unwrap_or(("openai", &model.text));
    if upstream.contains('*') || name.contains('*') {
        return Err(format!("{name} stands for any model: write each deployment into the region file"));
    }
    let kind = match provider {
        "azure" | "azure_text" => "azure",
        "openai" => "openai",
        other => return Err(format!("{name} is served by {other}, which is not spoken here")),
    };
    let is_azure = kind == "azure";
    let endpoint = match (is_azure, value("api_base", if is_azure { "AZURE_API_BASE" } else { "OPENAI_BASE_URL" })?) {
        // LiteLLM takes the whole address of a call as well.
        (true, Some(endpoint)) => without_path(endpoint),
        (false, Some(endpoint)) => endpoint,
        (false, None) => Found { text: "https://api.openai.com/v1".to_owned(), place: at.clone() },
        (true, None) => {
            return Err(format!("{name} has no api_base, and AZURE_API_BASE is not set here: set it and import again"));
        }
    };
    let key = match found("api_key") {
        Some(key) => reference(key),
        None if params.is_some_and(|params| params.has_any(&IDENTITIES)) => {
            return Err(format!("{name} is called with an Entra identity: write its region file with `entra`"));
        }
        None => {
            let text = if is_azure { "env:AZURE_API_KEY" } else { "env:OPENAI_API_KEY" };
            Found { text: text.to_owned(), place: at.clone() }
        }
    };
    let version = if is_azure { value("api_version", "AZURE_API_VERSION")? } else { None };
    // What stands before the name of a deployment of Azure, such as `o_series/`, tells LiteLLM how to speak to it.
    let upstream = if is_azure { upstream.rsplit('/').next().unwrap_or(upstream) } else { upstream };
    let deployment = Found { text: upstream.to_owned(), place: at.clone() };
    let (tpm, rpm) = (number(found("tpm")), number(found("rpm")));
    let home = Home { kind, endpoint, key: Some(key), version, proxy: None };
    Ok((home, Mapping { tpm, rpm, ..Mapping::new(name, deployment, 0) }))
}

/// `os.environ/NAME` is our `env:NAME`.
fn reference(found: Found) -> Found {
    match found.text.strip_prefix("os.environ/") {
        Some(name) => Found { text: format!("env:{name}"), place: found.place },
        None => found,
    }
}

fn number(found: Option<Found>) -> Option<i64> {
    found.and_then(|found| found.text.replace('_', "").parse().ok()).filter(|number| *number > 0)
}

/// `model_group_alias: {a: b}`, or `{a: {model: b}}`.
fn aliases(file: &Yaml, draft: &mut Draft) {
    let table = file.get("router_settings").and_then(|section| section.get("model_group_alias"));
    for (alias, of) in table.map_or(&[][..], Yaml::entries) {
        if let Some(model) = of.found().or_else(|| of.found_at("model")) {
            draft.set(&["compat", "aliases", alias], model.text, &model.place);
        }
    }
}

/// `fallbacks: [{a: [b, c]}]`, in either of the sections where it may stand.
fn fallbacks(file: &Yaml, draft: &mut Draft) {
    let sections = ["litellm_settings", "router_settings"].into_iter().filter_map(|section| file.get(section));
    for entry in sections.filter_map(|section| section.get("fallbacks")).flat_map(Yaml::items) {
        for (model, others) in entry.entries() {
            let names: Vec<String> = others.items().iter().filter_map(Yaml::text).map(str::to_owned).collect();
            draft.set(&["models", model, "fallback"], names, &others.place);
        }
    }
}
