//! Links closed requests into the chain as they are written: which chain, which place, when its head is noted.
//!
//! A chain is begun with the first row that a connection closes, so a group whose commit failed in a way that nobody
//! knows the end of does no harm: the next try is on a new connection, and its chain follows the old one.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Binary};

use super::StorageError;
use super::chain::{Before, Content, Digest, Format, Head, Position};
use super::rows::{FileClosed, SealRow};
use super::schema::{chains, requests};
use super::statement::statement;
use crate::domain::ids::RequestId;
use crate::domain::time::wall_now;

/// What was noted of a chain lags behind by fewer rows than this.
const NOTED_EVERY: i64 = 64;
/// A chain's end, when it was not noted, is among so many rows.
const NEWEST: i64 = 4_096;

/// The chain that one connection writes; a copy is the state to return to when its transaction fails.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Chain {
    /// None: not begun.
    head: Option<Head>,
    noted: i64,
    /// The last row that was closed, while its hash is not with it.
    unsealed: Option<RequestId>,
}

/// A row's place, if it is closed by what is about to be written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link(Head);

impl Link {
    /// The row with its place; the last one of the transaction with the chain's hash, too.
    pub(super) fn row<'a>(&'a self, row: FileClosed<'a>, rows_after: usize) -> FileClosed<'a> {
        let chain = (rows_after == 0).then_some(self.0.hash.as_slice());
        FileClosed { chained: Some(self.0.position().packed()), chain, ..row }
    }
}

impl Chain {
    /// How far it goes; None: nothing was closed yet.
    pub(super) fn head(&self) -> Option<Head> {
        self.head.filter(|head| head.row() > 0)
    }

    pub(super) fn link(&mut self, connection: &mut SqliteConnection, content: &Content) -> Result<Link, StorageError> {
        let head = match self.head {
            Some(head) => head,
            None => *self.head.insert(begin(connection)?),
        };
        Ok(Link(head.then(content.bytes())))
    }

    /// The row was closed, and so many others of the transaction may be closed after it.
    pub(super) fn accept(&mut self, Link(head): Link, id: RequestId, rows_after: usize) {
        self.head = Some(head);
        self.unsealed = (rows_after > 0).then_some(id);
    }

    /// At the end of a transaction.
    pub(super) fn seal(&mut self, connection: &mut SqliteConnection) -> Result<(), StorageError> {
        let Some(head) = self.head() else { return Ok(()) };
        if let Some(id) = self.unsealed.take() {
            SealRow { chain: &head.hash, id: id.0.as_bytes() }.execute(connection)?;
        }
        if head.row - self.noted >= NOTED_EVERY { self.note(connection) } else { Ok(()) }
    }

    /// Notes how far it goes.
    pub(super) fn note(&mut self, connection: &mut SqliteConnection) -> Result<(), StorageError> {
        let Some(head) = self.head().filter(|head| head.row > self.noted) else { return Ok(()) };
        note(connection, &head)?;
        self.noted = head.row;
        Ok(())
    }
}

statement! {
    struct NoteHead<'a> {
        "UPDATE chains SET head_row = " row: i64 => BigInt,
        ", head = " hash: &'a [u8] => Binary,
        ", noted = " noted: i64 => BigInt,
        " WHERE number = " chain: i64 => BigInt,
    }
    ""
}

fn note(connection: &mut SqliteConnection, head: &Head) -> Result<(), StorageError> {
    let Head { chain, row, hash, .. } = head;
    NoteHead { row: *row, hash: hash.as_slice(), noted: wall_now().0, chain: *chain }.execute(connection)?;
    Ok(())
}

fn begin(connection: &mut SqliteConnection) -> Result<Head, StorageError> {
    let last: Option<(i64, i64, Vec<u8>)> = chains::table
        .order(chains::number.desc())
        .select((chains::number, chains::head_row, chains::head))
        .first(connection)
        .optional()?;
    let (number, before) = match last {
        Some((number, row, hash)) => (number + 1, end_of(connection, number, Before { row, hash: digest(&hash)? })?),
        None => (1, Before::default()),
    };
    let began = wall_now().0;
    let head = Head::begin(Format::NEWEST, number, began, before);
    diesel::insert_into(chains::table)
        .values((
            chains::number.eq(number),
            chains::began.eq(began),
            (chains::after_row.eq(before.row), chains::after.eq(before.hash.as_slice())),
            (chains::head_row.eq(0), chains::head.eq(head.hash.as_slice()), chains::noted.eq(began)),
            (chains::base_row.eq(0), chains::base.eq(head.hash.as_slice())),
            chains::format.eq(Format::NEWEST.number()),
        ))
        .execute(connection)?;
    Ok(head)
}

/// Where the chain before really ended: its process may have died before that was noted.
fn end_of(connection: &mut SqliteConnection, chain: i64, noted: Before) -> Result<Before, StorageError> {
    let newest: Vec<(Option<i64>, Option<Vec<u8>>)> = requests::table
        .order(requests::id.desc())
        .limit(NEWEST)
        .select((requests::chained, requests::chain))
        .load(connection)?;
    let sealed = newest.into_iter().filter_map(|(chained, hash)| Some((Position::unpack(chained?), hash?)));
    let last = sealed.filter(|(at, _)| at.chain == chain && at.row > noted.row).max_by_key(|(at, _)| at.row);
    let Some((Position { row, .. }, hash)) = last else { return Ok(noted) };
    let end = Before { row, hash: digest(&hash)? };
    note(connection, &Head { chain, row, hash: end.hash })?;
    Ok(end)
}

pub(super) fn digest(bytes: &[u8]) -> Result<Digest, StorageError> {
    bytes.try_into().map_err(|_| StorageError::Unreadable {
        place: "chains",
        cause: format!("a hash of {} bytes where 32 are written", bytes.len()),
    })
}
