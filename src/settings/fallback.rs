//! `models.*.fallback`: which models answer instead of one.

use std::collections::BTreeMap;

use config::ValueKind;

use super::files::Target;
use super::model::Model;
use super::reader::Section;
use super::suggest;
use super::values;
use crate::domain::ids::ModelName;

/// The names as they are written.
pub(super) fn read(section: &Section<'_>) -> Vec<ModelName> {
    let mut names = Vec::new();
    for (path, name) in section.list("fallback").unwrap_or_default() {
        if values::is_model_name(&name) {
            names.push(ModelName::from(name));
        } else {
            section.wrong(&path, "a model's name", &ValueKind::String(name));
        }
    }
    names
}

/// Refuses what is no model, and replaces aliases by what they stand for.
pub(super) fn connect(models: &Section<'_>, known: &mut BTreeMap<ModelName, Model>) {
    let owner = |known: &BTreeMap<ModelName, Model>, alias: &str| {
        known.iter().find(|(_, model)| model.aliases.iter().any(|own| own == alias)).map(|(name, _)| name.clone())
    };
    let mut meant: BTreeMap<ModelName, Vec<ModelName>> = BTreeMap::new();
    for (name, model) in known.iter() {
        let path = models.path.child(name.as_str()).child("fallback");
        for wanted in &model.fallback {
            let canonical = match known.contains_key(wanted) {
                true => Some(wanted.clone()),
                false => owner(known, wanted.as_str()),
            };
            match canonical {
                Some(canonical) if canonical == *name => {
                    let message = format!("`{path}`: `{wanted}` is the model itself");
                    models.reader.note(models.reader.error(&path, Target::Value, message).tip("name another model"));
                }
                Some(canonical) => meant.entry(name.clone()).or_default().push(canonical),
                None => {
                    let tip = match suggest::closest(wanted.as_str(), known.keys().map(ModelName::as_str)) {
                        Some(close) => format!("did you mean `{close}`?"),
                        None => format!("no deployment and no table is called so; the models are {}", listed(known)),
                    };
                    let message = format!("`{path}` names `{wanted}`, which is no model");
                    models.reader.note(models.reader.error(&path, Target::Value, message).tip(tip));
                }
            }
        }
    }
    for (name, model) in known {
        model.fallback = meant.remove(name).unwrap_or_default();
    }
}

fn listed(known: &BTreeMap<ModelName, Model>) -> String {
    known.keys().map(ModelName::as_str).collect::<Vec<_>>().join(", ")
}
