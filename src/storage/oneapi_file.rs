//! The database of one-api, or of new-api, which comes from it: channels and tokens, read and nothing else.
//!
//! Which columns there are depends on the version: what is missing is read as if nobody had set it.

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
    /// The api-version, where it is Azure; later versions have it in `config`.
    #[diesel(sql_type = Text)]
    pub other: String,
    /// JSON, or empty.
    #[diesel(sql_type = Text)]
    pub config: String,
    /// Separated by commas.
    #[diesel(sql_type = Text)]
    pub models: String,
    /// JSON, or empty.
    #[diesel(sql_type = Text)]
    pub model_mapping: String,
    /// 1: the name of a deployment is the model's, dots and all; 0: without its dots.
    #[diesel(sql_type = BigInt)]
    pub keeps_dots: i64,
}

/// What a caller has.
#[derive(Clone, PartialEq, QueryableByName)]
pub struct Token {
    #[diesel(sql_type = Text)]
    pub name: String,
    /// The name of the account that it belongs to.
    #[diesel(sql_type = Text)]
    pub account: String,
    /// Without the `sk-` that callers put before it.
    #[diesel(sql_type = Text)]
    pub key: String,
    /// 1: in use.
    #[diesel(sql_type = BigInt)]
    pub status: i64,
    /// The same of its account.
    #[diesel(sql_type = BigInt)]
    pub account_status: i64,
    /// In seconds; not above 0: never.
    #[diesel(sql_type = BigInt)]
    pub expires: i64,
    /// 1: it has a quota, and has used it up.
    #[diesel(sql_type = BigInt)]
    pub is_used_up: i64,
    /// Separated by commas; empty: every model.
    #[diesel(sql_type = Text)]
    pub models: String,
    /// From where alone it may be used.
    #[diesel(sql_type = Text)]
    pub addresses: String,
}

/// 10 May 2025, in seconds.
const NEW_API_KEEPS_DOTS: i64 = 1_746_835_200;

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
    let Some(channels) = channels(&mut connection)? else { return Ok(None) };
    let tokens = tokens(&mut connection)?;
    Ok(Some((channels, tokens)))
}

fn channels(connection: &mut SqliteConnection) -> Result<Option<Vec<Channel>>, StorageError> {
    let columns = Columns::of(connection, "channels")?;
    if !columns.has("base_url") || !columns.has("models") {
        return Ok(None);
    }
    // new-api leaves the dots where they are in what was made since then.
    let keeps_dots = match columns.has("tag") {
        true => format!("{} >= {NEW_API_KEEPS_DOTS}", columns.number("created_time")),
        false => "0".to_owned(),
    };
    let [status, priority, weight] = ["status", "priority", "weight"].map(|name| columns.number(name));
    let [name, key, base_url, other, config, models, model_mapping] =
        ["name", "key", "base_url", "other", "config", "models", "model_mapping"].map(|name| columns.word(name));
    let rows = diesel::sql_query(format!(
        "SELECT id, type AS kind, {status} AS status, {priority} AS priority, {weight} AS weight, {name} AS name, \
         {key} AS key, {base_url} AS base_url, {other} AS other, {config} AS config, {models} AS models, \
         {model_mapping} AS model_mapping, {keeps_dots} AS keeps_dots FROM channels ORDER BY id"
    ));
    Ok(Some(rows.load(connection)?))
}

fn tokens(connection: &mut SqliteConnection) -> Result<Vec<Token>, StorageError> {
    let columns = Columns::of(connection, "tokens")?;
    if !columns.has("key") {
        return Ok(Vec::new());
    }
    let accounts = Columns::of(connection, "users")?;
    let (account, account_status) = match columns.has("user_id") && accounts.has("username") {
        true => (
            "COALESCE((SELECT username FROM users WHERE users.id = tokens.user_id), '')",
            "COALESCE((SELECT status FROM users WHERE users.id = tokens.user_id), 1)",
        ),
        false => ("''", "1"),
    };
    let is_used_up = match columns.has("unlimited_quota") && columns.has("remain_quota") {
        true => "NOT COALESCE(unlimited_quota, 0) AND COALESCE(remain_quota, 0) <= 0",
        false => "0",
    };
    let models = match columns.has("model_limits_enabled") {
        true => format!("CASE WHEN model_limits_enabled THEN {} ELSE '' END", columns.word("model_limits")),
        false => columns.word("models"),
    };
    let addresses = if columns.has("allow_ips") { columns.word("allow_ips") } else { columns.word("subnet") };
    // What was deleted may keep its row.
    let there = if columns.has("deleted_at") { "deleted_at IS NULL" } else { "1" };
    let rows = diesel::sql_query(format!(
        "SELECT {} AS name, {account} AS account, {} AS key, COALESCE(status, 1) AS status, \
         {account_status} AS account_status, {} AS expires, {is_used_up} AS is_used_up, {models} AS models, \
         {addresses} AS addresses FROM tokens WHERE {there} ORDER BY id",
        columns.word("name"),
        columns.word("key"),
        columns.number("expired_time"),
    ));
    Ok(rows.load(connection)?)
}

/// What a table has.
struct Columns(Vec<Named>);

impl Columns {
    /// Of a table that is not there: none.
    fn of(connection: &mut SqliteConnection, table: &str) -> Result<Self, StorageError> {
        let query = diesel::sql_query("SELECT name FROM pragma_table_info(?)").bind::<Text, _>(table);
        Ok(Self(query.load(connection)?))
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|column| column.name == name)
    }

    fn number(&self, name: &str) -> String {
        if self.has(name) { format!("COALESCE(\"{name}\", 0)") } else { "0".to_owned() }
    }

    fn word(&self, name: &str) -> String {
        if self.has(name) { format!("COALESCE(\"{name}\", '')") } else { "''".to_owned() }
    }
}
