//! Where one worker's entries wait for the ledger, and the pump that hands them over.
//!
//! Everything here is on one thread. Tasks put entries down and wake the pump; the pump alone sends, after the tasks
//! that are ready now had their turn, so that what happens together travels together. At most one batch is on its way;
//! a batch that someone waits for leaves at once if the last one left long enough ago, any other lingers a moment,
//! because the end of a short request then meets its beginning here and both become one row.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::mem;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use actix::Addr;
use actix::dev::SendError;
use tokio::sync::oneshot;
use tokio::time::Sleep;

use super::batch::Batch;
use super::ledger::{Ledger, Record, Sequence};
use super::permits::Permits;
use super::recorder::LedgerLost;
use crate::domain::time::{self, Timestamp};
use crate::storage::ledger::LedgerEntry;

/// From one batch of a worker to the next, under heavy load: more gathers for each transaction.
const SPACING: Duration = Duration::from_millis(1);
/// A batch so large is a sign of heavy load; a smaller one holds up nobody who waits for the next.
const HEAVY: usize = 8;
/// When the ledger's mailbox is full.
const PAUSE: Duration = Duration::from_millis(5);

pub(super) struct Desk {
    ledger: Addr<Ledger>,
    pub(super) permits: Arc<Permits>,
    state: RefCell<State>,
}

struct State {
    /// Not handed over yet.
    entries: Vec<LedgerEntry>,
    /// What `entries` will be; those who wait for one of them hold it too.
    batch: Rc<Batch>,
    /// Counts the batches, so that a place in an earlier one is known to be gone.
    number: u64,
    /// When `entries` must leave; None while there are none.
    due: Option<Timestamp>,
    /// The next batch leaves no sooner.
    not_before: Timestamp,
    on_its_way: Option<(Rc<Batch>, oneshot::Receiver<Sequence>)>,
    timer: Option<(Timestamp, Pin<Box<Sleep>>)>,
    pump: Option<Waker>,
}

/// Where an entry lies until its batch leaves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    number: u64,
    index: usize,
}

/// How long an entry may wait for company.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Linger {
    /// Someone waits for it.
    None,
    Upto(Duration),
}

impl Desk {
    /// Starts the pump on this thread, which must run an actix system or arbiter.
    pub(super) fn open(ledger: Addr<Ledger>, permits: Arc<Permits>) -> Rc<Self> {
        let desk = Rc::new(Self {
            ledger,
            permits,
            state: RefCell::new(State {
                entries: Vec::new(),
                batch: Rc::default(),
                number: 0,
                due: None,
                not_before: Timestamp::ZERO,
                on_its_way: None,
                timer: None,
                pump: None,
            }),
        });
        let weak = Rc::downgrade(&desk);
        actix::spawn(poll_fn(move |cx| pump(&weak, cx)));
        desk
    }

    /// Puts an entry down and says where it lies.
    pub(super) fn put(&self, entry: LedgerEntry, linger: Linger) -> (Place, Rc<Batch>) {
        let mut state = self.state.borrow_mut();
        if cfg!(feature = "no-books") {
            state.batch.finish(Ok(()));
            return (Place { number: u64::MAX, index: 0 }, state.batch.clone());
        }
        state.entries.push(entry);
        let place = Place { number: state.number, index: state.entries.len() - 1 };
        let batch = state.batch.clone();
        state.hurry(linger);
        (place, batch)
    }

    /// Puts an entry where another of the same request lies, if that has not left yet.
    pub(super) fn replace(&self, place: Option<Place>, entry: LedgerEntry, linger: Linger) -> (Place, Rc<Batch>) {
        let mut state = self.state.borrow_mut();
        let Some(place) = place.filter(|place| place.number == state.number) else {
            drop(state);
            return self.put(entry, linger);
        };
        if let Some(lying) = state.entries.get_mut(place.index) {
            *lying = entry;
        }
        let batch = state.batch.clone();
        state.hurry(linger);
        (place, batch)
    }

    /// Someone waits for this batch now.
    pub(super) fn hurry(&self, batch: &Rc<Batch>) {
        let mut state = self.state.borrow_mut();
        if Rc::ptr_eq(batch, &state.batch) {
            state.hurry(Linger::None);
        }
    }

    fn poll(&self, cx: &mut Context<'_>) {
        let mut state = self.state.borrow_mut();
        if !state.pump.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            state.pump = Some(cx.waker().clone());
        }
        loop {
            if let Some((batch, answer)) = &mut state.on_its_way {
                let Poll::Ready(answer) = Pin::new(answer).poll(cx) else { return };
                let batch = batch.clone();
                state.on_its_way = None;
                if answer.is_err() {
                    self.permits.ledger_is_lost();
                }
                batch.finish(answer.map(drop).map_err(|_| LedgerLost));
            }
            let Some(due) = state.due.map(|due| due.max(state.not_before)) else { return };
            let now = time::now();
            if due <= now {
                self.send(&mut state, now);
                continue;
            }
            if state.timer.as_ref().is_none_or(|(set_for, _)| *set_for != due) {
                state.timer = Some((due, Box::pin(tokio::time::sleep(due.since(now)))));
            }
            let Some((_, timer)) = &mut state.timer else { return };
            if timer.as_mut().poll(cx).is_pending() {
                return;
            }
            state.timer = None;
        }
    }

    fn send(&self, state: &mut State, now: Timestamp) {
        let capacity = state.entries.len();
        let spacing = if capacity >= HEAVY { SPACING } else { Duration::ZERO };
        let entries = mem::replace(&mut state.entries, Vec::with_capacity(capacity));
        let (committed, answer) = oneshot::channel();
        match self.ledger.try_send(Record { entries, committed }) {
            Ok(()) => {
                state.on_its_way = Some((mem::take(&mut state.batch), answer));
                state.number += 1;
                state.due = None;
                // Left alone, it would wake the worker for nothing, once for every request of a quiet hour.
                state.timer = None;
                state.not_before = now.after(spacing);
            }
            Err(SendError::Full(record)) => {
                state.entries = record.entries;
                state.not_before = now.after(PAUSE);
            }
            Err(SendError::Closed(record)) => {
                tracing::error!(
                    entries = record.entries.len(),
                    "the ledger is gone, the next start closes what these entries would have"
                );
                self.permits.ledger_is_lost();
                mem::take(&mut state.batch).finish(Err(LedgerLost));
                state.number += 1;
                state.due = None;
            }
        }
    }
}

impl State {
    /// Brings the departure forward, and wakes the pump if it would sleep past it.
    fn hurry(&mut self, linger: Linger) {
        let due = match linger {
            Linger::None => Timestamp::ZERO,
            Linger::Upto(linger) => time::now().after(linger),
        };
        if self.due.is_some_and(|earlier| earlier <= due) {
            return;
        }
        self.due = Some(due);
        if self.on_its_way.is_none()
            && let Some(pump) = &self.pump
        {
            pump.wake_by_ref();
        }
    }
}

impl Drop for Desk {
    /// The worker ends: what lies here goes to the ledger, nobody waits for the answer.
    fn drop(&mut self) {
        let state = self.state.get_mut();
        if let Some(pump) = state.pump.take() {
            pump.wake();
        }
        let entries = mem::take(&mut state.entries);
        if entries.is_empty() {
            return;
        }
        let (committed, _) = oneshot::channel();
        if let Err(error) = self.ledger.try_send(Record { entries, committed }) {
            tracing::error!(%error, "a worker's last ledger entries did not reach the ledger");
        }
    }
}

/// Lives as long as the desk does.
fn pump(desk: &Weak<Desk>, cx: &mut Context<'_>) -> Poll<()> {
    match desk.upgrade() {
        Some(desk) => {
            desk.poll(cx);
            Poll::Pending
        }
        None => Poll::Ready(()),
    }
}
