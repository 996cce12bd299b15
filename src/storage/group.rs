//! What a group of entries amounts to, before any SQL: pure.
//!
//! A request whose end is in the group needs neither its opening row nor its progress written, and of several steps
//! of progress only the last. The result is the same as writing every entry on its own, in order.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::ledger::{Intent, LedgerEntry, Progress, Settlement};
use super::pins::Pin;
use super::underway::Underway;
use crate::domain::ids::RequestId;

#[derive(Debug, Default)]
pub(super) struct Group<'a> {
    /// Requests that only began.
    pub(super) opened: Vec<&'a Arc<Intent>>,
    /// How far requests got that are still open.
    pub(super) progressed: Vec<&'a Progress>,
    pub(super) pinned: Vec<&'a Pin>,
    /// What goes on in the background, and what of that ended.
    pub(super) underway: Vec<&'a Underway>,
    pub(super) told: Vec<RequestId>,
    /// Requests that ended.
    pub(super) settled: Vec<(&'a Intent, &'a Settlement)>,
}

impl<'a> Group<'a> {
    pub(super) fn of(batches: &'a [Vec<LedgerEntry>]) -> Self {
        let mut group = Group::default();
        for entry in batches.iter().flatten() {
            match entry {
                LedgerEntry::Intent(intent) => group.opened.push(intent),
                LedgerEntry::Progress(progress) => group.progressed.push(progress),
                LedgerEntry::Pinned(pin) => group.pinned.push(pin),
                LedgerEntry::Underway(underway) => group.underway.push(underway),
                LedgerEntry::Told(told) => group.told.push(*told),
                LedgerEntry::Settled(intent, settlement) => group.settled.push((intent, settlement)),
            }
        }
        group.drop_what_the_settled_rows_say();
        group.keep_the_last_progress();
        group
    }

    pub(super) fn is_empty(&self) -> bool {
        let Self { opened, progressed, pinned, underway, told, settled } = self;
        opened.is_empty()
            && progressed.is_empty()
            && pinned.is_empty()
            && underway.is_empty()
            && told.is_empty()
            && settled.is_empty()
    }

    fn drop_what_the_settled_rows_say(&mut self) {
        if self.settled.is_empty() || (self.opened.is_empty() && self.progressed.is_empty()) {
            return;
        }
        let ended: HashSet<RequestId> = self.settled.iter().map(|(intent, _)| intent.id).collect();
        self.opened.retain(|intent| !ended.contains(&intent.id));
        self.progressed.retain(|progress| !ended.contains(&progress.id));
    }

    fn keep_the_last_progress(&mut self) {
        if self.progressed.len() < 2 {
            return;
        }
        let last: HashMap<RequestId, usize> =
            self.progressed.iter().enumerate().map(|(at, progress)| (progress.id, at)).collect();
        let mut at = 0;
        self.progressed.retain(|progress| {
            at += 1;
            last.get(&progress.id) == Some(&(at - 1))
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::samples::{intent, progress, settled};

    #[test]
    fn what_ended_in_the_group_is_written_once() {
        let (ended, open) = (intent(1), intent(2));
        let batches = vec![
            vec![LedgerEntry::Intent(ended.clone()), LedgerEntry::Intent(open.clone())],
            vec![progress(&ended, 5), progress(&open, 7), progress(&open, 9), settled(&ended, 12)],
        ];
        let group = Group::of(&batches);
        assert_eq!(group.opened, vec![&open]);
        assert_eq!(
            group.progressed.iter().map(|step| (step.id, step.output_tokens)).collect::<Vec<_>>(),
            [(open.id, 9)]
        );
        assert_eq!(group.settled.iter().map(|(intent, _)| intent.id).collect::<Vec<_>>(), [ended.id]);
    }
}
