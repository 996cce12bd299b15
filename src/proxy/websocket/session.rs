//! The relay of a session: messages both ways, each direction at the pace of whom it goes to, until one side has ended.
//!
//! A session ends in one of the ways of [`Over`], and each of them is told to the side that did not cause it: as an event
//! in the API's own shape where there is something to say, and as a close frame with a code. A cut upstream never looks
//! like a good end. What a client may not do is said in an event, and the session goes on.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Payload;
use bytes::Bytes;
use futures_core::future::LocalBoxFuture;
use tokio::sync::{mpsc, watch};

use super::super::books::End;
use super::booking::{Booking, error_message};
use super::client::{Client, Left};
use super::handshake::{Line, SWITCHED};
use super::outbox::{self, Reader, Writer};
use super::over::{CutShort, Over};
use super::transcripts::Transcripts;
use super::turns::{Common, Turns};
use crate::accounting::recorder::{LedgerLost, Recorder};
use crate::domain::demand::Operation;
use crate::domain::time::{self, Timestamp};
use crate::domain::usage::Usage;
use crate::limits::{Caller, Limited, Usable};
use crate::metrics::Metrics;
use crate::openai::error::ErrorBody;
use crate::router::RouterHandle;
use crate::upstream::websocket::messages::{Message, Reason};
use crate::upstream::websocket::{UpstreamReader, UpstreamWriter};

/// Once a shutdown has begun, whether a session's last response is done.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// For the other side of a connection to answer a close frame.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);
/// Orders to the upstream that are the gateway's own; it has one for each response that it did not ask for.
const MOST_ORDERS: usize = 16;

/// What the gateway's own pings hold.
const QUESTION: &[u8] = b"aoai-gateway";

/// What a session is told from outside.
pub struct Outside {
    /// Who calls, as the key stands now; `None` when it may not be used any more.
    pub usable: Box<dyn Fn() -> Option<Usable>>,
    /// Of what is told so.
    pub changes: watch::Receiver<()>,
    /// Ready when a shutdown begins.
    pub draining: LocalBoxFuture<'static, ()>,
    /// Ready when the grace of a shutdown is over.
    pub cut: LocalBoxFuture<'static, ()>,
    /// A refusal in words.
    pub explain: fn(Limited) -> ErrorBody,
}

/// What a session takes over.
pub struct Start {
    pub line: Line,
    pub payload: Payload,
    /// What one message of the client may hold.
    pub message_limit: usize,
    pub caller: Arc<Caller>,
    pub outside: Outside,
    pub router: RouterHandle,
    pub recorder: Recorder,
    pub metrics: Arc<Metrics>,
    /// The `x-request-id`.
    pub label: String,
    pub started: Timestamp,
    /// How long it may last.
    pub limit: Duration,
    /// How long its client may be silent; it is asked before whether it is still there.
    pub patience: Duration,
    /// How long a response may wait for its deployment to have room.
    pub max_wait: Duration,
}

/// Starts the session on this thread; gives what actix sends.
pub fn start(start: Start) -> Reader {
    let (writer, reader) = outbox::open();
    actix_web::rt::spawn(run(start, writer));
    reader
}

/// What both directions share.
struct Session {
    outbox: Writer,
    booking: Booking,
    /// When the client last said anything.
    heard: Cell<Timestamp>,
    /// Whether an event of the upstream's is with the ledger, and its client does not have it yet.
    is_booking: Cell<bool>,
}

/// In time.
#[derive(Clone, Copy)]
struct Limits {
    ends: Timestamp,
    patience: Duration,
}

async fn run(start: Start, outbox: Writer) {
    let Start {
        line,
        payload,
        message_limit,
        caller,
        outside,
        router,
        recorder,
        metrics,
        label,
        started,
        limit,
        patience,
        max_wait,
    } = start;
    let _open = metrics.open_websocket(Operation::Realtime.label());
    let Line { mut reader, mut writer, headers: _, lease, books, demand, purpose } = line;
    let deployment = lease.deployment().clone();
    let turns = Turns::new(Common { recorder, metrics: metrics.clone(), deployment: deployment.clone(), label });
    let session = Session {
        outbox,
        booking: Booking {
            turns: RefCell::new(turns),
            caller: RefCell::new(caller),
            route: books.route().clone(),
            demand,
            // Whoever waits is not to look as if it were gone.
            max_wait: max_wait.min(patience / 2),
            transcripts: Transcripts::new(purpose),
            router,
            metrics,
            explain: outside.explain,
        },
        heard: Cell::new(time::now()),
        is_booking: Cell::new(false),
    };
    let limits = Limits { ends: started.after(limit), patience };
    let mut client = Client::new(payload, message_limit);
    let (orders, mut ordered) = mpsc::channel(MOST_ORDERS);
    let over = tokio::select! {
        over = session.upwards(&mut client, &mut writer, &mut ordered) => over,
        over = session.downwards(&mut reader, &orders) => over,
        over = session.watch(outside, limits) => over,
    };
    tracing::debug!(resource = %deployment.resource, deployment = %deployment.name, over = over.reason(), "session ended");
    hang_up(reader, writer, over.for_upstream());
    let Session { outbox, booking, .. } = session;
    let mut turns = booking.turns.into_inner();
    let cut_short = if turns.are_open() { CutShort::Yes } else { CutShort::No };
    let over = match turns.abandon(over.outcome(), over.of_turns()).await {
        Ok(()) => over,
        Err(LedgerLost) => Over::LedgerLost,
    };
    if let Some(error) = over.error(cut_short) {
        outbox.push(&error_message(&error, None));
    }
    outbox.push(&Message::Close(over.for_client()));
    lease.settle(over.outcome(), None);
    let end = End { state: over.state(), status: SWITCHED, usage: Usage::default(), estimated: false };
    // Nothing of the session depends on it any more.
    let _ = books.settle(end).await;
    if over.awaits_client() {
        let answered = async { while !matches!(client.next().await, Ok(Message::Close(_)) | Err(_)) {} };
        let _ = tokio::time::timeout(CLOSE_PATIENCE, answered).await;
    }
    outbox.finish();
}

/// Tells the upstream, if it can still be told, and lets go of it. Nobody waits for that.
fn hang_up(reader: UpstreamReader, mut writer: UpstreamWriter, reason: Option<Option<Reason>>) {
    let Some(reason) = reason.filter(|_| writer.is_between_messages()) else { return };
    actix_web::rt::spawn(async move {
        let telling = async { drop(writer.send(&Message::Close(reason)).await) };
        let _ = tokio::time::timeout(CLOSE_PATIENCE, telling).await;
        drop(reader);
    });
}

impl Session {
    /// From the client to the upstream, and between two messages what the gateway itself has to order there.
    async fn upwards(
        &self,
        client: &mut Client,
        upstream: &mut UpstreamWriter,
        ordered: &mut mpsc::Receiver<Message>,
    ) -> Over {
        loop {
            let message = tokio::select! {
                biased;
                Some(order) = ordered.recv() => order,
                message = self.hear(client) => match message {
                    Err(Left::Gone) => return Over::ClientGone,
                    Err(Left::Broke(violation)) => return Over::ClientBroke(violation),
                    Ok(Message::Close(reason)) => return Over::ClientClosed(reason),
                    Ok(Message::Text(event)) => match self.judge(&event, upstream, ordered).await {
                        Ok(()) => Message::Text(event),
                        Err(refusal) => {
                            if self.outbox.room().await.is_err() {
                                return Over::ClientGone;
                            }
                            self.outbox.push(&refusal);
                            continue;
                        }
                    },
                    // The answer to a question of ours.
                    Ok(Message::Pong(payload)) if payload == QUESTION => continue,
                    Ok(message @ (Message::Binary(_) | Message::Ping(_) | Message::Pong(_))) => message,
                },
            };
            if upstream.send(&message).await.is_err() {
                // What it said before it went is still to be read, and the other direction reads it.
                return std::future::pending().await;
            }
        }
    }

    /// What a client's event may do, which may take a while to find out. What the gateway has to order meanwhile does not
    /// wait for that.
    async fn judge(
        &self,
        event: &Bytes,
        upstream: &mut UpstreamWriter,
        ordered: &mut mpsc::Receiver<Message>,
    ) -> Result<(), Message> {
        let mut judging = std::pin::pin!(self.booking.hear_client(event));
        loop {
            tokio::select! {
                biased;
                judged = &mut judging => {
                    // It was not the client that kept silent.
                    self.heard.set(time::now());
                    return judged;
                }
                // Whether the upstream still listens, the next event will tell.
                Some(order) = ordered.recv() => drop(upstream.send(&order).await),
            }
        }
    }

    async fn hear(&self, client: &mut Client) -> Result<Message, Left> {
        let message = client.next().await;
        self.heard.set(time::now());
        message
    }

    /// From the upstream to the client. What is said of a response's cost is committed before it is passed on.
    async fn downwards(&self, upstream: &mut UpstreamReader, orders: &mpsc::Sender<Message>) -> Over {
        loop {
            if self.outbox.room().await.is_err() {
                return Over::ClientGone;
            }
            match upstream.next().await {
                Err(broken) => return Over::UpstreamBroke(broken),
                Ok(Message::Close(reason)) => return Over::UpstreamClosed(reason),
                Ok(Message::Text(event)) => {
                    self.is_booking.set(true);
                    let refusal = match self.booking.hear_upstream(&event, orders).await {
                        Ok(refusal) => refusal,
                        Err(over) => return over,
                    };
                    self.outbox.push(&Message::Text(event));
                    if let Some(refusal) = refusal {
                        self.outbox.push(&refusal);
                    }
                    self.is_booking.set(false);
                    if self.booking.transcripts.is_spent() {
                        return Over::QuotaUsedUp;
                    }
                }
                Ok(message @ (Message::Binary(_) | Message::Ping(_) | Message::Pong(_))) => self.outbox.push(&message),
            }
        }
    }

    /// Resolves when the session must end for a reason of the gateway's, or its client has left unheard.
    async fn watch(&self, outside: Outside, Limits { ends, patience }: Limits) -> Over {
        let Outside { usable, mut changes, mut draining, cut, explain: _ } = outside;
        let looking = async {
            let (mut asked, mut is_draining) = (self.heard.get(), false);
            loop {
                let (now, heard) = (time::now(), self.heard.get());
                if now.since(heard) >= patience {
                    return Over::ClientGone;
                }
                // A client whose machine is gone says nothing, and nothing else says so.
                if now.since(heard.max(asked)) >= patience / 4 {
                    asked = now;
                    self.outbox.push(&Message::Ping(Bytes::from_static(QUESTION)));
                }
                let Some(usable) = usable() else { return Over::KeyRevoked };
                let usable_until = now.after(usable.left(time::wall_now()));
                *self.booking.caller.borrow_mut() = usable.caller;
                if is_draining && !self.is_booking.get() && !self.booking.turns.borrow().are_open() {
                    return Over::ShuttingDown;
                }
                let silent = heard.after(patience).min(heard.max(asked).after(patience / 4));
                let mut look = silent.min(usable_until);
                if is_draining {
                    look = look.min(now.after(LOOK_EVERY));
                }
                tokio::select! {
                    () = tokio::time::sleep(look.since(now)) => {}
                    // They live as long as what `usable` looks at.
                    _ = changes.changed() => {}
                    () = &mut draining, if !is_draining => is_draining = true,
                }
            }
        };
        let left = ends.since(time::now());
        tokio::select! {
            () = self.outbox.gone() => Over::ClientGone,
            over = looking => over,
            () = tokio::time::sleep(left) => Over::Expired,
            () = cut => Over::ShuttingDown,
        }
    }
}
