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
use tokio::sync::mpsc;

use super::super::books::End;
use super::client::{Client, Left};
use super::handshake::{Line, SWITCHED};
use super::outbox::{self, Reader, Writer};
use super::over::{CutShort, Over};
use super::turns::{Common, Turns};
use crate::accounting::recorder::{LedgerFull, LedgerLost, Recorder};
use crate::domain::time::{self, Timestamp};
use crate::domain::usage::Usage;
use crate::fleet::routes::Route;
use crate::limits::{Admission, Caller, Estimate, Limited};
use crate::metrics::Metrics;
use crate::openai::error::{ErrorBody, ErrorKind};
use crate::openai::realtime::{self, ClientEvent, ServerEvent};
use crate::router::RouterHandle;
use crate::upstream::websocket::messages::{Message, Reason};
use crate::upstream::websocket::{UpstreamReader, UpstreamWriter};

/// A key that was revoked may be used this long, and no session outlives its time by more.
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
    pub caller: Box<dyn Fn() -> Option<Arc<Caller>>>,
    pub is_draining: Box<dyn Fn() -> bool>,
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
    turns: RefCell<Turns>,
    caller: RefCell<Arc<Caller>>,
    route: Arc<Route>,
    router: RouterHandle,
    explain: fn(Limited) -> ErrorBody,
    metrics: Arc<Metrics>,
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
    } = start;
    let Line { mut reader, mut writer, headers: _, lease, books } = line;
    let deployment = lease.deployment().clone();
    let turns = Turns::new(Common { recorder, metrics: metrics.clone(), deployment: deployment.clone(), label });
    let session = Session {
        outbox,
        turns: RefCell::new(turns),
        caller: RefCell::new(caller),
        route: books.route().clone(),
        router,
        explain: outside.explain,
        metrics,
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
    let Session { outbox, turns, .. } = session;
    let mut turns = turns.into_inner();
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
                    Ok(Message::Text(event)) => match self.hear_client(&event) {
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

    async fn hear(&self, client: &mut Client) -> Result<Message, Left> {
        let message = client.next().await;
        self.heard.set(time::now());
        message
    }

    /// Notes what a client's event means; what its limits do not allow is answered instead of sent on.
    fn hear_client(&self, event: &Bytes) -> Result<(), Message> {
        let name = match realtime::read_client(event) {
            ClientEvent::Input(piece) => {
                self.turns.borrow_mut().input(piece);
                return Ok(());
            }
            ClientEvent::Create { name } => name,
        };
        let mut turns = self.turns.borrow_mut();
        let refuse = |error: &ErrorBody| Err(error_message(error, name.as_deref()));
        if turns.have_room().is_err() {
            return refuse(&too_many_wishes());
        }
        let permit = self.caller.borrow().admit_within();
        match permit.and_then(|permit| permit.reserve_tokens(self.estimate(), turns.context())) {
            Ok(admission) => {
                turns.wished(name.map(|name| name.into_owned()), admission);
                Ok(())
            }
            Err(limited) => refuse(&self.explained(limited)),
        }
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
                    let refusal = match self.hear_upstream(&event, orders).await {
                        Ok(refusal) => refusal,
                        Err(over) => return over,
                    };
                    self.outbox.push(&Message::Text(event));
                    if let Some(refusal) = refusal {
                        self.outbox.push(&refusal);
                    }
                    self.is_booking.set(false);
                }
                Ok(message @ (Message::Binary(_) | Message::Ping(_) | Message::Pong(_))) => self.outbox.push(&message),
            }
        }
    }

    /// Books what an upstream's event means; gives what the client is to be told beside it.
    async fn hear_upstream(&self, event: &Bytes, orders: &mpsc::Sender<Message>) -> Result<Option<Message>, Over> {
        match realtime::read_server(event) {
            ServerEvent::Begun { id } if self.turns.borrow().is_known(&id) => Ok(None),
            ServerEvent::Begun { id } => {
                let granted = self.turns.borrow_mut().granted();
                match granted {
                    Some(admission) => self.begin(&id, admission).await.map(|()| None),
                    None => self.begin_unasked(&id, orders).await,
                }
            }
            ServerEvent::Piece { id, piece } => {
                self.turns.borrow_mut().piece(&id, piece);
                Ok(None)
            }
            ServerEvent::Ended { id, usage, ending } => {
                if !self.turns.borrow().is_known(&id) {
                    let granted = self.turns.borrow_mut().granted();
                    let admission = granted.unwrap_or_else(|| self.admit_begun());
                    self.begin(&id, admission).await?;
                }
                let ended = self.turns.borrow_mut().end(&id, usage, ending);
                ended.await.map_err(|LedgerLost| Over::LedgerLost)?;
                Ok(None)
            }
            ServerEvent::Refused { about } => {
                self.turns.borrow_mut().refused(about.as_deref());
                Ok(None)
            }
            ServerEvent::Other => Ok(None),
        }
    }

    /// A refusal in words, which counts as one.
    fn explained(&self, limited: Limited) -> ErrorBody {
        self.metrics.limit_rejections.with_label_values(&[limited.label()]).inc();
        (self.explain)(limited)
    }

    /// What a response may cost beside what it reads.
    fn estimate(&self) -> Estimate {
        Estimate::assuming(self.route.settings.max_output, self.route.price)
    }

    fn admit_begun(&self) -> Admission {
        let context = self.turns.borrow().context();
        self.caller.borrow().admit_begun().reserve_begun(self.estimate(), context)
    }

    /// Opens the books of a response; resolves when the ledger knows of it.
    async fn begin(&self, id: &str, admission: Admission) -> Result<(), Over> {
        // A reload may have changed its price.
        let route = self.router.table().model(self.route.model.as_str()).unwrap_or(&self.route).clone();
        let begun = self.turns.borrow().begin(id, &self.caller.borrow(), route, admission);
        let turn = begun.map_err(|LedgerFull| Over::LedgerLost)?;
        turn.committed().await.map_err(|LedgerLost| Over::LedgerLost)?;
        self.turns.borrow_mut().add(turn);
        Ok(())
    }

    /// The upstream answers speech by itself. What the caller's limits do not allow is stopped at once; what has been
    /// said by then is booked like anything else.
    async fn begin_unasked(&self, id: &str, orders: &mpsc::Sender<Message>) -> Result<Option<Message>, Over> {
        let context = self.turns.borrow().context();
        let permit = self.caller.borrow().admit_within();
        match permit.and_then(|permit| permit.reserve_tokens(self.estimate(), context)) {
            Ok(admission) => self.begin(id, admission).await.map(|()| None),
            Err(limited) => {
                let admission = self.admit_begun();
                self.begin(id, admission).await?;
                let cancel = Message::Text(realtime::cancel_event(id, &event_id()).into());
                // Should the upstream take nothing, the response goes on, and is paid for.
                let _ = orders.try_send(cancel);
                Ok(Some(error_message(&self.explained(limited), None)))
            }
        }
    }

    /// Resolves when the session must end for a reason of the gateway's, or its client has left unheard.
    async fn watch(&self, outside: Outside, Limits { ends, patience }: Limits) -> Over {
        let Outside { caller, is_draining, cut, explain: _ } = outside;
        let looking = async {
            let mut asked = self.heard.get();
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                let (now, heard) = (time::now(), self.heard.get());
                if now.since(heard) >= patience {
                    return Over::ClientGone;
                }
                // A client whose machine is gone says nothing, and nothing else says so.
                if now.since(heard.max(asked)) >= patience / 4 {
                    asked = now;
                    self.outbox.push(&Message::Ping(Bytes::from_static(QUESTION)));
                }
                match caller() {
                    Some(present) => *self.caller.borrow_mut() = present,
                    None => return Over::KeyRevoked,
                }
                if is_draining() && !self.is_booking.get() && !self.turns.borrow().are_open() {
                    return Over::ShuttingDown;
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

fn error_message(error: &ErrorBody, about: Option<&str>) -> Message {
    Message::Text(realtime::error_event(error, &event_id(), about).into())
}

fn event_id() -> String {
    format!("event_gw{:016x}", fastrand::u64(..))
}

fn too_many_wishes() -> ErrorBody {
    ErrorBody {
        message: "Too many `response.create` events wait for their response. Send the next one when one is done."
            .into(),
        kind: ErrorKind::Requests,
        param: None,
        code: "rate_limit_exceeded",
    }
}
