//! one-api: channels of Azure and OpenAI become resources, tokens become keys.
//!
//! Its quotas are in units of its own and are not carried over; groups and user accounts have no equal here.

use std::path::Path;

use super::{ImportError, Plan, of_foreign, sketch};
use crate::compat::draft::{Home, Mapping};
use crate::compat::yaml::Found;
use crate::settings::Place;
use crate::storage::legacy::{Declared, Standing};
use crate::storage::oneapi_file::{Channel, Token};
use crate::storage::secret_key::hash;

const AZURE: i64 = 3;
const OPENAI: i64 = 1;
const IN_USE: i64 = 1;

pub fn plan(path: &Path, channels: Vec<Channel>, tokens: Vec<Token>, settings: &Path) -> Result<Plan, ImportError> {
    let mut draft = sketch(path);
    let (mut homes, mut mappings, mut left_out): (Vec<Home>, Vec<Mapping>, Vec<String>) =
        (Vec::new(), Vec::new(), Vec::new());
    for channel in channels {
        let said = format!("channel {} ({})", channel.id, channel.name);
        if channel.status != IN_USE {
            left_out.push(format!("{said}: it is switched off"));
            continue;
        }
        let place = Place::Path(path.to_owned());
        let found = |text: &str| Found { text: text.trim().to_owned(), place: place.clone() };
        let base = channel.base_url.trim_end_matches('/');
        let (kind, endpoint) = match (channel.kind, base) {
            (AZURE, "") => {
                left_out.push(format!("{said}: it has no address"));
                continue;
            }
            (AZURE, base) => ("azure", found(base)),
            (OPENAI, "") => ("openai", found("https://api.openai.com/v1")),
            (OPENAI, base) => ("openai", found(&format!("{base}/v1"))),
            (other, _) => {
                left_out.push(format!("{said}: its type {other} is neither Azure nor OpenAI"));
                continue;
            }
        };
        if channel.key.contains('\n') {
            left_out.push(format!("{said}: of its several keys, only the first is taken"));
        }
        let key = found(channel.key.lines().next().unwrap_or_default());
        let version = (kind == "azure" && !channel.other.is_empty()).then(|| found(&channel.other));
        let at = Home::place_in(&mut homes, Home { kind, endpoint, key: Some(key), version, proxy: None });
        let mapping: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(&channel.model_mapping).unwrap_or_default();
        for model in channel.models.split(',').map(str::trim).filter(|model| !model.is_empty()) {
            let mapped = mapping.get(model).and_then(serde_json::Value::as_str).unwrap_or(model);
            // Azure once allowed no dots in the name of a deployment, and one-api leaves them out to this day.
            let upstream = if kind == "azure" { mapped.replace('.', "") } else { mapped.to_owned() };
            mappings.push(Mapping::new(model.to_owned(), found(&upstream), at));
        }
        if channel.priority != 0 || channel.weight != 0 {
            left_out.push(format!(
                "{said}: priority {} and weight {}: here the lowest priority is used first",
                channel.priority, channel.weight
            ));
        }
    }
    draft.estate(&homes, &mappings);
    let mut plan = of_foreign("one-api", draft.finish(Vec::new()), settings)?;
    plan.users = users(tokens);
    if !plan.users.is_empty() {
        left_out
            .push("the quotas of tokens, which are in units of one-api's own: give the keys quotas here".to_owned());
    }
    if mappings.iter().any(|mapping| mapping.model.contains('.') && !mapping.deployment.text.contains('.')) {
        left_out
            .push("dots in the names of deployments, as one-api leaves them out: compare them with Azure's".to_owned());
    }
    plan.left_out = left_out;
    Ok(plan)
}

fn users(tokens: Vec<Token>) -> Vec<Declared> {
    let mut names = std::collections::BTreeSet::new();
    let unique = |name: &str| {
        let base = if name.is_empty() { "token" } else { name };
        let mut unique = base.to_owned();
        while !names.insert(unique.clone()) {
            unique = format!("{base}-{}", names.len());
        }
        unique
    };
    let mut unique = unique;
    tokens
        .into_iter()
        .map(|token| Declared {
            name: unique(&token.name),
            hash: hash(&format!("sk-{}", token.key.trim_start_matches("sk-"))),
            standing: if token.status == IN_USE { Standing::Normal } else { Standing::Disabled },
            count: 0,
            created_at: None,
            models: None,
        })
        .collect()
}
