//! A session: its client is heard all the time, its turns are served one after the other, and it ends in good time.
//!
//! What is wrong with an event is told in an `error` event, and the session goes on. A client may be silent for as long as
//! its session lasts, as agents are that work with their tools; it is asked now and then so that a connection that is gone
//! is noticed. In between a session sleeps: it is told when keys change or a shutdown begins, and knows when its own time
//! and its key's are over.

use std::collections::VecDeque;
use std::future::pending;
use std::pin::pin;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::http::header::HeaderMap;
use actix_web::web::Data;
use bytes::Bytes;
use futures_core::future::LocalBoxFuture;

use super::turn::{self, Turned};
use crate::azure::endpoint::ApiVersion;
use crate::domain::demand::Operation;
use crate::domain::time::{self, Timestamp};
use crate::http::auth::{self, KnownBy};
use crate::http::dispatch::RequestLabel;
use crate::http::error::ApiError;
use crate::http::routes::Target;
use crate::http::state::Worker;
use crate::limits::Permit;
use crate::openai::sockets::{Memory, events};
use crate::proxy::websocket::client::{Client, Left};
use crate::proxy::websocket::outbox::{self, Reader, Writer};
use crate::proxy::websocket::over::{CutShort, Over};
use crate::upstream::websocket::messages::{Message, Violation};

/// For the client to answer a close frame.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);
/// Events that wait for the response before them to be done.
const MOST_WAITING: usize = 16;

/// What a session takes over.
pub(super) struct Start {
    pub(super) payload: Payload,
    /// Its place among the key's requests at once.
    pub(super) permit: Permit,
    pub(super) about: About,
}

/// Whose session it is, and where it was asked for.
pub(super) struct About {
    pub(super) worker: Data<Worker>,
    pub(super) target: Target,
    pub(super) label: RequestLabel,
    /// Of the handshake.
    pub(super) headers: HeaderMap,
    pub(super) key_sent: Option<String>,
    pub(super) known_by: KnownBy,
    pub(super) asked_version: Option<ApiVersion>,
}

/// What turns need of their session.
pub(super) struct Talk {
    pub(super) about: About,
    pub(super) outbox: Writer,
}

impl Talk {
    pub(super) fn say(&self, event: impl Into<Bytes>) {
        self.outbox.push(&Message::Text(event.into()));
    }

    pub(super) fn refuse(&self, refusal: &ApiError) {
        self.say(turn::event_of(refusal));
    }
}

/// Starts the session on this thread; gives what actix sends.
pub(super) fn start(Start { payload, permit, about }: Start) -> Reader {
    let (outbox, reader) = outbox::open();
    actix_web::rt::spawn(run(payload, permit, Talk { about, outbox }));
    reader
}

async fn run(payload: Payload, permit: Permit, talk: Talk) {
    let _open = talk.about.worker.house.metrics.open_websocket(Operation::Responses.label());
    let settings = talk.about.worker.router.table().settings.clone();
    let mut client = Client::new(payload, settings.server.body_limit);
    let routing = &settings.routing;
    let limits = Limits { ends: time::now().after(routing.session_limit), ask_every: routing.stream_idle_timeout / 4 };
    let mut turns = Turns::default();
    let over = converse(&talk, &mut client, &mut turns, limits).await;
    let cut_short = if turns.are_left() { CutShort::Yes } else { CutShort::No };
    // What is under way is given up, and booked as far as it went.
    drop((turns, permit));
    tracing::debug!(over = over.reason(), "session of responses ended");
    if let Some(event) = farewell(&over, cut_short, routing.session_limit) {
        talk.say(event);
    }
    talk.outbox.push(&Message::Close(over.for_client()));
    if over.awaits_client() {
        let answered = async { while !matches!(client.next().await, Ok(Message::Close(_)) | Err(_)) {} };
        let _ = tokio::time::timeout(CLOSE_PATIENCE, answered).await;
    }
    talk.outbox.finish();
}

/// In time.
#[derive(Clone, Copy)]
struct Limits {
    ends: Timestamp,
    ask_every: Duration,
}

impl Limits {
    fn asks_after(&self, asked: Timestamp) -> Timestamp {
        asked.after(self.ask_every)
    }
}

/// What a session has to do, and what it remembers of what it has done.
#[derive(Default)]
struct Turns<'t> {
    under_way: Option<LocalBoxFuture<'t, Turned>>,
    waiting: VecDeque<Bytes>,
    memory: Option<Memory>,
}

impl<'t> Turns<'t> {
    fn are_left(&self) -> bool {
        self.under_way.is_some() || !self.waiting.is_empty()
    }

    fn begin_next(&mut self, talk: &'t Talk) {
        let Some(event) = self.waiting.pop_front() else { return };
        self.under_way = Some(Box::pin(turn::run(talk, event, self.memory.clone())));
    }

    /// Resolves when the turn that is under way has ended.
    async fn ended(&mut self) {
        let Some(turn) = &mut self.under_way else { return pending().await };
        match turn.await {
            Turned::Answered(latest) => self.memory = latest,
            // The next goes on from where this one was to.
            Turned::Refused => {}
        }
        self.under_way = None;
    }
}

/// Serves turns until there is a reason to end.
async fn converse<'t>(talk: &'t Talk, client: &mut Client, turns: &mut Turns<'t>, limits: Limits) -> Over {
    let house = &talk.about.worker.house;
    let mut changes = house.callers.changes();
    let mut draining = pin!(house.condition.until_draining());
    let mut cut = pin!(house.condition.until_cut());
    let (mut asked, mut is_draining) = (time::now(), false);
    loop {
        let Some(usable) = auth::usable(talk.about.known_by, &house.callers) else { return Over::KeyRevoked };
        let now = time::now();
        if now >= limits.asks_after(asked) {
            asked = now;
            talk.outbox.push(&Message::Ping(Bytes::new()));
        }
        let mut look = limits.asks_after(asked).min(now.after(usable.left(time::wall_now())));
        if turns.under_way.is_none() {
            // A response that has begun is let finish.
            if now >= limits.ends {
                return Over::Expired;
            }
            if is_draining {
                return Over::ShuttingDown;
            }
            turns.begin_next(talk);
            look = look.min(limits.ends);
        }
        let has_room = turns.waiting.len() < MOST_WAITING;
        tokio::select! {
            () = turns.ended() => {}
            message = client.next() => match message {
                Ok(Message::Text(event)) if has_room => turns.waiting.push_back(event),
                Ok(Message::Text(_)) => talk.refuse(&too_many_waiting()),
                Ok(Message::Binary(_)) => talk.refuse(&no_text()),
                Ok(Message::Ping(payload)) => talk.outbox.push(&Message::Pong(payload)),
                Ok(Message::Pong(_)) => {}
                Ok(Message::Close(reason)) => return Over::ClientClosed(reason),
                Err(Left::Gone) => return Over::ClientGone,
                Err(Left::Broke(violation)) => return Over::ClientBroke(violation),
            },
            () = talk.outbox.gone() => return Over::ClientGone,
            () = &mut cut => return Over::ShuttingDown,
            () = &mut draining, if !is_draining => is_draining = true,
            // They live as long as the house, which is held here.
            _ = changes.changed() => {}
            () = tokio::time::sleep(look.since(now)) => {}
        }
    }
}

/// What a client is told before the close frame.
fn farewell(over: &Over, cut_short: CutShort, limit: Duration) -> Option<Bytes> {
    match over {
        Over::Expired => Some(turn::event_of(&expired(limit))),
        // What is left of it would have to be read to be thrown away.
        Over::ClientBroke(Violation::TooLarge) => Some(turn::event_of(&too_large())),
        other => {
            let error = other.error(cut_short)?;
            Some(events::refusal(status_of(other).as_u16(), &error, &[]).into())
        }
    }
}

fn status_of(over: &Over) -> StatusCode {
    match over {
        Over::KeyRevoked => StatusCode::UNAUTHORIZED,
        Over::ShuttingDown | Over::LedgerLost => StatusCode::SERVICE_UNAVAILABLE,
        Over::QuotaUsedUp => StatusCode::TOO_MANY_REQUESTS,
        Over::UpstreamClosed(_) | Over::UpstreamBroke(_) => StatusCode::BAD_GATEWAY,
        Over::ClientClosed(_) | Over::ClientGone | Over::ClientBroke(_) | Over::Expired => StatusCode::BAD_REQUEST,
    }
}

fn expired(limit: Duration) -> ApiError {
    let message = format!(
        "This WebSocket connection has reached its longest duration ({} minutes). Open a new one, and go on with the id of \
         a stored response or with the whole conversation in `input`.",
        limit.as_secs().div_ceil(60)
    );
    ApiError::invalid(StatusCode::BAD_REQUEST, "websocket_connection_limit_reached", message)
}

fn too_large() -> ApiError {
    let message = "This message is larger than a request body may be (`server.body_limit`), and the connection ends. Open a \
                   new one, and send less at once.";
    ApiError::invalid(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", message)
}

fn too_many_waiting() -> ApiError {
    let message = format!(
        "{MOST_WAITING} events wait for the response before them already. Send the next one when one is done, or open \
         another connection."
    );
    ApiError::invalid(StatusCode::TOO_MANY_REQUESTS, "too_many_events_waiting", message)
}

fn no_text() -> ApiError {
    let message = "This message is binary. Send each event as a text message with a JSON object in it.";
    ApiError::invalid(StatusCode::BAD_REQUEST, "invalid_json", message)
}
