//! The request path's end of the ledger: one `Recorder` per HTTP worker, one [`OpenEntry`] per admitted request.
//!
//! Here is decided that no admitted request is forgotten: an entry that is dropped without a settlement settles
//! itself. When entries travel to the ledger is decided in `desk`.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::Addr;
use smallvec::SmallVec;

use super::batch::{Batch, Committed};
use super::desk::{Desk, Linger, Place};
use super::ledger::Ledger;
use super::permits::Permits;
use crate::domain::money::Price;
use crate::domain::time::{self, Timestamp};
use crate::domain::usage::{Charge, Usage};
use crate::storage::ledger::{AttemptRecord, Intent, LedgerEntry, Progress, RequestState, Settlement};
use crate::storage::pins::Pin;
use crate::storage::underway::Underway;
use crate::tripwire::kill_points::{self, Point};

/// Long enough for the end of a very short request to meet its beginning. Of what was asked of an upstream within this time, a
/// process that is killed leaves no trace; no client has had a byte of it.
const INTENT_LINGER: Duration = Duration::from_millis(2);
/// What nobody waits for, and nothing is to meet.
const SHORT_LINGER: Duration = Duration::from_millis(2);
/// Progress only bounds what a crash makes uncertain, and comes about once a second.
const PROGRESS_LINGER: Duration = Duration::from_millis(100);
/// The status of a request whose client did not wait for one.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// One per worker thread; cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    desk: Rc<Desk>,
}

/// The ledger cannot take this request now; nothing was sent upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the ledger cannot take more requests now")]
pub struct LedgerFull;

/// The ledger did not confirm the write; nothing that depends on it may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the ledger did not confirm the write")]
pub struct LedgerLost;

impl Recorder {
    /// On the worker's own thread, inside its actix arbiter.
    pub fn new(ledger: Addr<Ledger>, permits: Arc<Permits>) -> Self {
        Self { desk: Desk::open(ledger, permits) }
    }

    /// Takes the permit for all records of a request and files its intent.
    pub fn admit(&self, intent: Intent) -> Result<OpenEntry, LedgerFull> {
        let admitted = time::now();
        if !self.desk.permits.take(admitted) {
            return Err(LedgerFull);
        }
        // A stream waits for its intent before its first byte, so the intent leaves while the upstream is at work.
        let intent = Arc::new(intent);
        let entry = LedgerEntry::Intent(intent.clone());
        let filed = match intent.stream {
            true => Place::Leaving(self.desk.put(entry, Linger::None)),
            false => self.desk.linger(entry, INTENT_LINGER),
        };
        Ok(OpenEntry {
            intent,
            desk: self.desk.clone(),
            admitted,
            price: Price::default(),
            filed: RefCell::new(filed),
            sent: None,
            progress: RefCell::new(None),
            progress_place: RefCell::new(None),
            attempts: SmallVec::new(),
            settled: false,
        })
    }
}

/// An admitted request. Settled exactly once: by `settle`, by `settle_detached`, or by `Drop` (as cancelled).
pub struct OpenEntry {
    intent: Arc<Intent>,
    desk: Rc<Desk>,
    admitted: Timestamp,
    price: Price,
    /// Where the intent lies.
    filed: RefCell<Place>,
    /// What the last pin travels with, or what is under way; never before the intent.
    sent: Option<Rc<Batch>>,
    /// The last step, for a settlement made by `Drop`.
    progress: RefCell<Option<Progress>>,
    progress_place: RefCell<Option<Place>>,
    attempts: SmallVec<[AttemptRecord; 1]>,
    settled: bool,
}

impl OpenEntry {
    /// What a settlement made by `Drop` costs; without it that costs nothing.
    #[must_use]
    pub fn priced(mut self, price: Price) -> Self {
        self.price = price;
        self
    }

    pub fn intent(&self) -> &Arc<Intent> {
        &self.intent
    }

    /// Files where the upstream keeps the answer. A settlement that follows before the next await is committed with it;
    /// otherwise `durable` waits for it too.
    pub fn pin(&mut self, pin: Box<Pin>) {
        self.send(LedgerEntry::Pinned(pin));
    }

    /// Files that work goes on upstream whose cost is told later; committed as a pin is.
    pub fn underway(&mut self, underway: Box<Underway>) {
        self.send(LedgerEntry::Underway(underway));
    }

    /// The settlement of this entry, which follows before the next await, tells what work has cost that was under way.
    pub fn tells(&mut self) {
        self.desk.put(LedgerEntry::Told(self.intent.id), Linger::Upto(SHORT_LINGER));
    }

    /// Files what the answer's beginning waits for, behind the intent.
    fn send(&mut self, entry: LedgerEntry) {
        self.desk.send_off(self.filed.get_mut(), Linger::Upto(SHORT_LINGER));
        self.sent = Some(self.desk.put(entry, Linger::Upto(SHORT_LINGER)).batch);
    }

    /// Resolves when the intent, the pin if there is one, and what is under way are safe.
    pub async fn durable(&self) -> Result<(), LedgerLost> {
        let batch = match &self.sent {
            Some(batch) => batch.clone(),
            None => self.desk.send_off(&mut self.filed.borrow_mut(), Linger::None),
        };
        if batch.is_committed() {
            return Ok(());
        }
        self.desk.hurry(&batch);
        Committed::new(batch).await
    }

    /// Keeps an attempt for a settlement made by `Drop`.
    pub fn attempted(&mut self, attempt: AttemptRecord) {
        self.attempts.push(attempt);
    }

    /// Says how far the answer has come. Left out while the database refuses, so that nothing piles up.
    pub fn progress(&self, progress: Progress) {
        if self.desk.permits.is_writable(time::now()) {
            let entry = LedgerEntry::Progress(progress.clone());
            let mut place = self.progress_place.borrow_mut();
            let leaving = self.desk.replace(place.as_ref(), entry, Linger::Upto(PROGRESS_LINGER));
            *place = Some(Place::Leaving(leaving));
        }
        self.progress.replace(Some(progress));
    }

    /// Files the settlement, and resolves when it is in the database: only then may the last byte go to the client.
    pub fn settle(mut self, settlement: Box<Settlement>) -> impl Future<Output = Result<(), LedgerLost>> + use<> {
        let batch = self.file(settlement, Linger::None);
        drop(self);
        kill_points::reached(Point::SettlementFiled);
        Committed::new(batch)
    }

    /// For ends that nobody waits for (the client left).
    pub fn settle_detached(mut self, settlement: Box<Settlement>) {
        self.file(settlement, Linger::Upto(SHORT_LINGER));
    }

    fn file(&mut self, settlement: Box<Settlement>, linger: Linger) -> Rc<Batch> {
        self.settled = true;
        let entry = LedgerEntry::Settled(self.intent.clone(), settlement);
        self.desk.replace(Some(self.filed.get_mut()), entry, linger).batch
    }

    /// The end of a request that nobody settled, from what was noted on the way.
    fn cancelled(&mut self) -> Settlement {
        let mut attempts = std::mem::take(&mut self.attempts);
        let duration = time::now().since(self.admitted);
        if let Some(progress) = self.progress.take() {
            attempts.push(AttemptRecord {
                resource: progress.resource,
                deployment: progress.deployment,
                status: None,
                reason: "abandoned",
                duration,
                usage: Usage {
                    input_tokens: self.intent.input_tokens,
                    output_tokens: progress.output_tokens,
                    ..Usage::default()
                },
                charge: Charge::Estimated,
                upstream_id: None,
            });
        }
        let (usage, estimated) = match attempts.last().map(|last| (last.usage, last.charge)) {
            Some((usage, Charge::Exact)) => (usage, false),
            Some((usage, Charge::Estimated | Charge::Ambiguous)) => (usage, true),
            Some((_, Charge::None)) | None => (Usage::default(), false),
        };
        Settlement {
            state: RequestState::Cancelled,
            status: CLIENT_CLOSED_REQUEST,
            usage,
            estimated,
            cost: self.price.cost(usage),
            flat_cost: false,
            price_version: Some(self.price.version()),
            ttfb: None,
            duration,
            attempts,
        }
    }
}

impl Drop for OpenEntry {
    fn drop(&mut self) {
        if !self.settled {
            let settlement = Box::new(self.cancelled());
            self.file(settlement, Linger::Upto(SHORT_LINGER));
        }
    }
}

impl fmt::Debug for OpenEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenEntry").field("id", &self.intent.id).finish_non_exhaustive()
    }
}
