//! What another gateway's file or database becomes here: region files, users with their keys, and a list of what cannot
//! be carried over.
//!
//! Recognised by content: the `users` tables of chat_azure and chatazure, the database of one-api, the `config.yaml` of
//! LiteLLM and of the proxies that this gateway stands in for. What is none of these is refused. Secrets go into files of
//! their own and are never shown.

mod litellm;
mod one_api;
mod region;

use std::path::{Path, PathBuf};

use super::draft::Draft;
use super::users::declared;
use super::yaml::Yaml;
use crate::domain::time::wall_now;
use crate::settings::model::Profile;
use crate::settings::{Foreign, Foreigner, Place, Problem, Severity, Surroundings, Variables};
use crate::storage::legacy::{Declared, Standing};
use crate::storage::legacy_file::{Column, LegacyFile};
use crate::storage::oneapi_file;
use crate::storage::secret_key::hash;
pub use region::Region;

/// What an import would do.
#[derive(Debug, Default)]
pub struct Plan {
    /// Whose it is.
    pub source: &'static str,
    pub regions: Vec<Region>,
    pub users: Vec<Declared>,
    /// In words, each with the reason.
    pub left_out: Vec<String>,
}

/// Why nothing can be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Storage(#[from] crate::storage::StorageError),
}

const SQLITE: &[u8] = b"SQLite format 3\0";

/// Reads `path`; writes nothing. Secrets of resources will stand in files of `settings`. `variables` are what a file of
/// LiteLLM refers to; they decide nothing else.
pub fn plan(path: &Path, settings: &Path, variables: &Variables) -> Result<Plan, ImportError> {
    let bytes = std::fs::read(path)
        .map_err(|error| ImportError::Refused(format!("{} cannot be read: {error}", path.display())))?;
    if bytes.starts_with(SQLITE) {
        return database(path, settings);
    }
    if bytes.is_empty() {
        return Err(ImportError::Refused(format!("{} is empty: there is nothing to import", path.display())));
    }
    let Ok(text) = std::str::from_utf8(&bytes) else {
        return Err(unknown(path));
    };
    let yaml = Yaml::read(path, text).map_err(|problem| ImportError::Refused(problem.to_string()))?;
    if yaml.get("model_list").is_some() {
        return litellm::plan(path, &yaml, settings, variables);
    }
    let translate = super::translate;
    let folder = path.parent().map(Path::to_owned).unwrap_or_default();
    let file = path.file_name().map(PathBuf::from);
    // Nothing but this file is looked at: not the environment, and no file of a container.
    let alone = Variables::given([]);
    let foreigner = Foreigner { translate, root: folder.join("\u{0}"), folder, file };
    let foreign = translate(&Surroundings { variables: &alone, foreigner: &foreigner, wanted: None });
    let source = foreign.profile.map_or("", Profile::label);
    if foreign.profile.is_none() {
        return Err(unknown(path));
    }
    of_foreign(source, foreign, settings)
}

fn unknown(path: &Path) -> ImportError {
    ImportError::Refused(format!(
        "{} is nothing that is known here. Known are chat.db of chat_azure and chatazure, the SQLite database of one-api, \
         and config.yaml of LiteLLM, chat_azure, chatazure and azure-openai-proxy",
        path.display()
    ))
}

fn database(path: &Path, settings: &Path) -> Result<Plan, ImportError> {
    if let Some(content) = oneapi_file::read(path)? {
        return one_api::plan(path, content, settings, wall_now());
    }
    let Some(mut file) = LegacyFile::open(path)? else {
        let message = "has neither the users of chat_azure or chatazure nor the channels of one-api";
        return Err(ImportError::Refused(format!("{} {message}", path.display())));
    };
    let (source, counted) = match file.column {
        Column::Token => ("chat_azure", "tokens"),
        Column::Password => ("chatazure", "calls, which is why they are not added to tokens"),
    };
    let column = file.column;
    let users = file.users()?.into_iter().map(|row| {
        let standing = match (column, row.status) {
            (Column::Token, status) => Standing::of(status),
            (Column::Password, 1) => Standing::Normal,
            (Column::Password, _) => Standing::Disabled,
        };
        declared(standing, row)
    });
    let users: Vec<_> = users.collect();
    let left_out = vec![format!("the limits of users: there were none; the counts are {counted}")];
    Ok(Plan { source, regions: Vec::new(), users, left_out })
}

/// A translation that was made for a layer of settings, as files and users.
fn of_foreign(source: &'static str, foreign: Foreign, settings: &Path) -> Result<Plan, ImportError> {
    let refused: Vec<String> =
        foreign.problems.iter().filter(|problem| problem.severity == Severity::Error).map(Problem::to_string).collect();
    if !refused.is_empty() {
        return Err(ImportError::Refused(refused.join("\n")));
    }
    let mut plan = Plan { source, regions: region::of(&foreign.values, settings), ..Plan::default() };
    for value in &foreign.values {
        match value.path.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["compat", "users", name, "token"] => {
                let token = value.value.clone().into_string().unwrap_or_default();
                plan.users.push(Declared {
                    name: (*name).to_owned(),
                    hash: hash(&token),
                    standing: Standing::Normal,
                    count: 0,
                    created_at: None,
                    models: None,
                });
            }
            ["compat", "callers"] => plan.left_out.push(format!(
                "who may call ({}): give out keys with `aoai-gateway keys add`, or set compat.callers",
                value.value
            )),
            ["compat", "api_base"] => {
                plan.left_out.push(format!("the base path {}: set compat.api_base", value.value));
            }
            ["compat", "users", name, "models"] => {
                plan.left_out.push(format!("which models {name} may use: limit the key"));
            }
            ["server", "listen"] => plan.left_out.push(format!("the address {}: set server.listen", value.value)),
            ["compat", "users_file"] => {
                plan.left_out.push(format!("the users of {}: import that file too", value.value));
            }
            _ => {}
        }
    }
    let warnings = foreign.problems.iter().map(Problem::in_one_line);
    plan.left_out.extend(warnings);
    Ok(plan)
}

/// For sources that are no profile: only resources are of interest.
fn sketch(path: &Path) -> Draft {
    Draft::new(Profile::AzureOpenaiProxy, Place::Path(path.to_owned()))
}
