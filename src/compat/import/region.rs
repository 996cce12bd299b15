//! Region files: the values of one resource as TOML, its key in a file beside it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use config::ValueKind;

use crate::settings::ForeignValue;

/// A file to be written, and the secret that it refers to.
#[derive(Clone, PartialEq, Eq)]
pub struct Region {
    pub name: String,
    pub path: PathBuf,
    pub text: String,
    /// Where the key goes, and the key.
    pub secret: Option<(PathBuf, String)>,
}

impl std::fmt::Debug for Region {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Region").field("path", &self.path).finish_non_exhaustive()
    }
}

/// One for each resource, and the names that were given to their models in the first of them.
pub fn of(values: &[ForeignValue], settings: &Path) -> Vec<Region> {
    let mut resources: BTreeMap<&str, Vec<(&[String], &ValueKind)>> = BTreeMap::new();
    let mut aliases = String::new();
    let mut models = String::new();
    for value in values {
        match value.path.as_slice() {
            [root, name, rest @ ..] if root == "resources" => {
                resources.entry(name).or_default().push((rest, &value.value.kind));
            }
            [root, table, alias] if root == "compat" && table == "aliases" => {
                line(&mut aliases, alias, &value.value.kind);
            }
            [root, name, key] if root == "models" => {
                line(&mut models, &format!("models.{}.{key}", quoted(name)), &value.value.kind);
            }
            _ => {}
        }
    }
    let mut regions: Vec<Region> =
        resources.into_iter().map(|(name, values)| region(name, &values, settings)).collect();
    if let Some(first) = regions.first_mut() {
        if !models.is_empty() {
            first.text = format!("{models}\n{}", first.text);
        }
        if !aliases.is_empty() {
            let _ = write!(first.text, "\n# Other names that clients use.\n[compat.aliases]\n{aliases}");
        }
    }
    regions
}

fn region(name: &str, values: &[(&[String], &ValueKind)], settings: &Path) -> Region {
    let mut text = format!("[resources.{}]\n", bare(name));
    let mut deployments: BTreeMap<&str, Vec<(&str, &ValueKind)>> = BTreeMap::new();
    let mut secret = None;
    for (path, value) in values {
        match path {
            [key] if key == "api_key" => {
                let clear = value_text(value);
                let is_reference = ["env:", "file:", "caller:"].iter().any(|prefix| clear.starts_with(prefix));
                if is_reference {
                    line(&mut text, key, value);
                } else {
                    let file = settings.join(format!("{name}.key"));
                    let reference = ValueKind::String(format!("file:{}", file.display()));
                    line(&mut text, key, &reference);
                    secret = Some((file, clear));
                }
            }
            [key] => line(&mut text, key, value),
            [table, deployment] if table == "deployments" => {
                deployments.entry(deployment).or_default().push(("", value));
            }
            [table, deployment, key] if table == "deployments" => {
                deployments.entry(deployment).or_default().push((key, value));
            }
            _ => {}
        }
    }
    let _ = writeln!(text, "[resources.{}.deployments]", bare(name));
    for (deployment, values) in deployments {
        let _ = match values.as_slice() {
            [("", model)] => writeln!(text, "{} = {}", quoted(deployment), quoted(&value_text(model))),
            values => {
                let members: Vec<_> = values
                    .iter()
                    .map(|(key, value)| format!("{} = {}", if key.is_empty() { "model" } else { *key }, written(value)))
                    .collect();
                writeln!(text, "{} = {{ {} }}", quoted(deployment), members.join(", "))
            }
        };
    }
    Region { name: name.to_owned(), path: settings.join(format!("30-{name}.toml")), text, secret }
}

fn line(text: &mut String, key: &str, value: &ValueKind) {
    // Writing to a String cannot fail.
    let _ =
        writeln!(text, "{} = {}", if key.starts_with("models.") { key.to_owned() } else { bare(key) }, written(value));
}

fn value_text(value: &ValueKind) -> String {
    if let ValueKind::String(text) = value { text.clone() } else { value.to_string() }
}

fn written(value: &ValueKind) -> String {
    match value {
        ValueKind::String(text) => quoted(text),
        ValueKind::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| written(&item.kind)).collect();
            format!("[{}]", items.join(", "))
        }
        other => other.to_string(),
    }
}

/// A JSON string is a TOML string too.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn bare(key: &str) -> String {
    let is_bare = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    if is_bare { key.to_owned() } else { quoted(key) }
}
