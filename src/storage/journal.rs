//! The ledger's one write connection: groups of entries in, committed rows out.
//!
//! Writing the same group again changes nothing: a request is opened once and closed once, and only a row that this
//! group really closed is added to the roll-ups. So a group may be retried after an error whose outcome is unknown.

use std::collections::HashSet;
use std::mem;
use std::sync::Arc;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use smallvec::SmallVec;

use super::chain::{Before, Content, Format, Head};
use super::chains::Chain;
use super::folding::Bound;
use super::group::Group;
use super::intent_log::{Due, IntentLog};
use super::ledger::{Intent, LedgerEntry, Settlement};
use super::pins::FilePin;
use super::queue::{QueuePin, QueueRequest};
use super::rollups::Rollups;
use super::rows::{AdvanceRequest, CloseOpen, FileAttempt, FileClosed, OpenRequest};
use super::underway::{FileUnderway, RemoveUnderway};
use super::{StorageError, Store, transaction};
use crate::domain::ids::RequestId;
use crate::domain::time::{self, Timestamp};
use crate::tripwire::kill_points::{self, Point};

pub struct Journal {
    connection: SqliteConnection,
    /// Begun with the first row that is closed here.
    chain: Chain,
    content: Content,
    /// None: what begins gets a row at once.
    intents: Option<Arc<IntentLog>>,
    /// Requests that were opened here and are not closed: no more than are in flight.
    open: HashSet<RequestId>,
    /// Whether what is written here has to be brought to a server.
    is_shared: bool,
    folded: Bound,
}

/// How far moving the write-ahead log into the database file came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Pages in the log.
    pub log: i64,
    /// Pages of it that the database file has.
    pub moved: i64,
}

impl Store {
    pub fn journal(&self) -> Result<Journal, StorageError> {
        let (chain, content, is_shared) = (Chain::default(), Content::default(), self.is_shared());
        let (intents, folded) = (self.intents().cloned(), self.folding().clone());
        Ok(Journal { connection: self.writer()?, chain, content, intents, open: HashSet::new(), is_shared, folded })
    }
}

impl Journal {
    /// Commits all entries of the batches in one transaction; what only begins goes to the intents' log, if there is one.
    /// Gives how far the chain of closed requests goes now.
    pub fn append(&mut self, batches: &[Vec<LedgerEntry>]) -> Result<Option<Head>, StorageError> {
        let mut group = Group::of(batches);
        // Those that need rows of their own now: how far they came is told in their rows.
        let begun = match &self.intents {
            Some(log) => {
                log.note(&mem::take(&mut group.opened), time::now())?;
                log.among(group.progressed.iter().map(|progress| progress.id))
            }
            None => mem::take(&mut group.opened).into_iter().cloned().collect(),
        };
        if begun.is_empty() && group.is_empty() {
            return Ok(self.chain.head());
        }
        let (mut chain, content, open, is_shared) = (self.chain, &mut self.content, &self.open, self.is_shared);
        let folded = &self.folded;
        transaction::immediate(&mut self.connection, |connection| {
            open_rows(connection, &begun)?;
            for progress in &group.progressed {
                AdvanceRequest::new(progress).execute(connection)?;
            }
            for pin in &group.pinned {
                if FilePin::new(pin).execute(connection)? > 0 && is_shared {
                    QueuePin { pin: &pin.id }.execute(connection)?;
                }
            }
            for underway in &group.underway {
                FileUnderway::new(underway).execute(connection)?;
            }
            for told in &group.told {
                RemoveUnderway { told: told.0.as_bytes() }.execute(connection)?;
            }
            let mut rollups = Rollups::default();
            let mut left = group.settled.len();
            for (intent, settlement) in &group.settled {
                left -= 1;
                let row = FileClosed::new(intent, settlement);
                let (cell, sums) = (row.cell(), row.sums(settlement));
                let apart = attempts_apart(intent, settlement);
                let link = chain.link(connection, content.of(Format::NEWEST, &row, &apart))?;
                let is_open = open.contains(&intent.id);
                let beginning = if is_open { Beginning::Written } else { Beginning::Unknown };
                if close(connection, link.row(row, left), beginning)? {
                    chain.accept(link, intent.id, left);
                    rollups.add(cell, sums);
                    for attempt in apart {
                        attempt.execute(connection)?;
                    }
                    if is_shared {
                        QueueRequest { request: intent.id.0.as_bytes() }.execute(connection)?;
                    }
                }
            }
            chain.seal(connection)?;
            rollups.write(connection, folded)?;
            if !group.settled.is_empty() {
                kill_points::reached(Point::SettlementsWritten);
            }
            Ok::<_, StorageError>(())
        })?;
        kill_points::reached(Point::Committed);
        self.chain = chain;
        self.have_rows(&begun);
        for (intent, _) in &group.settled {
            self.open.remove(&intent.id);
        }
        if let Some(log) = &self.intents {
            log.forget(group.settled.iter().map(|(intent, _)| intent.id));
        }
        Ok(chain.head())
    }

    /// Gives rows to requests that have been open for long, and empties what of the intents' log is done with. True: there
    /// is more to do, after whatever waits.
    pub fn tidy(&mut self, now: Timestamp) -> Result<bool, StorageError> {
        let Some(log) = &self.intents else { return Ok(false) };
        let Due { intents, more } = log.tidy(now)?;
        if !intents.is_empty() {
            transaction::immediate(&mut self.connection, |connection| open_rows(connection, &intents))?;
            kill_points::reached(Point::Committed);
            self.have_rows(&intents);
        }
        Ok(more)
    }

    /// The rows of these requests are committed.
    fn have_rows(&mut self, begun: &[Arc<Intent>]) {
        self.open.extend(begun.iter().map(|intent| intent.id));
        if let Some(log) = &self.intents {
            log.forget(begun.iter().map(|intent| intent.id));
        }
    }

    /// Links what the batches close as `append` does, into a chain that nobody keeps: that part of a write by itself.
    pub fn link(batches: &[Vec<LedgerEntry>]) -> Head {
        let (mut head, mut content) = (Head::begin(Format::NEWEST, 1, 0, Before::default()), Content::default());
        for (intent, settlement) in Group::of(batches).settled {
            let (row, apart) = (FileClosed::new(intent, settlement), attempts_apart(intent, settlement));
            head = head.then(content.of(Format::NEWEST, &row, &apart).bytes());
        }
        head
    }

    /// Moves what it can of the write-ahead log into the database file, without making anyone wait.
    pub fn checkpoint(&mut self) -> Result<Checkpoint, StorageError> {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = diesel::sql_types::BigInt)]
            log: i64,
            #[diesel(sql_type = diesel::sql_types::BigInt)]
            checkpointed: i64,
        }
        let row: Row = diesel::sql_query("PRAGMA wal_checkpoint(PASSIVE)").get_result(&mut self.connection)?;
        kill_points::reached(Point::Checkpoint);
        Ok(Checkpoint { log: row.log, moved: row.checkpointed })
    }

    /// After a failure of the disk: the connection stays open until the process ends, because SQLite flushes the files when
    /// the last one is closed, and a flush after a failed one says that all is well when it is not.
    pub fn abandon(self) {
        std::mem::forget(self);
    }

    /// The orderly end: the log is emptied where nobody else reads it.
    pub fn close(mut self) -> Result<(), StorageError> {
        let chain = &mut self.chain;
        transaction::immediate(&mut self.connection, |connection| chain.note(connection))?;
        kill_points::reached(Point::Checkpoint);
        if let Some(log) = &self.intents {
            log.close();
        }
        self.connection.batch_execute("PRAGMA wal_checkpoint(TRUNCATE)").map_err(StorageError::from)
    }
}

/// Opening rows, in the transaction that is under way; nothing happens where there is a row.
pub(super) fn open_rows(connection: &mut SqliteConnection, begun: &[Arc<Intent>]) -> Result<(), StorageError> {
    for intent in begun {
        OpenRequest::new(intent).execute(connection)?;
    }
    if !begun.is_empty() {
        kill_points::reached(Point::IntentsWritten);
    }
    Ok(())
}

/// Closes the request's row; false where it was closed before. What is likelier is tried first: it is there already, or
/// nothing of it is.
fn close(connection: &mut SqliteConnection, row: FileClosed<'_>, beginning: Beginning) -> Result<bool, StorageError> {
    let open = CloseOpen::from(&row);
    Ok(match beginning {
        Beginning::Written => open.execute(connection)? > 0 || row.execute(connection)? > 0,
        Beginning::Unknown => row.execute(connection)? > 0 || open.execute(connection)? > 0,
    })
}

/// What is known of a request's opening row.
#[derive(Clone, Copy)]
enum Beginning {
    Written,
    /// Its end met it on the way, or another connection wrote it.
    Unknown,
}

/// The attempts before the last one, and the last one if the request's own token columns do not tell its tokens.
fn attempts_apart<'a>(intent: &'a Intent, settlement: &'a Settlement) -> SmallVec<[FileAttempt<'a>; 2]> {
    let Some((last, earlier)) = settlement.attempts.split_last() else { return SmallVec::new() };
    let apart = if last.usage == settlement.usage { None } else { Some(last) };
    (0..).zip(earlier.iter().chain(apart)).map(|(n, attempt)| FileAttempt::new(intent, n, attempt)).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use smallvec::smallvec;

    use super::*;
    use crate::domain::usage::{Charge, Usage};
    use crate::settings::model::Durability;
    use crate::storage::samples::{attempt, dump, intent, progress, settled, settlement};

    fn open(folder: &tempfile::TempDir, name: &str) -> Store {
        Store::open(&folder.path().join(name), Durability::Process).unwrap()
    }

    /// What happens between two groups.
    #[derive(Clone, Copy, Debug)]
    enum Between {
        Nothing,
        Tidying,
        Looking,
        Crash,
    }

    impl Between {
        const ALL: [Self; 4] = [Self::Nothing, Self::Tidying, Self::Looking, Self::Crash];
    }

    /// What happens to the requests, in order: (which, how far).
    fn entries(steps: &[(u8, u8)]) -> Vec<LedgerEntry> {
        let mut seen = [0_u8; 6];
        let mut entries = Vec::new();
        for (which, tokens) in steps {
            let intent = intent(u128::from(*which));
            let stage = &mut seen[usize::from(*which)];
            entries.push(match (*stage, tokens % 3) {
                (0, _) => LedgerEntry::Intent(intent),
                (1, 0 | 1) => progress(&intent, u32::from(*tokens)),
                (1, _) => {
                    *stage = 2;
                    let mut end = settlement(u32::from(*tokens));
                    if *tokens > 128 {
                        let refused = Usage::default();
                        end.attempts.insert(0, attempt("westus", refused, Charge::None));
                    }
                    LedgerEntry::Settled(intent, Box::new(end))
                }
                // A group that is tried again after an error whose outcome was unknown.
                (_, 0) => LedgerEntry::Intent(intent),
                (_, 1) => progress(&intent, 9_999),
                (_, _) => settled(&intent, 9_999),
            });
            *stage = (*stage).max(1);
        }
        entries
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_grouping_gives_the_tables_of_one_by_one(
            steps in prop::collection::vec((0_u8..6, any::<u8>()), 1..60),
            cuts in prop::collection::vec(1_usize..9, 60),
            twice in prop::collection::vec(any::<bool>(), 60),
            between in prop::collection::vec(prop::sample::select(&Between::ALL[..]), 60),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let (single, mut grouped) = (open(&folder, "single.db"), open(&folder, "grouped.db"));
            let entries = entries(&steps);
            let mut journal = single.journal().unwrap();
            for entry in &entries {
                journal.append(&[vec![entry.clone()]]).unwrap();
            }
            let mut journal = grouped.journal().unwrap();
            let mut rest = entries.as_slice();
            let mut now = time::now();
            for ((cut, twice), between) in cuts.into_iter().zip(twice).zip(between) {
                let (group, after) = rest.split_at(cut.min(rest.len()));
                rest = after;
                let (left, right) = group.split_at(group.len() / 2);
                let batches = [left.to_vec(), right.to_vec()];
                journal.append(&batches).unwrap();
                if twice {
                    journal.append(&batches).unwrap();
                }
                now = now.after(Duration::from_secs(1));
                match between {
                    Between::Nothing => {}
                    Between::Tidying => while journal.tidy(now).unwrap() {},
                    Between::Looking => grouped.show_open().unwrap(),
                    Between::Crash => {
                        drop((journal, grouped));
                        grouped = open(&folder, "grouped.db");
                        journal = grouped.journal().unwrap();
                    }
                }
            }
            journal.append(&[rest.to_vec()]).unwrap();
            prop_assert_eq!(dump(&single), dump(&grouped));
            let verdict = grouped.verify().unwrap();
            prop_assert!(verdict.holds(), "{:?}", verdict);
        }
    }

    #[test]
    fn the_last_attempt_is_apart_only_if_its_tokens_are_not_the_requests() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder, "gateway.db");
        let mut journal = store.journal().unwrap();
        let (plain, apart) = (intent(1), intent(2));
        let billed = Usage { input_tokens: 3, ..Usage::default() };
        let mut end = settlement(5);
        // The one that served, and its rival, which ended later.
        end.attempts =
            smallvec![attempt("westus", end.usage, Charge::Exact), attempt("eastus2", billed, Charge::Ambiguous)];
        journal.append(&[vec![settled(&plain, 5), LedgerEntry::Settled(Arc::clone(&apart), Box::new(end))]]).unwrap();
        let view = store.request(plain.id).unwrap().unwrap();
        assert_eq!(view.attempts.iter().map(|one| one.output_tokens).collect::<Vec<_>>(), [5]);
        let view = store.request(apart.id).unwrap().unwrap();
        assert_eq!((view.input_tokens, view.output_tokens), (10, 5));
        let attempts: Vec<_> = view.attempts.iter().map(|one| (one.resource.as_str(), one.input_tokens)).collect();
        assert_eq!(attempts, [("westus", 10), ("eastus2", 3)]);
        assert!(store.verify().unwrap().holds());
    }

    #[test]
    fn a_checkpoint_moves_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder, "gateway.db");
        let mut journal = store.journal().unwrap();
        journal.append(&[vec![settled(&intent(1), 5)]]).unwrap();
        let checkpoint = journal.checkpoint().unwrap();
        assert!(checkpoint.log > 0 && checkpoint.moved == checkpoint.log, "{checkpoint:?}");
    }
}
