//! A turn with `generate: false`: what later turns begin with is told, and nothing is generated.
//!
//! No upstream is asked, as what is posted there has no such turn: it is remembered, and sent with the first turn that goes
//! on from it. It passes the gate and has a row all the same, which costs nothing; its id is the session's own.

use super::session::Talk;
use super::turn::Turned;
use crate::domain::time;
use crate::domain::usage::Usage;
use crate::http::dispatch::Told;
use crate::http::error::ApiError;
use crate::http::inference::{self, Question};
use crate::http::responses;
use crate::limits::{Estimate, Permit};
use crate::openai::sockets::{Memory, Turn, events};
use crate::proxy::books::{Books, End, Opening};
use crate::proxy::exchange::Unserved;
use crate::storage::ledger::{Intent, RequestState};

pub(super) async fn answer(
    talk: &Talk,
    turn: &Turn,
    question: Question<'_>,
    permit: Permit,
    told: &mut Told,
) -> Result<Turned, ApiError> {
    let Question { worker, table, target, label, caller, body, started, .. } = question;
    let peek = inference::peek(target.operation, &body).await?;
    let named = target.named.as_deref().or(peek.model.as_deref()).ok_or_else(ApiError::missing_model)?;
    let route = inference::find_model(table, caller, target.dialect, named)?.clone();
    let fallback = inference::fallback(table, caller, &route);
    // What it goes on from must be there, and the caller's.
    responses::resource_of(&peek.state, worker, table, caller, &route, &fallback).await?;
    let admission = permit.reserve_tokens(Estimate::assuming(0, route.price), 0).await;
    let admission = admission.map_err(|limited| inference::refuse(worker, limited))?;
    let entry = worker.recorder.admit(Intent {
        id: admission.request,
        request_id: label.as_str().to_owned(),
        key_id: caller.grant.key_id,
        user_id: caller.grant.user_id,
        operation: target.operation,
        model: route.model.clone(),
        stream: true,
        started_at: admission.began,
        input_tokens: 0,
    })?;
    let metrics = worker.house.metrics.clone();
    let id = format!("resp_gw{}", admission.request.0.simple());
    let books = Books::open(Opening { entry, route, metrics, admission, started });
    told.in_books = true;
    let end = End { state: RequestState::Settled, status: 200, usage: Usage::default(), estimated: false };
    books.settle(end).await.map_err(|_| Unserved::LedgerLost)?;
    for event in events::prepared(turn, &id, named, time::wall_now()) {
        talk.say(event);
    }
    Ok(Turned::Answered(Memory::of_beginning(turn, &id)))
}
