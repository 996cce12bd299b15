//! Questions about single requests, in the shape of the admin plane's answers.

use diesel::prelude::*;
use serde::Serialize;
use utoipa::ToSchema;

use super::connection::StoreConnection;
use super::keys::read_id;
pub use super::listing::RequestFilter;
use super::page::{display, display_opt, wall_text};
use super::rollups::{Cell, Sums};
use super::schema::{attempts, requests};
use super::{StorageError, Store};
use crate::domain::ids::{KeyId, RequestId, UserId};
use crate::domain::money::{Cost, PriceVersion};
use crate::domain::time::WallTime;
use crate::storage::ledger::RequestState;

/// One request, its attempts in order.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Request)]
pub struct RequestView {
    #[serde(serialize_with = "display")]
    #[schema(value_type = String)]
    pub id: RequestId,
    /// The `x-request-id`.
    pub request_id: String,
    #[serde(serialize_with = "display")]
    #[schema(value_type = String)]
    pub key_id: KeyId,
    #[serde(serialize_with = "display_opt")]
    #[schema(value_type = Option<String>)]
    pub user_id: Option<UserId>,
    pub endpoint: String,
    pub model: String,
    pub stream: bool,
    pub status: Option<i32>,
    pub state: String,
    pub estimated: bool,
    pub input_tokens: i64,
    pub cached_input_tokens: i64,
    pub output_tokens: i64,
    pub reasoning_tokens: i64,
    /// Of the input that is not cached, and of the output, what is sound.
    pub audio_input_tokens: i64,
    pub audio_output_tokens: i64,
    pub cost_usd: f64,
    /// The last attempt was at capacity that is paid for at a flat rate, and so costs nothing.
    pub flat_cost: bool,
    /// Of the prices that `cost_usd` was made with.
    #[serde(serialize_with = "display_opt")]
    #[schema(value_type = Option<String>)]
    pub price_version: Option<PriceVersion>,
    #[serde(serialize_with = "wall_text")]
    #[schema(value_type = String, format = DateTime)]
    pub started_at: WallTime,
    pub ttfb_ms: Option<f64>,
    pub duration_ms: Option<f64>,
    pub attempts: Vec<AttemptView>,
}

#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Attempt)]
pub struct AttemptView {
    pub resource: String,
    pub deployment: String,
    pub status: Option<i32>,
    pub reason: Option<String>,
    pub ms: Option<f64>,
    pub input_tokens: i64,
    pub cached_input_tokens: i64,
    pub output_tokens: i64,
    pub reasoning_tokens: i64,
    /// Of the input that is not cached, and of the output, what is sound.
    pub audio_input_tokens: i64,
    pub audio_output_tokens: i64,
    pub charged: Option<String>,
    /// Azure's `apim-request-id`.
    pub upstream_id: Option<String>,
}

/// A row as it is, also on its way to the shared database.
#[derive(Clone, Debug, PartialEq, Queryable, Selectable, Insertable)]
#[diesel(table_name = requests)]
pub(super) struct Row {
    pub(super) id: Vec<u8>,
    request_id: Option<String>,
    key_id: Vec<u8>,
    user_id: Option<Vec<u8>>,
    endpoint: String,
    model: String,
    stream: bool,
    pub(super) started_at: i64,
    state: String,
    status: Option<i32>,
    estimated: bool,
    input_tokens: i64,
    cached_input_tokens: i64,
    output_tokens: i64,
    reasoning_tokens: i64,
    cost: i64,
    ttfb_us: Option<i64>,
    duration_us: Option<i64>,
    attempts: i32,
    resource: String,
    deployment: String,
    attempt_status: Option<i32>,
    reason: Option<String>,
    attempt_us: Option<i64>,
    charge: Option<String>,
    upstream_id: Option<String>,
    flat_cost: bool,
    price_version: Option<i64>,
    audio_input_tokens: i64,
    audio_output_tokens: i64,
}

#[derive(Clone, Debug, PartialEq, Queryable, Selectable, Insertable)]
#[diesel(table_name = attempts)]
pub(super) struct AttemptRow {
    pub(super) request: Vec<u8>,
    pub(super) n: i32,
    resource: String,
    deployment: String,
    status: Option<i32>,
    reason: String,
    duration_us: i64,
    input_tokens: i64,
    cached_input_tokens: i64,
    output_tokens: i64,
    reasoning_tokens: i64,
    charge: String,
    upstream_id: Option<String>,
    audio_input_tokens: i64,
    audio_output_tokens: i64,
}

impl Store {
    pub fn request(&self, id: RequestId) -> Result<Option<RequestView>, StorageError> {
        self.show_open_if_possible();
        match request(&mut *self.reader()?, id)? {
            // Open, or not there yet.
            None if self.is_shared() => request(&mut *self.file_reader()?, id),
            found => Ok(found),
        }
    }
}

fn request(connection: &mut StoreConnection, id: RequestId) -> Result<Option<RequestView>, StorageError> {
    let row: Option<Row> =
        requests::table.find(id.0.as_bytes().as_slice()).select(Row::as_select()).first(connection).optional()?;
    Ok(with_attempts(connection, row.into_iter().collect())?.pop())
}

pub(super) fn with_attempts(
    connection: &mut StoreConnection,
    rows: Vec<Row>,
) -> Result<Vec<RequestView>, StorageError> {
    // Attempts are apart only where there were several, or where one was charged differently.
    let ids: Vec<&[u8]> = rows.iter().map(|row| row.id.as_slice()).collect();
    let mut apart: Vec<AttemptRow> = attempts::table
        .filter(attempts::request.eq_any(ids))
        .order((attempts::request, attempts::n))
        .select(AttemptRow::as_select())
        .load(connection)?;
    rows.into_iter()
        .map(|row| {
            let own = apart.extract_if(.., |attempt| attempt.request == row.id).collect();
            RequestView::read(row, own)
        })
        .collect()
}

impl Row {
    /// Where it counts.
    pub(super) fn cell(&self) -> Cell<'_> {
        Cell::new(self.started_at, &self.key_id, self.user_id.as_deref(), &self.model, &self.resource)
    }

    /// What it adds there.
    pub(super) fn sums(&self) -> Sums {
        let is = |state: RequestState| self.state == state.label();
        let refused = is(RequestState::Settled) && self.status.is_some_and(|status| status >= 400);
        Sums {
            requests: 1,
            input_tokens: self.input_tokens,
            cached_input_tokens: self.cached_input_tokens,
            output_tokens: self.output_tokens,
            reasoning_tokens: self.reasoning_tokens,
            cost: self.cost,
            errors: i64::from(is(RequestState::Failed) || refused),
            cancelled: i64::from(is(RequestState::Cancelled)),
            estimated: i64::from(self.estimated),
            flat_cost: i64::from(self.flat_cost),
            audio_input_tokens: self.audio_input_tokens,
            audio_output_tokens: self.audio_output_tokens,
        }
    }
}

impl RequestView {
    fn read(row: Row, apart: Vec<AttemptRow>) -> Result<Self, StorageError> {
        let id = RequestId(read_id(&row.id, "requests.id")?);
        let last = row.attempts - 1;
        let has_last = apart.iter().any(|attempt| attempt.n == last);
        let mut attempts: Vec<AttemptView> = apart.into_iter().map(AttemptView::from).collect();
        if !row.resource.is_empty() && !has_last {
            attempts.push(AttemptView {
                resource: row.resource,
                deployment: row.deployment,
                status: row.attempt_status,
                reason: row.reason,
                ms: row.attempt_us.map(millis),
                input_tokens: row.input_tokens,
                cached_input_tokens: row.cached_input_tokens,
                output_tokens: row.output_tokens,
                reasoning_tokens: row.reasoning_tokens,
                audio_input_tokens: row.audio_input_tokens,
                audio_output_tokens: row.audio_output_tokens,
                charged: row.charge,
                upstream_id: row.upstream_id,
            });
        }
        Ok(Self {
            id,
            request_id: row.request_id.unwrap_or_else(|| id.to_string()),
            key_id: KeyId(read_id(&row.key_id, "requests.key_id")?),
            user_id: row.user_id.map(|user| read_id(&user, "requests.user_id")).transpose()?.map(UserId),
            endpoint: row.endpoint,
            model: row.model,
            stream: row.stream,
            status: row.status,
            state: row.state,
            estimated: row.estimated,
            input_tokens: row.input_tokens,
            cached_input_tokens: row.cached_input_tokens,
            output_tokens: row.output_tokens,
            reasoning_tokens: row.reasoning_tokens,
            audio_input_tokens: row.audio_input_tokens,
            audio_output_tokens: row.audio_output_tokens,
            cost_usd: Cost(row.cost).dollars(),
            flat_cost: row.flat_cost,
            price_version: row.price_version.map(PriceVersion),
            started_at: WallTime(row.started_at),
            ttfb_ms: row.ttfb_us.map(millis),
            duration_ms: row.duration_us.map(millis),
            attempts,
        })
    }
}

impl From<AttemptRow> for AttemptView {
    fn from(row: AttemptRow) -> Self {
        Self {
            resource: row.resource,
            deployment: row.deployment,
            status: row.status,
            reason: Some(row.reason),
            ms: Some(millis(row.duration_us)),
            input_tokens: row.input_tokens,
            cached_input_tokens: row.cached_input_tokens,
            output_tokens: row.output_tokens,
            reasoning_tokens: row.reasoning_tokens,
            audio_input_tokens: row.audio_input_tokens,
            audio_output_tokens: row.audio_output_tokens,
            charged: Some(row.charge),
            upstream_id: row.upstream_id,
        }
    }
}

fn millis(micros: i64) -> f64 {
    micros as f64 / 1000.0
}
