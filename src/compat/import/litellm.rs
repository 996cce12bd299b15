//! LiteLLM's `config.yaml`: the Azure and OpenAI entries of `model_list`, fallbacks, and names of groups.

use std::path::Path;

use super::{ImportError, Plan, of_foreign, sketch};
use crate::compat::draft::{Home, Mapping};
use crate::compat::yaml::{Found, Yaml};

pub fn plan(path: &Path, file: &Yaml, settings: &Path) -> Result<Plan, ImportError> {
    let mut draft = sketch(path);
    let (mut homes, mut mappings, mut left_out): (Vec<Home>, Vec<Mapping>, Vec<String>) =
        (Vec::new(), Vec::new(), Vec::new());
    for entry in file.get("model_list").map_or(&[][..], Yaml::items) {
        let params = entry.get("litellm_params");
        let found = |name: &str| params.and_then(|params| params.found_at(name)).map(reference);
        let (Some(name), Some(model)) = (entry.found_at("model_name"), found("model")) else {
            left_out.push(format!("{}: an entry without model_name or litellm_params.model", entry.place));
            continue;
        };
        let (provider, upstream) = model.text.split_once('/').unwrap_or(("openai", &model.text));
        let openai = || Found { text: "https://api.openai.com/v1".to_owned(), place: model.place.clone() };
        let (kind, endpoint) = match (provider, found("api_base")) {
            ("azure" | "azure_text", Some(endpoint)) => ("azure", endpoint),
            ("openai", endpoint) => ("openai", endpoint.unwrap_or_else(openai)),
            ("azure" | "azure_text", None) => {
                left_out.push(format!("{}: {} has no api_base, so it comes from a variable", entry.place, name.text));
                continue;
            }
            (other, _) => {
                left_out.push(format!("{}: {} is served by {other}, which is not spoken here", entry.place, name.text));
                continue;
            }
        };
        let Some(key) = found("api_key") else {
            left_out.push(format!("{}: {} has no api_key", entry.place, name.text));
            continue;
        };
        let version = found("api_version").filter(|_| kind == "azure");
        let home = Home { kind, endpoint, key: Some(key), version, proxy: None };
        let at = Home::place_in(&mut homes, home);
        let deployment = Found { text: upstream.to_owned(), place: model.place.clone() };
        let (tpm, rpm) = (number(found("tpm")), number(found("rpm")));
        mappings.push(Mapping { tpm, rpm, ..Mapping::new(name.text, deployment, at) });
    }
    if mappings.is_empty() {
        return Err(ImportError::Refused(format!(
            "{} has no entry of Azure or OpenAI that could be carried over: {}",
            path.display(),
            left_out.join("; ")
        )));
    }
    draft.estate(&homes, &mappings);
    fallbacks(file, &mut draft);
    for (section, advice) in [
        (
            "general_settings",
            "make an admin key (admin.key) and keys (`aoai-gateway keys add`); the database of keys is LiteLLM's own",
        ),
        ("router_settings", "routing is balanced by itself; timeouts and retries are in [routing]"),
        ("litellm_settings", "callbacks, caches and budgets have no equal here; fallbacks were carried over"),
    ] {
        if file.get(section).is_some() {
            left_out.push(format!("{section}: {advice}"));
        }
    }
    let mut plan = of_foreign("LiteLLM", draft.finish(Vec::new()), settings)?;
    plan.left_out = left_out;
    Ok(plan)
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

/// `fallbacks: [{a: [b, c]}]`, in either of the sections where it may stand.
fn fallbacks(file: &Yaml, draft: &mut crate::compat::draft::Draft) {
    let sections = ["litellm_settings", "router_settings"].into_iter().filter_map(|section| file.get(section));
    for entry in sections.filter_map(|section| section.get("fallbacks")).flat_map(Yaml::items) {
        for (model, others) in entry.entries() {
            let names: Vec<String> = others.items().iter().filter_map(Yaml::text).map(str::to_owned).collect();
            draft.set(&["models", model, "fallback"], names, &others.place);
        }
    }
}
