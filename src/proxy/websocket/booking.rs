//! What the events of both sides mean for a session's books, and which of the client's the upstream is not to have.
//!
//! A client's wish for a response passes the gate before it is sent on. What an upstream begins by itself is judged when
//! it says so: what the limits do not allow is stopped, and booked as far as it went.

use std::cell::RefCell;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::over::Over;
use super::turns::Turns;
use crate::accounting::recorder::{LedgerFull, LedgerLost};
use crate::fleet::routes::Route;
use crate::limits::{Admission, Caller, Estimate, Limited};
use crate::metrics::Metrics;
use crate::openai::error::{ErrorBody, ErrorKind};
use crate::openai::realtime::{self, ClientEvent, ServerEvent};
use crate::router::RouterHandle;
use crate::upstream::websocket::messages::Message;

pub struct Booking {
    pub turns: RefCell<Turns>,
    /// As the key stands now.
    pub caller: RefCell<Arc<Caller>>,
    pub route: Arc<Route>,
    pub router: RouterHandle,
    pub metrics: Arc<Metrics>,
    /// A refusal in words.
    pub explain: fn(Limited) -> ErrorBody,
}

impl Booking {
    /// Notes what a client's event means; what its limits do not allow is answered instead of sent on.
    pub fn hear_client(&self, event: &Bytes) -> Result<(), Message> {
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

    /// Books what an upstream's event means; gives what the client is to be told beside it.
    pub async fn hear_upstream(&self, event: &Bytes, orders: &mpsc::Sender<Message>) -> Result<Option<Message>, Over> {
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
}

/// An error in the API's own shape; `about`: the client's event that it is about.
pub fn error_message(error: &ErrorBody, about: Option<&str>) -> Message {
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
