//! The intents of requests that have just begun, in a small log beside the database.
//!
//! Most requests end within seconds of their beginning, and a row for the beginning alone costs as much as the one that
//! tells the end. So an intent is first a line of a log. Whoever dies leaves the log behind, and the next start makes rows
//! of it before anything else is asked; a request that stays open for some seconds gets its row while it runs
//! ([`Journal::tidy`](super::Journal::tidy)), and whoever wants to see what is open has the rows made at once.
//!
//! Two files take turns: one takes the new lines, while the requests of the other end or get their rows, and then it is
//! emptied. So the log is as long as the traffic of a few seconds, and has no line whose row may have been removed since.
//!
//! Only with `accounting.durability = "process"`: a line is written and not flushed, which survives the end of the process
//! and not that of the machine.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use diesel::prelude::*;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::journal::open_rows;
use super::ledger::Intent;
use super::rows::OpenRequest;
use super::{StorageError, Store, place};
use crate::domain::ids::RequestId;
use crate::domain::time::Timestamp;
use crate::tripwire::kill_points::{self, Point};

/// How long a file takes new lines, and how long its requests have after that to end before they get rows.
const TURN: Duration = Duration::from_secs(2);
/// Rows that are made at once: some milliseconds in which no other group is written.
const AT_ONCE: usize = 256;
/// What a line is long, about.
const LINE: usize = 320;

/// Which requests are in the log and have no row, and the files.
#[derive(Debug)]
pub(super) struct IntentLog {
    turns: Mutex<[Turn; 2]>,
}

/// What has been in the log for long.
#[derive(Debug)]
pub(super) struct Due {
    pub(super) intents: Vec<Arc<Intent>>,
    /// There are more of them.
    pub(super) more: bool,
}

/// One file. The first of the two takes the new lines, the requests of the second one end.
#[derive(Debug)]
struct Turn {
    path: PathBuf,
    file: File,
    /// In bytes.
    length: u64,
    /// When it got its first line; of the second, when it became the second.
    since: Timestamp,
    waiting: HashMap<RequestId, Arc<Intent>>,
}

impl Store {
    /// Whether [`Journal::tidy`](super::Journal::tidy) would find nothing.
    pub fn is_tidy(&self) -> bool {
        self.intents().is_none_or(|log| log.is_empty())
    }

    /// Gives rows to all requests that are open, for whoever is about to look at them.
    pub(super) fn show_open(&self) -> Result<(), StorageError> {
        let Some(log) = self.intents() else { return Ok(()) };
        let begun = log.all();
        if !begun.is_empty() {
            self.write_file(|connection| open_rows(connection, &begun))?;
            log.forget(begun.iter().map(|intent| intent.id));
        }
        Ok(())
    }

    /// The same for lists, which are given without them where nothing can be written.
    pub(super) fn show_open_if_possible(&self) {
        if let Err(error) = self.show_open() {
            tracing::warn!(%error, "requests that have just begun are missing from a list");
        }
    }
}

impl IntentLog {
    /// The log of a database. Its files are opened at once, because later there may be too many open ones.
    pub(super) fn beside(database: &Path) -> Result<Self, StorageError> {
        let [first, second] = paths(database);
        Ok(Self { turns: Mutex::new([Turn::of(first)?, Turn::of(second)?]) })
    }

    /// Writes the lines of requests that begin; they are safe when it returns.
    pub(super) fn note(&self, intents: &[&Arc<Intent>], now: Timestamp) -> Result<(), StorageError> {
        if intents.is_empty() {
            return Ok(());
        }
        let [taking, _] = &mut *self.turns();
        if taking.length == 0 {
            taking.since = now;
        }
        taking.append(intents).map_err(|error| taking.failed(&error))?;
        taking.waiting.extend(intents.iter().map(|intent| (intent.id, Arc::clone(intent))));
        kill_points::reached(Point::IntentsNoted);
        Ok(())
    }

    /// Those of the requests that have no row.
    pub(super) fn among(&self, ids: impl Iterator<Item = RequestId>) -> Vec<Arc<Intent>> {
        let turns = self.turns();
        ids.filter_map(|id| turns.iter().find_map(|turn| turn.waiting.get(&id)).cloned()).collect()
    }

    /// All requests that have no row.
    pub(super) fn all(&self) -> Vec<Arc<Intent>> {
        self.turns().iter().flat_map(|turn| turn.waiting.values()).cloned().collect()
    }

    /// These have rows now; those that were no lines do not matter.
    pub(super) fn forget(&self, ids: impl Iterator<Item = RequestId>) {
        let [taking, ending] = &mut *self.turns();
        for id in ids {
            if taking.waiting.remove(&id).is_none() {
                ending.waiting.remove(&id);
            }
        }
    }

    /// Whether no line is in the files.
    pub(super) fn is_empty(&self) -> bool {
        self.turns().iter().all(|turn| turn.length == 0)
    }

    /// Empties what is done with, lets the files change places when it is time, and gives the requests that are to get rows
    /// now: no more than fit in one short transaction.
    pub(super) fn tidy(&self, now: Timestamp) -> Result<Due, StorageError> {
        let turns = &mut *self.turns();
        for turn in turns.iter_mut() {
            turn.empty_if_done()?;
        }
        let [taking, ending] = turns;
        if ending.length == 0 && taking.length > 0 && now.since(taking.since) >= TURN {
            mem::swap(taking, ending);
            ending.since = now;
        }
        if ending.length == 0 || now.since(ending.since) < TURN {
            return Ok(Due { intents: Vec::new(), more: false });
        }
        let intents = ending.waiting.values().take(AT_ONCE).cloned().collect();
        Ok(Due { intents, more: ending.waiting.len() > AT_ONCE })
    }

    /// The orderly end: a log that is done with leaves no files.
    pub(super) fn close(&self) {
        for turn in &mut *self.turns() {
            if turn.waiting.is_empty() {
                // One that stays says nothing that the database does not know.
                let _ = fs::remove_file(&turn.path);
            }
        }
    }

    fn turns(&self) -> MutexGuard<'_, [Turn; 2]> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    fn of(path: PathBuf) -> Result<Self, StorageError> {
        let file = File::options().create(true).append(true).open(&path).map_err(|error| {
            StorageError::open(&path, error, "Make it and its folder writable for the gateway's user")
        })?;
        Ok(Self { path, file, length: 0, since: Timestamp::ZERO, waiting: HashMap::new() })
    }

    fn append(&mut self, intents: &[&Arc<Intent>]) -> io::Result<()> {
        let mut lines = Vec::with_capacity(intents.len() * LINE);
        for intent in intents {
            // It also ends one that was cut short.
            lines.push(b'\n');
            serde_json::to_writer(&mut lines, &Line::of(intent))?;
        }
        // Where only some are written they stay, and are written again: the same line twice says no more than once.
        self.file.write_all(&lines)?;
        self.length += lines.len() as u64;
        Ok(())
    }

    fn empty_if_done(&mut self) -> Result<(), StorageError> {
        if self.length > 0 && self.waiting.is_empty() {
            self.file.set_len(0).map_err(|error| self.failed(&error))?;
            self.length = 0;
        }
        Ok(())
    }

    fn failed(&self, error: &io::Error) -> StorageError {
        StorageError::IntentLog { path: self.path.clone(), cause: error.to_string(), kind: error.kind() }
    }
}

/// Makes rows of what a process that died has left, and removes its files. Gives how many requests had no row.
pub(super) fn adopt(database: &Path, connection: &mut SqliteConnection) -> Result<usize, StorageError> {
    let mut left = Vec::new();
    for path in paths(database) {
        match fs::read(&path) {
            Ok(text) => left.push((path, text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let next_step = "Make it readable for the gateway's user: it tells what was under way at the last end";
                return Err(StorageError::open(&path, error, next_step));
            }
        }
    }
    let is_nothing = left.iter().all(|(_, text)| text.is_empty());
    let rows = if is_nothing { 0 } else { rows_of(&left, connection)? };
    for (path, _) in left {
        fs::remove_file(&path)
            .map_err(|error| StorageError::open(&path, error, "Make its folder writable for the gateway's user"))?;
    }
    Ok(rows)
}

fn rows_of(left: &[(PathBuf, Vec<u8>)], connection: &mut SqliteConnection) -> Result<usize, StorageError> {
    connection.immediate_transaction(|connection| {
        let mut rows = 0;
        for (path, text) in left {
            for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                match serde_json::from_slice::<Line<'_>>(line) {
                    Ok(line) => rows += line.row().execute(connection)?,
                    // The process died while it wrote it, and had told nobody that it is safe.
                    Err(error) => {
                        tracing::warn!(path = %path.display(), %error, "a line that was cut short is passed over");
                    }
                }
            }
        }
        Ok(rows)
    })
}

fn paths(database: &Path) -> [PathBuf; 2] {
    [".intents-1", ".intents-2"].map(|ending| place::beside(database, ending))
}

/// What a file has of a request: the values of its opening row.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Line<'a> {
    id: Uuid,
    /// Null where it is the id.
    #[serde(borrow)]
    request_id: Option<Cow<'a, str>>,
    key: Uuid,
    user: Option<Uuid>,
    #[serde(borrow)]
    endpoint: Cow<'a, str>,
    #[serde(borrow)]
    model: Cow<'a, str>,
    stream: bool,
    started_at: i64,
    input_tokens: i64,
}

impl<'a> Line<'a> {
    fn of(intent: &'a Intent) -> Self {
        let row = OpenRequest::new(intent);
        Self {
            id: intent.id.0,
            request_id: row.request_id.map(Cow::Borrowed),
            key: intent.key_id.0,
            user: intent.user_id.map(|user| user.0),
            endpoint: Cow::Borrowed(row.endpoint),
            model: Cow::Borrowed(row.model),
            stream: row.stream,
            started_at: row.started_at,
            input_tokens: row.input_tokens,
        }
    }

    fn row(&self) -> OpenRequest<'_> {
        OpenRequest {
            id: self.id.as_bytes(),
            request_id: self.request_id.as_deref(),
            key_id: self.key.as_bytes(),
            user_id: self.user.as_ref().map(|user| user.as_bytes().as_slice()),
            endpoint: &self.endpoint,
            model: &self.model,
            stream: self.stream,
            started_at: self.started_at,
            input_tokens: self.input_tokens,
        }
    }
}

#[cfg(test)]
mod tests;
