//! Sums of usage from the roll-ups: months and days where whole ones fit, hours at the edges, so that an answer costs the
//! same whatever the load.
//!
//! A `from` inside an hour takes the hour from its start, a `to` inside an hour to its end: nothing that was asked for is
//! ever left out. On a quarter of an hour, where days of some time zones begin, the part of the hour is summed from its
//! requests instead, as long as they are kept. A request counts in the hour in which it began, once it ended.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Binary, Double, Nullable, Text};
use serde::Serialize;
use utoipa::ToSchema;

use super::cells::{self, Cells, DIMENSIONS, SUMS};
use super::connection::StoreConnection;
use super::keys::read_id;
use super::page::{display_opt, wall_text_opt};
use super::spans::{HOUR, Span, Unit};
use super::{StorageError, Store};
use crate::domain::ids::{KeyId, UserId};
use crate::domain::money::Cost;
use crate::domain::time::WallTime;

#[derive(Clone, Copy, Debug)]
pub struct UsageFilter {
    /// Widened to the start of its hour, unless it is on a quarter.
    pub from: WallTime,
    /// Not included; widened to the end of its hour, unless it is on a quarter.
    pub to: WallTime,
    pub bucket: Bucket,
    pub group_by: GroupBy,
}

/// How time is divided; in UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bucket {
    /// Not at all.
    #[default]
    None,
    Hour,
    Day,
    Month,
}

/// By what else the sums are divided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupBy {
    pub key: bool,
    pub user: bool,
    pub model: bool,
    pub resource: bool,
}

impl Bucket {
    /// As the admin plane names it.
    pub fn label(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Hour => Some("1h"),
            Self::Day => Some("1d"),
            Self::Month => Some("1mo"),
        }
    }
}

impl GroupBy {
    /// What the sums are divided by.
    pub fn names(self) -> Vec<&'static str> {
        let Self { key, user, model, resource } = self;
        let named = [(key, "key"), (user, "user"), (model, "model"), (resource, "resource")];
        named.into_iter().filter_map(|(divides, name)| divides.then_some(name)).collect()
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Usage)]
pub struct UsageView {
    /// The start of the bucket.
    #[serde(serialize_with = "wall_text_opt", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub start: Option<WallTime>,
    #[serde(serialize_with = "display_opt")]
    #[schema(value_type = Option<String>)]
    pub key: Option<KeyId>,
    pub key_name: Option<String>,
    #[serde(serialize_with = "display_opt")]
    #[schema(value_type = Option<String>)]
    pub user: Option<UserId>,
    pub user_name: Option<String>,
    pub model: Option<String>,
    /// Empty: no attempt was made.
    pub resource: Option<String>,
    /// Every admitted one that ended, cancelled ones too.
    pub requests: i64,
    pub input_tokens: i64,
    pub cached_input_tokens: i64,
    pub output_tokens: i64,
    pub reasoning_tokens: i64,
    /// Of the input that is not cached, and of the output, what is sound.
    pub audio_input_tokens: i64,
    pub audio_output_tokens: i64,
    pub cost_usd: f64,
    pub errors: i64,
    pub cancelled: i64,
    pub estimated: i64,
    /// Whose last attempt was at capacity that is paid for at a flat rate: their tokens are counted, and cost nothing.
    pub flat_cost: i64,
}

/// The start of a roll-up's month, as each of the databases says it.
const MONTH_IN_SQLITE: &str =
    "CAST(strftime('%s', began / 1000000, 'unixepoch', 'start of month') AS INTEGER) * 1000000";
const MONTH_IN_POSTGRES: &str = "CAST(EXTRACT(EPOCH FROM date_trunc('month', to_timestamp(began / 1000000) AT TIME ZONE 'UTC')) AS BIGINT) * 1000000";

/// What is not asked for is null. The sum of money is a floating-point number, because a sum of integers that overflows
/// is an error; it is for display only. The databases differ in their calendars alone.
fn statement(bucket: Bucket, group_by: GroupBy, month: &str) -> String {
    let bucket = match bucket {
        Bucket::None => "CAST(NULL AS BIGINT)",
        Bucket::Hour => "began",
        Bucket::Day => "began - began % 86400000000",
        Bucket::Month => month,
    };
    let GroupBy { key, user, model, resource } = group_by;
    let asked = [key, user, model, resource];
    let divided: Vec<_> = DIMENSIONS.into_iter().zip(asked).filter_map(|(one, asked)| asked.then_some(one)).collect();
    let named = |id: &str, asked: bool, of: &str| match asked {
        true => (id.to_owned(), format!("{of}.name"), format!("LEFT JOIN {of} ON {of}.id = g.{id}")),
        false => ("CAST(NULL AS BYTEA)".to_owned(), "CAST(NULL AS TEXT)".to_owned(), String::new()),
    };
    let (key, key_name, keys) = named("key_id", key, "keys");
    let (user, user_name, users) = named("user_id", user, "users");
    let text = |name: &'static str, asked: bool| if asked { name } else { "CAST(NULL AS TEXT)" };
    let (model, resource) = (text("model", model), text("resource", resource));
    let group: Vec<_> = std::iter::once("bucket").chain(divided.iter().map(|one| one.name)).collect();
    let group = group.join(", ");
    let source = cells::source(&[divided.as_slice(), SUMS.as_slice()].concat());
    format!(
        "SELECT g.*, {key_name} AS key_name, {user_name} AS user_name FROM (SELECT {bucket} AS bucket, {key} AS key_id, \
         {user} AS user_id, {model} AS model, {resource} AS resource, CAST(SUM(requests) AS BIGINT) AS requests, \
         CAST(SUM(input_tokens) AS BIGINT) AS input_tokens, \
         CAST(SUM(cached_input_tokens) AS BIGINT) AS cached_input_tokens, \
         CAST(SUM(output_tokens) AS BIGINT) AS output_tokens, \
         CAST(SUM(reasoning_tokens) AS BIGINT) AS reasoning_tokens, \
         SUM(CAST(cost AS DOUBLE PRECISION)) AS cost, CAST(SUM(errors) AS BIGINT) AS errors, \
         CAST(SUM(cancelled) AS BIGINT) AS cancelled, CAST(SUM(estimated) AS BIGINT) AS estimated, \
         CAST(SUM(flat_cost) AS BIGINT) AS flat_cost, \
         CAST(SUM(audio_input_tokens) AS BIGINT) AS audio_input_tokens, \
         CAST(SUM(audio_output_tokens) AS BIGINT) AS audio_output_tokens FROM ({source}) AS cells GROUP BY {group}) AS g {keys} {users} \
         ORDER BY g.bucket, g.cost DESC, g.requests DESC, g.key_id, g.user_id, g.model, g.resource"
    )
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Nullable<BigInt>)]
    bucket: Option<i64>,
    #[diesel(sql_type = Nullable<Binary>)]
    key_id: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Text>)]
    key_name: Option<String>,
    #[diesel(sql_type = Nullable<Binary>)]
    user_id: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Text>)]
    user_name: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    model: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    resource: Option<String>,
    #[diesel(sql_type = BigInt)]
    requests: i64,
    #[diesel(sql_type = BigInt)]
    input_tokens: i64,
    #[diesel(sql_type = BigInt)]
    cached_input_tokens: i64,
    #[diesel(sql_type = BigInt)]
    output_tokens: i64,
    #[diesel(sql_type = BigInt)]
    reasoning_tokens: i64,
    #[diesel(sql_type = Double)]
    cost: f64,
    #[diesel(sql_type = BigInt)]
    errors: i64,
    #[diesel(sql_type = BigInt)]
    cancelled: i64,
    #[diesel(sql_type = BigInt)]
    estimated: i64,
    #[diesel(sql_type = BigInt)]
    flat_cost: i64,
    #[diesel(sql_type = BigInt)]
    audio_input_tokens: i64,
    #[diesel(sql_type = BigInt)]
    audio_output_tokens: i64,
}

impl Store {
    /// In the order of the buckets, inside one the dearest first.
    pub fn usage(&self, filter: &UsageFilter) -> Result<Vec<UsageView>, StorageError> {
        self.usage_of(filter, None)
    }

    /// Of one key, or of all.
    pub fn usage_of(&self, filter: &UsageFilter, key: Option<KeyId>) -> Result<Vec<UsageView>, StorageError> {
        let coarsest = match filter.bucket {
            Bucket::None | Bucket::Month => Unit::Month,
            Bucket::Day => Unit::Day,
            Bucket::Hour => Unit::Hour,
        };
        let rows: Vec<Row> = self.reader()?.snapshot(|connection| {
            let month = match connection {
                StoreConnection::Sqlite(_) => MONTH_IN_SQLITE,
                StoreConnection::Postgres(_) => MONTH_IN_POSTGRES,
            };
            let (whole, parts) = in_hours(connection, Span { from: filter.from.0, to: filter.to.0 })?;
            let cells = Cells::new(connection, key, whole, parts, coarsest)?;
            Ok(cells.bind(statement(filter.bucket, filter.group_by, month)).load(connection)?)
        })?;
        rows.into_iter().map(UsageView::read).collect()
    }
}

/// What is asked for in whole hours, and the parts of hours beside them.
fn in_hours(connection: &mut StoreConnection, asked: Span) -> Result<(Span, Vec<Span>), StorageError> {
    const QUARTER: i64 = HOUR / 4;
    let mut whole = Span { from: Unit::Hour.start(asked.from), to: Unit::Hour.next(asked.to) };
    let mut parts = Vec::new();
    let mut in_part = |at: i64| {
        let inside = at % HOUR != 0 && at % QUARTER == 0 && asked.from < asked.to;
        Ok::<_, StorageError>(inside && cells::is_kept(connection, Unit::Hour.start(at))?)
    };
    if in_part(asked.from)? {
        whole.from += HOUR;
        parts.push(Span { from: asked.from, to: whole.from.min(asked.to) });
    }
    // Both in one hour: the part is all there is.
    if whole.from < asked.to && in_part(asked.to)? {
        whole.to -= HOUR;
        parts.push(Span { from: whole.to, to: asked.to });
    }
    Ok((whole, parts))
}

impl UsageView {
    fn read(row: Row) -> Result<Self, StorageError> {
        Ok(Self {
            start: row.bucket.map(WallTime),
            key: row.key_id.map(|id| read_id(&id, "usage_hourly.key_id")).transpose()?.map(KeyId),
            key_name: row.key_name,
            user: row
                .user_id
                .filter(|id| !id.is_empty())
                .map(|id| read_id(&id, "usage_hourly.user_id"))
                .transpose()?
                .map(UserId),
            user_name: row.user_name,
            model: row.model,
            resource: row.resource,
            requests: row.requests,
            input_tokens: row.input_tokens,
            cached_input_tokens: row.cached_input_tokens,
            output_tokens: row.output_tokens,
            reasoning_tokens: row.reasoning_tokens,
            audio_input_tokens: row.audio_input_tokens,
            audio_output_tokens: row.audio_output_tokens,
            cost_usd: row.cost / Cost::PER_DOLLAR as f64,
            errors: row.errors,
            cancelled: row.cancelled,
            estimated: row.estimated,
            flat_cost: row.flat_cost,
        })
    }
}
