//! One `response.create`: let in, asked for as a posted stream, and passed on event by event.

use std::future::poll_fn;
use std::pin::Pin;

use actix_web::body::MessageBody;
use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::web;
use bytes::Bytes;

use super::session::Talk;
use super::warm_up;
use crate::domain::demand::{Operation, Whose};
use crate::domain::secret::Secret;
use crate::domain::time;
use crate::http::dispatch::Told;
use crate::http::error::ApiError;
use crate::http::inference::{self, Question};
use crate::http::{auth, guests};
use crate::limits::Caller;
use crate::openai::request::OFF_THREAD_BYTES;
use crate::openai::sockets::events::{self, Last};
use crate::openai::sockets::{self, Memory, Output, Refused, Turn};
use crate::openai::sse::{self, Data, Splitter};
use crate::proxy::exchange::{Body, Served, Unserved};
use crate::proxy::headers;
use crate::proxy::pipe::Reader;
use crate::upstream::websocket::messages::Message;

/// What a turn leaves behind.
pub(super) enum Turned {
    /// With a response; what its session is to remember of it.
    Answered(Option<Memory>),
    /// With nothing to go on from.
    Refused,
}

/// Serves an event of the client to its end. Dropped, the upstream is let go of and the books are closed.
pub(super) async fn run(talk: &Talk, event: Bytes, memory: Option<Memory>) -> Turned {
    let mut told = Told::default();
    match serve(talk, event, memory, &mut told).await {
        Ok(turned) => turned,
        Err(refusal) => {
            if !told.in_books {
                let labels = [Operation::Responses.label(), "", refusal.status.as_str(), "refused"];
                talk.about.worker.house.metrics.requests.with_label_values(&labels).inc();
            }
            talk.refuse(&refusal);
            Turned::Refused
        }
    }
}

/// A refusal as an event.
pub(super) fn event_of(refusal: &ApiError) -> Bytes {
    // As this protocol has it.
    let status = match refusal.body.code {
        "previous_response_not_found" => StatusCode::BAD_REQUEST,
        _ => refusal.status,
    };
    let headers = refusal.retry_headers();
    events::refusal(status.as_u16(), &refusal.body, &headers).into()
}

async fn serve(talk: &Talk, event: Bytes, memory: Option<Memory>, told: &mut Told) -> Result<Turned, ApiError> {
    let (about, started) = (&talk.about, time::now());
    let (worker, house) = (&about.worker, &about.worker.house);
    let caller = auth::usable(about.known_by, &house.callers).ok_or_else(ApiError::invalid_key)?.caller;
    let permit = caller.admit_within().map_err(|limited| inference::refuse(worker, limited))?;
    let turn = read(event, memory).await?;
    let label = about.label.another();
    let table = worker.router.table();
    let question = Question {
        worker,
        table: &table,
        target: &about.target,
        label: &label,
        headers: &about.headers,
        caller: &caller,
        brought: brought(talk, &caller),
        asked_version: about.asked_version.clone(),
        body: turn.body.clone(),
        started,
    };
    if turn.output == Output::Unwanted {
        return warm_up::answer(talk, &turn, question, permit, told).await;
    }
    let served = inference::answer(question, permit, told).await?;
    if served.status < 400
        && let Some(guest) = auth::new_guest_with(|| about.key_sent.as_deref(), &caller, &house.callers)
    {
        guests::file(house.clone(), guest);
    }
    Ok(pass(talk, &turn, served).await)
}

fn brought(talk: &Talk, caller: &Caller) -> (Option<Secret>, Whose) {
    match caller.grant.whose {
        Whose::Ours => (None, Whose::Ours),
        Whose::Callers => (talk.about.key_sent.clone().map(Secret::new), Whose::Callers),
    }
}

/// A long event is read elsewhere: other requests of this thread do not wait for it.
async fn read(event: Bytes, memory: Option<Memory>) -> Result<Turn, ApiError> {
    if event.len() <= OFF_THREAD_BYTES {
        return Ok(sockets::read(&event, memory.as_ref())?);
    }
    let read = web::block(move || sockets::read(&event, memory.as_ref())).await;
    // The blocking pool is gone: the process is ending.
    Ok(read.map_err(|_| ApiError::internal())??)
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Malformed(error) => error.into(),
            Refused::Unknown(kind) => Self::unknown_event(&kind),
            Refused::Unsupported(member) => {
                Self::unsupported(member, "Over WebSocket, responses are made one at a time.")
            }
        }
    }
}

/// Passes on what is served; every row is in the ledger before its last event goes out.
async fn pass(talk: &Talk, turn: &Turn, served: Served) -> Turned {
    let Served { status, headers: head, body, .. } = served;
    match body {
        Body::Whole(body) if status >= 400 => {
            talk.say(events::refusal_of_upstream(status, &body));
            Turned::Refused
        }
        Body::Whole(body) => {
            let done = events::completed(&body);
            talk.say(done.clone());
            Turned::Answered(Memory::of_answer(turn, &done))
        }
        Body::Stream(reader) => {
            let kind = headers::text(&head, CONTENT_TYPE).unwrap_or_default();
            if kind.starts_with("text/event-stream") {
                events_of(talk, turn, reader).await
            } else {
                talk.refuse(&Unserved::InvalidResponse.into());
                Turned::Refused
            }
        }
    }
}

async fn events_of(talk: &Talk, turn: &Turn, mut reader: Reader) -> Turned {
    let mut splitter = Splitter::default();
    let mut last = Bytes::new();
    loop {
        if talk.outbox.room().await.is_err() {
            return Turned::Refused;
        }
        match poll_fn(|cx| Pin::new(&mut reader).poll_next(cx)).await {
            Some(Ok(bytes)) => {
                // No longer than an upstream's may be.
                let Ok((bytes, spans)) = splitter.push(bytes) else { break };
                for event in spans {
                    say(talk, &bytes.slice(event), &mut last);
                }
            }
            None => {
                say(talk, &splitter.finish(), &mut last);
                return match events::last(&last) {
                    Last::Done => Turned::Answered(Memory::of_answer(turn, &last)),
                    Last::Error | Last::Other => Turned::Refused,
                };
            }
            Some(Err(_)) => break,
        }
    }
    // The relay has said why, unless it could not book what it had to say.
    if events::last(&last) != Last::Error {
        talk.refuse(&Unserved::LedgerLost.into());
    }
    Turned::Refused
}

/// Says an event of a stream, and notes it as the last.
fn say(talk: &Talk, event: &Bytes, last: &mut Bytes) {
    let data = match sse::data(event) {
        Some(Data::Line(span)) => event.slice(span),
        Some(Data::Joined(lines)) => lines.into(),
        None => return,
    };
    // A client may end a connection over a message that is no text.
    let data = match std::str::from_utf8(&data) {
        Ok(_) => data,
        Err(_) => String::from_utf8_lossy(&data).into_owned().into(),
    };
    if data != "[DONE]" {
        talk.outbox.push(&Message::Text(data.clone()));
        *last = data;
    }
}
