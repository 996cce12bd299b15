//! Old requests are removed, oldest first, in steps so small that no request waits for one; their sums stay.
//!
//! What is removed is always the beginning of a chain, up to a stored hash, which becomes the chain's base: the rest can
//! be verified as before. A request that was admitted early and closed late waits for those that were closed before it.

use std::collections::BTreeMap;

use diesel::prelude::*;

use super::chain::Position;
use super::ledger::RequestState;
use super::schema::{attempts, chains, requests, unprojected};
use super::{StorageError, Store, meta};
use crate::domain::ids::RequestId;
use crate::domain::time::WallTime;

/// Rows of a step; more where one transaction wrote more, because a chain is cut only between transactions.
const STEP: usize = 200;
/// Rows of one statement.
const AT_ONCE: usize = 500;

/// One pass over what is too old.
#[derive(Debug)]
pub struct Sweep {
    before: WallTime,
    /// None: not looked.
    kept: Option<Kept>,
    /// What has been looked at.
    cursor: Vec<u8>,
    all_seen: bool,
    /// Rows that may go once those before them in their chain have gone.
    waiting: BTreeMap<i64, Old>,
    /// Rows of no chain.
    free: Vec<Vec<u8>>,
}

/// What stays because the shared database does not have it yet.
#[derive(Clone, Debug)]
struct Kept {
    /// The first such request; it and those after it stay.
    from: Vec<u8>,
    /// What was put on the list after this number was closed since, however long ago it began.
    listed: i64,
}

#[derive(Debug)]
struct Old {
    id: Vec<u8>,
    seal: Option<Vec<u8>>,
}

/// Id, place in its chain, hash if it is the last of its transaction.
type Seen = (Vec<u8>, Option<i64>, Option<Vec<u8>>);

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// So many requests were removed; there may be more.
    Removed(u64),
    /// None is left that is old enough and may go.
    Done,
}

/// The beginning of a chain that can go, and the hash at its end.
struct Cut {
    chain: i64,
    row: i64,
    hash: Vec<u8>,
    ids: Vec<Vec<u8>>,
}

impl Sweep {
    /// Of requests that began before that.
    pub fn new(before: WallTime) -> Self {
        Self { before, kept: None, cursor: Vec::new(), all_seen: false, waiting: BTreeMap::new(), free: Vec::new() }
    }

    /// Of those that are waiting, the next whole transactions of the chain from its base on.
    fn cut(&mut self, chain: i64, base: i64) -> Option<Cut> {
        let from = Position { chain, row: base + 1 }.packed();
        let mut end = None;
        for (count, (expected, (at, old))) in (from..).zip(self.waiting.range(from..)).enumerate() {
            if *at != expected || (count >= STEP && end.is_some()) {
                break;
            }
            if let Some(seal) = &old.seal {
                end = Some((*at, seal.clone()));
            }
        }
        let (end, hash) = end?;
        let rest = self.waiting.split_off(&(end + 1));
        let mut going = self.waiting.split_off(&from);
        self.waiting.extend(rest);
        let ids = std::mem::take(&mut going).into_values().map(|old| old.id).collect();
        Some(Cut { chain, row: Position::unpack(end).row, hash, ids })
    }
}

impl Store {
    /// The next step of a sweep. Blocks for some milliseconds.
    pub fn remove_old(&self, sweep: &mut Sweep) -> Result<Step, StorageError> {
        loop {
            let looked = self.look_at_old(sweep)?;
            let removed = self.remove_ready(sweep)?;
            match (removed, looked) {
                (0, 0) => return Ok(Step::Done),
                (0, _) => {}
                (removed, _) => return Ok(Step::Removed(removed)),
            }
        }
    }

    /// Reads on; gives how many it found.
    fn look_at_old(&self, sweep: &mut Sweep) -> Result<usize, StorageError> {
        if sweep.all_seen {
            return Ok(0);
        }
        let Kept { from: end, listed } = match &sweep.kept {
            Some(kept) => kept.clone(),
            None => sweep.kept.insert(self.kept(sweep.before)?).clone(),
        };
        let found: Vec<Seen> = requests::table
            .filter(requests::id.gt(&sweep.cursor).and(requests::id.lt(&end)))
            // Ids follow the system's clock, which may have jumped.
            .filter(requests::started_at.lt(sweep.before.0).and(requests::state.ne(RequestState::Open.label())))
            .order(requests::id)
            .limit(i64::try_from(STEP).unwrap_or(i64::MAX))
            .select((requests::id, requests::chained, requests::chain))
            .load(&mut *self.file_reader()?)?;
        sweep.all_seen = found.len() < STEP;
        if let Some((id, ..)) = found.last() {
            sweep.cursor.clone_from(id);
        }
        let count = found.len();
        // After the rows were read: one that was closed since the pass began is still on the list, or was brought over.
        let waiting: Vec<Option<Vec<u8>>> = unprojected::table
            .filter(unprojected::seq.gt(listed).and(unprojected::request.eq_any(found.iter().map(|(id, ..)| id))))
            .select(unprojected::request)
            .load(&mut *self.file_reader()?)?;
        for (id, chained, seal) in found {
            if waiting.iter().flatten().any(|waiting| *waiting == id) {
                continue;
            }
            match chained {
                Some(at) => drop(sweep.waiting.insert(at, Old { id, seal })),
                None => sweep.free.push(id),
            }
        }
        Ok(count)
    }

    fn kept(&self, before: WallTime) -> Result<Kept, StorageError> {
        let file = &mut *self.file_reader()?;
        // First the number, then the list: nothing comes in between that neither of them has.
        let listed: Option<i64> = unprojected::table.select(diesel::dsl::max(unprojected::seq)).first(file)?;
        let oldest: Option<Option<Vec<u8>>> = unprojected::table
            .filter(unprojected::request.is_not_null())
            .order(unprojected::request)
            .select(unprojected::request)
            .first(file)
            .optional()?;
        let by_age = RequestId::first_of(before).0.as_bytes().to_vec();
        let from = oldest.flatten().map_or(by_age.clone(), |oldest| oldest.min(by_age));
        Ok(Kept { from, listed: listed.unwrap_or(0) })
    }

    fn remove_ready(&self, sweep: &mut Sweep) -> Result<u64, StorageError> {
        let free = std::mem::take(&mut sweep.free);
        let bases: Vec<(i64, i64)> =
            chains::table.select((chains::number, chains::base_row)).load(&mut *self.file_reader()?)?;
        let cuts: Vec<Cut> = bases.into_iter().filter_map(|(chain, base)| sweep.cut(chain, base)).collect();
        if cuts.is_empty() && free.is_empty() {
            return Ok(0);
        }
        self.write_file(|connection| {
            keep_from(connection, sweep.before)?;
            let mut removed = remove(connection, &free)?;
            for Cut { chain, row, hash, ids } in &cuts {
                removed += remove(connection, ids)?;
                diesel::update(chains::table.find(chain))
                    .set((chains::base_row.eq(row), chains::base.eq(hash)))
                    .execute(connection)?;
            }
            Ok(removed)
        })
    }
}

/// From when on every request is still there.
fn keep_from(connection: &mut SqliteConnection, from: WallTime) -> Result<(), StorageError> {
    let known = meta::get_in_file(connection, meta::KEPT_FROM)?.and_then(|text| text.parse::<i64>().ok());
    if known.is_none_or(|known| known < from.0) {
        meta::set_in_file(connection, meta::KEPT_FROM, &from.0.to_string())?;
    }
    Ok(())
}

fn remove(connection: &mut SqliteConnection, ids: &[Vec<u8>]) -> Result<u64, StorageError> {
    let mut removed = 0;
    for ids in ids.chunks(AT_ONCE) {
        diesel::delete(attempts::table.filter(attempts::request.eq_any(ids))).execute(connection)?;
        removed += diesel::delete(requests::table.filter(requests::id.eq_any(ids))).execute(connection)? as u64;
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use diesel::connection::SimpleConnection;

    use super::*;
    use crate::domain::usage::{Charge, Usage};
    use crate::settings::model::Durability;
    use crate::storage::ledger::{Intent, LedgerEntry};
    use crate::storage::samples::{attempt, dump, intent, settled, settlement};

    const HOUR: i64 = 3_600_000_000;

    /// A request that began at that hour, in the middle of it; `n` tells those of one hour apart.
    fn at_hour(hour: i64, n: u8) -> Arc<Intent> {
        let began = WallTime(4_000_000_000_000_000 / HOUR * HOUR + hour * HOUR + HOUR / 2);
        let mut id = RequestId::first_of(began);
        id.0 = uuid::Uuid::from_u128(id.0.as_u128() + u128::from(n));
        Arc::new(Intent { id, started_at: began, ..Arc::unwrap_or_clone(intent(0)) })
    }

    fn sweep(store: &Store, hour: i64) -> u64 {
        let mut sweep = Sweep::new(WallTime(4_000_000_000_000_000 / HOUR * HOUR + hour * HOUR));
        let mut removed = 0;
        while let Step::Removed(rows) = store.remove_old(&mut sweep).unwrap() {
            removed += rows;
        }
        removed
    }

    fn sums(store: &Store) -> Vec<String> {
        dump(store).into_iter().filter(|line| line.starts_with("roll-up")).collect()
    }

    #[test]
    fn old_requests_go_their_sums_stay_and_the_rest_can_be_verified() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("gateway.db"), Durability::Process).unwrap();
        let mut journal = store.journal().unwrap();
        // One of the first hour is closed in the fourth, and one of the second hour is open.
        let late = at_hour(0, 200);
        for hour in 0..4 {
            for group in 0..10_u8 {
                let mut batch: Vec<_> = (0..5).map(|n| settled(&at_hour(hour, group * 5 + n), 1)).collect();
                if hour == 3 && group == 4 {
                    let mut end = settlement(9);
                    end.attempts.insert(0, attempt("westus", Usage::default(), Charge::None));
                    batch.push(LedgerEntry::Settled(late.clone(), Box::new(end)));
                }
                journal.append(&[batch]).unwrap();
            }
            journal = store.journal().unwrap();
        }
        let open = at_hour(1, 201);
        journal.append(&[vec![LedgerEntry::Intent(open.clone())]]).unwrap();
        let before = sums(&store);
        let verdict = |rows: i64| {
            let verdict = store.verify().unwrap();
            assert!(verdict.holds(), "{verdict:#?}");
            assert_eq!((verdict.requests, verdict.open), (rows, 1));
        };
        verdict(202);
        assert_eq!(sweep(&store, 0), 0);
        assert_eq!(sweep(&store, 2), 100, "the late one waits for those that were closed before it");
        verdict(102);
        assert!(store.request(late.id).unwrap().is_some());
        assert_eq!(sweep(&store, 2), 0);
        // All that were closed before it are old enough now.
        assert_eq!(sweep(&store, 4), 101);
        verdict(1);
        assert_eq!(sums(&store), before);
        journal.append(&[vec![settled(&open, 3), settled(&at_hour(5, 1), 3)]]).unwrap();
        let verdict = store.verify().unwrap();
        assert!(verdict.holds() && verdict.requests == 2, "{verdict:#?}");

        // The roll-ups of removed rows may hold more than what is left, those of kept rows may not.
        let mut connection = store.writer().unwrap();
        connection
            .batch_execute(
                "UPDATE usage_hourly SET requests = requests + 1 WHERE hour = (SELECT MAX(hour) FROM usage_hourly)",
            )
            .unwrap();
        assert!(!store.verify().unwrap().holds());
    }

    /// They would be in no sum of the shared database.
    #[test]
    fn what_waits_for_the_shared_database_stays_and_what_came_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("gateway.db"), Durability::Process).unwrap();
        let mut journal = store.journal().unwrap();
        for hour in 0..4 {
            journal.append(&[vec![settled(&at_hour(hour, 1), 1)]]).unwrap();
        }
        let waits = |intent: &Intent| {
            let id = intent.id.0.simple();
            format!("INSERT INTO unprojected (request) VALUES (X'{id}')")
        };
        let change = |sql: &str| store.writer().unwrap().batch_execute(sql).unwrap();
        // A pin that waits says nothing of requests; a row that was refused does.
        change(&format!("INSERT INTO unprojected (pin) VALUES ('resp_1'); {}", waits(&at_hour(2, 1))));
        change("UPDATE unprojected SET refused = 'why not' WHERE request IS NOT NULL");
        assert_eq!(sweep(&store, 4), 2);
        assert!(store.request(at_hour(2, 1).id).unwrap().is_some());
        change("DELETE FROM unprojected");
        assert_eq!(sweep(&store, 4), 2);
        assert_eq!(store.verify().unwrap().requests, 0);
    }

    /// A request that ran for longer than requests are kept, and ended while old ones were being removed.
    #[test]
    fn what_was_closed_since_the_pass_began_stays_until_it_was_brought_over() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("gateway.db"), Durability::Process).unwrap();
        let mut journal = store.journal().unwrap();
        let long = at_hour(3, 0);
        journal.append(&[vec![LedgerEntry::Intent(long.clone())]]).unwrap();
        for hour in 0..3 {
            for n in 0..5 {
                journal.append(&[(0..40).map(|m| settled(&at_hour(hour, n * 40 + m), 1)).collect()]).unwrap();
            }
        }
        let mut pass = Sweep::new(WallTime(at_hour(4, 0).started_at.0));
        assert_eq!(store.remove_old(&mut pass).unwrap(), Step::Removed(200));
        journal.append(&[vec![settled(&long, 9)]]).unwrap();
        let waits = format!("INSERT INTO unprojected (request) VALUES (X'{}')", long.id.0.simple());
        store.writer().unwrap().batch_execute(&waits).unwrap();
        while store.remove_old(&mut pass).unwrap() != Step::Done {}
        assert!(store.request(long.id).unwrap().is_some());
        assert_eq!(store.verify().unwrap().requests, 1);
        store.writer().unwrap().batch_execute("DELETE FROM unprojected").unwrap();
        assert_eq!(sweep(&store, 5), 1);
        assert!(store.verify().unwrap().holds());
    }

    /// Ids follow the system's clock, which may have jumped.
    #[test]
    fn what_began_later_than_its_id_says_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("gateway.db"), Durability::Process).unwrap();
        let (old, young) = (at_hour(0, 1), Intent { started_at: at_hour(5, 0).started_at, ..(*at_hour(0, 2)).clone() });
        store.journal().unwrap().append(&[vec![settled(&old, 1)]]).unwrap();
        store.journal().unwrap().append(&[vec![settled(&Arc::new(young), 1)]]).unwrap();
        assert_eq!((sweep(&store, 2), sweep(&store, 6)), (1, 1));
        assert!(store.verify().unwrap().holds());
    }

    /// `accounting.keep_requests` was raised: what is gone does not come back, and its sums are still no mistake.
    #[test]
    fn what_was_removed_stays_removed_when_more_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("gateway.db"), Durability::Process).unwrap();
        let (mut journal, late) = (store.journal().unwrap(), at_hour(1, 9));
        journal.append(&[vec![LedgerEntry::Intent(late.clone())]]).unwrap();
        for hour in 0..4 {
            journal.append(&[vec![settled(&at_hour(hour, 1), 1)]]).unwrap();
        }
        assert_eq!(sweep(&store, 4), 4);
        journal.append(&[vec![settled(&late, 1)]]).unwrap();
        assert_eq!(sweep(&store, 2), 1);
        let verdict = store.verify().unwrap();
        assert!(verdict.holds(), "{verdict:#?}");
    }

    #[test]
    fn rows_of_no_chain_go_too() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("gateway.db"), Durability::Process).unwrap();
        let rows: Vec<_> = (0..250).map(|n| settled(&at_hour(0, n), 1)).collect();
        store.journal().unwrap().append(&[rows]).unwrap();
        let mut connection = store.writer().unwrap();
        connection.batch_execute("UPDATE requests SET chained = NULL, chain = NULL; DELETE FROM chains").unwrap();
        assert_eq!(sweep(&store, 1), 250);
        let verdict = store.verify().unwrap();
        assert!(verdict.holds() && verdict.requests == 0, "{verdict:#?}");
    }
}
