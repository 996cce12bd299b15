//! one-api and new-api: channels of Azure and OpenAI become resources, tokens become keys.
//!
//! Their quotas are in units of their own and are not carried over; groups and accounts have no equal here. A token that
//! they would refuse (expired, used up, of an account that is switched off) opens nothing here either.

use std::path::Path;

use super::{ImportError, Plan, of_foreign, sketch};
use crate::compat::draft::{Home, Mapping};
use crate::compat::yaml::Found;
use crate::domain::ids::ModelName;
use crate::domain::time::WallTime;
use crate::settings::Place;
use crate::storage::legacy::{Declared, Standing};
use crate::storage::oneapi_file::{Channel, Content, Token};
use crate::storage::secret_key::hash;

const AZURE: i64 = 3;
const OPENAI: i64 = 1;
const IN_USE: i64 = 1;

pub fn plan(path: &Path, content: Content, settings: &Path, now: WallTime) -> Result<Plan, ImportError> {
    let (channels, tokens) = content;
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
        let version = version_of(&channel).filter(|_| kind == "azure").map(|version| found(&version));
        let at = Home::place_in(&mut homes, Home { kind, endpoint, key: Some(key), version, proxy: None });
        let mapping: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(&channel.model_mapping).unwrap_or_default();
        for model in channel.models.split(',').map(str::trim).filter(|model| !model.is_empty()) {
            let mapped = mapping.get(model).and_then(serde_json::Value::as_str).unwrap_or(model);
            // Azure once allowed no dots in the name of a deployment, and one-api leaves them out to this day.
            let is_bare = kind == "azure" && channel.keeps_dots == 0;
            let upstream = if is_bare { mapped.replace('.', "") } else { mapped.to_owned() };
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
    plan.users = users(tokens, now, &mut left_out);
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

/// Where either of its versions keeps the api-version.
fn version_of(channel: &Channel) -> Option<String> {
    let config: serde_json::Value = serde_json::from_str(&channel.config).unwrap_or_default();
    let versions = [config["api_version"].as_str().unwrap_or_default(), &channel.other];
    versions.into_iter().find(|version| !version.is_empty()).map(str::to_owned)
}

fn users(tokens: Vec<Token>, now: WallTime, left_out: &mut Vec<String>) -> Vec<Declared> {
    let mut names = std::collections::BTreeSet::new();
    let mut unique = |token: &Token| {
        let base = if token.name.is_empty() { "token" } else { &token.name };
        let mut unique = base.to_owned();
        if names.contains(&unique) && !token.account.is_empty() {
            unique = format!("{base} of {}", token.account);
        }
        while !names.insert(unique.clone()) {
            unique = format!("{base}-{}", names.len());
        }
        unique
    };
    let user = |token: Token| {
        let name = unique(&token);
        let mut say = |what: &str| left_out.push(format!("token {name}: {what}"));
        let end = jiff::Timestamp::from_second(token.expires).ok().filter(|_| token.expires > 0);
        let refused = match end {
            _ if token.status != IN_USE => Some("it is switched off"),
            _ if token.account_status != IN_USE => Some("its account is switched off"),
            Some(end) if end.as_microsecond() <= now.0 => Some("it has expired"),
            _ if token.is_used_up != 0 => Some("its quota is used up"),
            Some(_) | None => None,
        };
        match (refused, end) {
            (Some(why), _) => say(&format!("{why}, so it comes disabled")),
            (None, Some(end)) => say(&format!("it would expire on {end}: give its key an `expires_at`")),
            (None, None) => {}
        }
        if !token.addresses.trim().is_empty() {
            let addresses: Vec<_> = token.addresses.split_whitespace().collect();
            say(&format!("it was bound to the addresses {}, a key is not", addresses.join(" ")));
        }
        let models: Vec<ModelName> =
            token.models.split(',').map(str::trim).filter(|model| !model.is_empty()).map(ModelName::from).collect();
        Declared {
            name,
            hash: hash(&format!("sk-{}", token.key.trim_start_matches("sk-"))),
            standing: if refused.is_none() { Standing::Normal } else { Standing::Disabled },
            count: 0,
            created_at: None,
            models: Some(models).filter(|models| !models.is_empty()),
        }
    };
    tokens.into_iter().map(user).collect()
}
