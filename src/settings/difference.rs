//! What other settings would change, by kind; [`super::diff()`] tells the same in words, value by value.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::diff::{entries, needs_restart};
use super::model::{Model, Settings};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Difference {
    pub resources: Changes,
    /// As `resource/deployment`.
    pub deployments: Changes,
    pub models: Changes,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Changes {
    pub added: Vec<String>,
    pub changed: Vec<String>,
    pub removed: Vec<String>,
}

impl Difference {
    pub fn between(old: &Settings, new: &Settings) -> Self {
        Self {
            resources: Changes::between(&old.resources, &new.resources),
            deployments: Changes::between(&deployments(old), &deployments(new)),
            models: Changes::between(&models(old), &models(new)),
        }
    }
}

impl Changes {
    fn between<K: Ord + ToString, V: PartialEq>(old: &BTreeMap<K, V>, new: &BTreeMap<K, V>) -> Self {
        let names = |list: &mut dyn Iterator<Item = &K>| list.map(ToString::to_string).collect();
        let changed = |name: &&K| old.get(*name).is_some_and(|before| new.get(*name) != Some(before));
        Self {
            added: names(&mut new.keys().filter(|name| !old.contains_key(*name))),
            changed: names(&mut new.keys().filter(changed)),
            removed: names(&mut old.keys().filter(|name| !new.contains_key(*name))),
        }
    }
}

fn deployments(settings: &Settings) -> BTreeMap<String, &super::model::Deployment> {
    let resources = settings.resources.iter();
    let all = resources.flat_map(|(resource, settings)| {
        settings.deployments.iter().map(move |(name, deployment)| (format!("{resource}/{name}"), deployment))
    });
    all.collect()
}

/// Also those that no `[models]` table describes.
fn models(settings: &Settings) -> BTreeMap<String, Model> {
    let served = settings.resources.values().flat_map(|resource| resource.deployments.values());
    let mut models: BTreeMap<_, _> =
        served.map(|deployment| (deployment.model.to_string(), Model::default())).collect();
    models.extend(settings.models.iter().map(|(name, model)| (name.to_string(), model.clone())));
    models
}

/// Keys of values that are to be others and will be only after a restart.
pub fn restarts(old: &Settings, new: &Settings) -> Vec<String> {
    let before = entries(old);
    let changed = entries(new).into_iter().filter(|entry| needs_restart(&entry.key) && !before.contains(entry));
    changed.map(|entry| entry.key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_kind_is_told_apart() {
        let (mut old, mut new) = (Settings::default(), Settings::default());
        for model in ["kept", "priced", "gone"] {
            old.models.insert(model.into(), Model::default());
        }
        for model in ["kept", "priced", "new"] {
            new.models.insert(model.into(), Model::default());
        }
        if let Some(model) = new.models.get_mut("priced") {
            model.max_output = 1;
        }
        new.server.workers = 3;
        new.routing.attempts += 1;
        let difference = Difference::between(&old, &new);
        let models = Changes { added: names(&["new"]), changed: names(&["priced"]), removed: names(&["gone"]) };
        assert_eq!(difference, Difference { models, ..Difference::default() });
        assert_eq!(restarts(&old, &new), names(&["server.workers"]));
        assert_eq!(Difference::between(&new, &new), Difference::default());
    }
}
