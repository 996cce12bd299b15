//! The database of one-api: its channels and its tokens, read and nothing else.

use std::path::Path;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};

use super::StorageError;

/// A way to an upstream.
#[derive(Clone, PartialEq, QueryableByName)]
pub struct Channel {
    #[diesel(sql_type = BigInt)]
    pub id: i64,
    /// 3 is Azure, 1 OpenAI.
    #[diesel(sql_type = BigInt)]
    pub kind: i64,
    #[diesel(sql_type = BigInt)]
    pub status: i64,
    #[diesel(sql_type = BigInt)]
    pub priority: i64,
    #[diesel(sql_type = BigInt)]
    pub weight: i64,
    #[diesel(sql_type = Text)]
    pub name: String,
    #[diesel(sql_type = Text)]
    pub key: String,
    #[diesel(sql_type = Text)]
    pub base_url: String,
    /// The api-version, where it is Azure.
    #[diesel(sql_type = Text)]
    pub other: String,
    /// Separated by commas.
    #[diesel(sql_type = Text)]
    pub models: String,
    /// JSON, or empty.
    #[diesel(sql_type = Text)]
    pub model_mapping: String,
}

/// What a caller has.
#[derive(Clone, PartialEq, QueryableByName)]
pub struct Token {
    #[diesel(sql_type = Text)]
    pub name: String,
    /// Without the `sk-` that callers put before it.
    #[diesel(sql_type = Text)]
    pub key: String,
    /// 1: in use.
    #[diesel(sql_type = BigInt)]
    pub status: i64,
    #[diesel(sql_type = BigInt)]
    pub used: i64,
}

#[derive(QueryableByName)]
struct Named {
    #[diesel(sql_type = Text)]
    name: String,
}

/// All that is read.
pub type Content = (Vec<Channel>, Vec<Token>);

/// Channels and tokens; `None` where there are no channels.
pub fn read(path: &Path) -> Result<Option<Content>, StorageError> {
    let text = path.to_string_lossy();
    let location = if path.is_absolute() { text.into_owned() } else { format!("./{text}") };
    let mut connection = SqliteConnection::establish(&location)
        .map_err(|error| StorageError::open(path, error, "Check that this user may read it"))?;
    let columns: Vec<Named> =
        diesel::sql_query("SELECT name FROM pragma_table_info('channels')").load(&mut connection)?;
    let has = |name: &str| columns.iter().any(|column| column.name == name);
    if !has("base_url") || !has("models") {
        return Ok(None);
    }
    // Columns that came with later versions.
    let number = |name: &str| if has(name) { format!("COALESCE({name}, 0)") } else { "0".to_owned() };
    let word = |name: &str| if has(name) { format!("COALESCE({name}, '')") } else { "''".to_owned() };
    let channels = diesel::sql_query(format!(
        "SELECT id, type AS kind, {} AS status, {} AS priority, {} AS weight, {} AS name, {} AS key, {} AS base_url, \
         {} AS other, {} AS models, {} AS model_mapping FROM channels ORDER BY id",
        number("status"),
        number("priority"),
        number("weight"),
        word("name"),
        word("key"),
        word("base_url"),
        word("other"),
        word("models"),
        word("model_mapping"),
    ))
    .load(&mut connection)?;
    let columns: Vec<Named> =
        diesel::sql_query("SELECT name FROM pragma_table_info('tokens')").load(&mut connection)?;
    let tokens = if columns.iter().any(|column| column.name == "used_quota") {
        diesel::sql_query(
            "SELECT COALESCE(name, '') AS name, key, COALESCE(status, 1) AS status, COALESCE(used_quota, 0) AS used \
             FROM tokens ORDER BY id",
        )
        .load(&mut connection)?
    } else {
        Vec::new()
    };
    Ok(Some((channels, tokens)))
}
