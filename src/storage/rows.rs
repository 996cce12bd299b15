//! The ledger's statements, each with the row it writes. What is written when is decided in `journal`.

use diesel::sql_types::{BigInt, Binary, Bool, Integer, Nullable, Text};

use super::ledger::{AttemptRecord, Intent, Progress, RequestState, Settlement};
use super::micros;
use super::rollups::{Cell, Sums};
use super::statement::statement;

statement! {
    /// A request that only began; nothing happens where it is known already.
    pub(super) struct OpenRequest<'a> {
        id: &'a [u8] => Binary,
        request_id: &'a str => Text,
        key_id: &'a [u8] => Binary,
        user_id: Option<&'a [u8]> => Nullable<Binary>,
        endpoint: &'a str => Text,
        model: &'a str => Text,
        stream: bool => Bool,
        started_at: i64 => BigInt,
        input_tokens: i64 => BigInt,
    }
    "INSERT INTO requests (id, request_id, key_id, user_id, endpoint, model, stream, started_at, input_tokens, \
     state, estimated, cached_input_tokens, output_tokens, reasoning_tokens, cost, attempts, resource, deployment) \
     VALUES ("
    ", 'open', 1, 0, 0, 0, 0, 0, '', '') ON CONFLICT (id) DO NOTHING"
}

impl<'a> OpenRequest<'a> {
    pub(super) fn new(intent: &'a Intent) -> Self {
        Self {
            id: intent.id.0.as_bytes(),
            request_id: &intent.request_id,
            key_id: intent.key_id.0.as_bytes(),
            user_id: intent.user_id.as_ref().map(|user| user.0.as_bytes().as_slice()),
            endpoint: intent.operation.label(),
            model: intent.model.as_str(),
            stream: intent.stream,
            started_at: intent.started_at.0,
            input_tokens: i64::from(intent.input_tokens),
        }
    }
}

statement! {
    /// How far an open request got; nothing happens to a closed one.
    pub(super) struct AdvanceRequest<'a> {
        resource: &'a str => Text,
        deployment: &'a str => Text,
        output_tokens: i64 => BigInt,
        id: &'a [u8] => Binary,
    }
    "UPDATE requests SET (resource, deployment, output_tokens) = (p.resource, p.deployment, p.output_tokens) \
     FROM (SELECT column1 AS resource, column2 AS deployment, column3 AS output_tokens, column4 AS id FROM (VALUES ("
    "))) AS p WHERE requests.id = p.id AND requests.state = 'open'"
}

impl<'a> AdvanceRequest<'a> {
    pub(super) fn new(progress: &'a Progress) -> Self {
        Self {
            resource: progress.resource.as_str(),
            deployment: progress.deployment.as_str(),
            output_tokens: i64::from(progress.output_tokens),
            id: progress.id.0.as_bytes(),
        }
    }
}

statement! {
    /// A request that ended: over its open row if there is one; nothing happens where it is closed already.
    pub(super) struct CloseRequest<'a> {
        id: &'a [u8] => Binary,
        request_id: &'a str => Text,
        key_id: &'a [u8] => Binary,
        user_id: Option<&'a [u8]> => Nullable<Binary>,
        endpoint: &'a str => Text,
        model: &'a str => Text,
        stream: bool => Bool,
        started_at: i64 => BigInt,
        state: &'a str => Text,
        status: i32 => Integer,
        estimated: bool => Bool,
        input_tokens: i64 => BigInt,
        cached_input_tokens: i64 => BigInt,
        output_tokens: i64 => BigInt,
        reasoning_tokens: i64 => BigInt,
        cost: i64 => BigInt,
        ttfb_us: Option<i64> => Nullable<BigInt>,
        duration_us: i64 => BigInt,
        attempts: i32 => Integer,
        resource: &'a str => Text,
        deployment: &'a str => Text,
        attempt_status: Option<i32> => Nullable<Integer>,
        reason: Option<&'a str> => Nullable<Text>,
        attempt_us: Option<i64> => Nullable<BigInt>,
        charge: Option<&'a str> => Nullable<Text>,
        upstream_id: Option<&'a str> => Nullable<Text>,
    }
    "INSERT INTO requests (id, request_id, key_id, user_id, endpoint, model, stream, started_at, state, status, \
     estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost, ttfb_us, duration_us, \
     attempts, resource, deployment, attempt_status, reason, attempt_us, charge, upstream_id) VALUES ("
    ") ON CONFLICT (id) DO UPDATE SET state = excluded.state, status = excluded.status, \
     estimated = excluded.estimated, input_tokens = excluded.input_tokens, \
     cached_input_tokens = excluded.cached_input_tokens, output_tokens = excluded.output_tokens, \
     reasoning_tokens = excluded.reasoning_tokens, cost = excluded.cost, ttfb_us = excluded.ttfb_us, \
     duration_us = excluded.duration_us, attempts = excluded.attempts, resource = excluded.resource, \
     deployment = excluded.deployment, attempt_status = excluded.attempt_status, reason = excluded.reason, \
     attempt_us = excluded.attempt_us, charge = excluded.charge, upstream_id = excluded.upstream_id \
     WHERE requests.state = 'open'"
}

impl<'a> CloseRequest<'a> {
    pub(super) fn new(intent: &'a Intent, settlement: &'a Settlement) -> Self {
        let last = settlement.attempts.last();
        let usage = settlement.usage;
        Self {
            id: intent.id.0.as_bytes(),
            request_id: &intent.request_id,
            key_id: intent.key_id.0.as_bytes(),
            user_id: intent.user_id.as_ref().map(|user| user.0.as_bytes().as_slice()),
            endpoint: intent.operation.label(),
            model: intent.model.as_str(),
            stream: intent.stream,
            started_at: intent.started_at.0,
            state: settlement.state.label(),
            status: i32::from(settlement.status),
            estimated: settlement.estimated,
            input_tokens: i64::from(usage.input_tokens),
            cached_input_tokens: i64::from(usage.cached_input_tokens),
            output_tokens: i64::from(usage.output_tokens),
            reasoning_tokens: i64::from(usage.reasoning_tokens),
            cost: settlement.cost.0.max(0),
            ttfb_us: settlement.ttfb.map(micros),
            duration_us: micros(settlement.duration),
            attempts: i32::try_from(settlement.attempts.len()).unwrap_or(i32::MAX),
            resource: last.map_or("", |attempt| attempt.resource.as_str()),
            deployment: last.map_or("", |attempt| attempt.deployment.as_str()),
            attempt_status: last.and_then(|attempt| attempt.status).map(i32::from),
            reason: last.map(|attempt| attempt.reason),
            attempt_us: last.map(|attempt| micros(attempt.duration)),
            charge: last.map(|attempt| attempt.charge.label()),
            upstream_id: last.and_then(|attempt| attempt.upstream_id.as_deref()),
        }
    }

    /// Where this row counts.
    pub(super) fn cell(&self) -> Cell<'a> {
        Cell::new(self.started_at, self.key_id, self.user_id, self.model, self.resource)
    }

    /// What this row adds there.
    pub(super) fn sums(&self, settlement: &Settlement) -> Sums {
        Sums {
            requests: 1,
            input_tokens: self.input_tokens,
            cached_input_tokens: self.cached_input_tokens,
            output_tokens: self.output_tokens,
            reasoning_tokens: self.reasoning_tokens,
            cost: self.cost,
            errors: i64::from(super::rollups::is_error(settlement.state, settlement.status)),
            cancelled: i64::from(settlement.state == RequestState::Cancelled),
            estimated: i64::from(self.estimated),
        }
    }
}

statement! {
    /// An attempt that the request's own row cannot tell.
    pub(super) struct FileAttempt<'a> {
        request: &'a [u8] => Binary,
        n: i32 => Integer,
        resource: &'a str => Text,
        deployment: &'a str => Text,
        status: Option<i32> => Nullable<Integer>,
        reason: &'a str => Text,
        duration_us: i64 => BigInt,
        input_tokens: i64 => BigInt,
        cached_input_tokens: i64 => BigInt,
        output_tokens: i64 => BigInt,
        reasoning_tokens: i64 => BigInt,
        charge: &'a str => Text,
        upstream_id: Option<&'a str> => Nullable<Text>,
    }
    "INSERT INTO attempts (request, n, resource, deployment, status, reason, duration_us, input_tokens, \
     cached_input_tokens, output_tokens, reasoning_tokens, charge, upstream_id) VALUES ("
    ") ON CONFLICT (request, n) DO NOTHING"
}

impl<'a> FileAttempt<'a> {
    pub(super) fn new(intent: &'a Intent, n: i32, attempt: &'a AttemptRecord) -> Self {
        Self {
            request: intent.id.0.as_bytes(),
            n,
            resource: attempt.resource.as_str(),
            deployment: attempt.deployment.as_str(),
            status: attempt.status.map(i32::from),
            reason: attempt.reason,
            duration_us: micros(attempt.duration),
            input_tokens: i64::from(attempt.usage.input_tokens),
            cached_input_tokens: i64::from(attempt.usage.cached_input_tokens),
            output_tokens: i64::from(attempt.usage.output_tokens),
            reasoning_tokens: i64::from(attempt.usage.reasoning_tokens),
            charge: attempt.charge.label(),
            upstream_id: attempt.upstream_id.as_deref(),
        }
    }
}

statement! {
    /// Adds to one cell of the roll-ups.
    pub(super) struct AddToRollup<'a> {
        hour: i64 => BigInt,
        key_id: &'a [u8] => Binary,
        user_id: &'a [u8] => Binary,
        model: &'a str => Text,
        resource: &'a str => Text,
        requests: i64 => BigInt,
        input_tokens: i64 => BigInt,
        cached_input_tokens: i64 => BigInt,
        output_tokens: i64 => BigInt,
        reasoning_tokens: i64 => BigInt,
        cost: i64 => BigInt,
        errors: i64 => BigInt,
        cancelled: i64 => BigInt,
        estimated: i64 => BigInt,
    }
    "INSERT INTO usage_hourly (hour, key_id, user_id, model, resource, requests, input_tokens, \
     cached_input_tokens, output_tokens, reasoning_tokens, cost, errors, cancelled, estimated) VALUES ("
    ") ON CONFLICT (hour, key_id, user_id, model, resource) DO UPDATE SET requests = requests + excluded.requests, \
     input_tokens = input_tokens + excluded.input_tokens, \
     cached_input_tokens = cached_input_tokens + excluded.cached_input_tokens, \
     output_tokens = output_tokens + excluded.output_tokens, \
     reasoning_tokens = reasoning_tokens + excluded.reasoning_tokens, cost = cost + excluded.cost, \
     errors = errors + excluded.errors, cancelled = cancelled + excluded.cancelled, \
     estimated = estimated + excluded.estimated"
}

impl<'a> AddToRollup<'a> {
    pub(super) fn new(cell: Cell<'a>, sums: Sums) -> Self {
        Self {
            hour: cell.hour,
            key_id: cell.key_id,
            user_id: cell.user_id,
            model: cell.model,
            resource: cell.resource,
            requests: sums.requests,
            input_tokens: sums.input_tokens,
            cached_input_tokens: sums.cached_input_tokens,
            output_tokens: sums.output_tokens,
            reasoning_tokens: sums.reasoning_tokens,
            cost: sums.cost,
            errors: sums.errors,
            cancelled: sums.cancelled,
            estimated: sums.estimated,
        }
    }
}
