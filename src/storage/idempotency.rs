//! Requests with an Idempotency-Key: what was asked under it, and the answer for whoever asks again.
//!
//! The answer comes sealed and is not understood here. Rows that have expired go when a new one comes.

use std::time::Duration;

use diesel::prelude::*;

use super::schema::idempotency as t;
use super::{StorageError, Store};
use crate::domain::time::WallTime;

/// How long an answer is kept.
pub const RETENTION: Duration = Duration::from_secs(24 * 3600);

/// What the key of a request meets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begun {
    /// Nobody used it before; it is taken now.
    Fresh,
    /// It was used for something else.
    Mismatch,
    /// The same was asked, and its answer is not known: it is under way, or was cut off.
    Unknown,
    /// The same was asked and answered.
    Answered { status: u16, answer: Vec<u8> },
}

/// Fingerprint, status, answer.
type Row = (Vec<u8>, Option<i32>, Option<Vec<u8>>);

impl Store {
    /// Takes an id for a request, or finds what it was taken for.
    pub fn begin_once(&self, id: [u8; 32], fingerprint: [u8; 32], now: WallTime) -> Result<Begun, StorageError> {
        self.write(|connection| {
            diesel::delete(t::table.filter(t::expires_at.le(now.0))).execute(connection)?;
            let row: Option<Row> = t::table
                .find(id.to_vec())
                .select((t::fingerprint, t::status, t::answer))
                .first(connection)
                .optional()?;
            let Some((known, status, answer)) = row else {
                diesel::insert_into(t::table)
                    .values((
                        t::id.eq(id.to_vec()),
                        t::fingerprint.eq(fingerprint.to_vec()),
                        t::created_at.eq(now.0),
                        t::expires_at.eq(now.after(RETENTION).0),
                    ))
                    .execute(connection)?;
                return Ok(Begun::Fresh);
            };
            Ok(match (status.and_then(|status| u16::try_from(status).ok()), answer) {
                _ if known != fingerprint => Begun::Mismatch,
                (Some(status), Some(answer)) => Begun::Answered { status, answer },
                (Some(_), None) | (None, _) => Begun::Unknown,
            })
        })
    }

    /// Keeps the answer for the next time.
    pub fn answer_once(&self, id: [u8; 32], status: u16, answer: &[u8]) -> Result<(), StorageError> {
        self.write(|connection| {
            diesel::update(t::table.find(id.to_vec()))
                .set((t::status.eq(i32::from(status)), t::answer.eq(answer)))
                .execute(connection)?;
            Ok(())
        })
    }

    /// Nothing was done: the key may be used again.
    pub fn forget_once(&self, id: [u8; 32]) -> Result<(), StorageError> {
        self.write(|connection| Ok(diesel::delete(t::table.find(id.to_vec())).execute(connection).map(drop)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::model::Durability;

    #[test]
    fn an_answer_is_for_the_same_question_until_it_expires() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("gateway.db"), Durability::Process).unwrap();
        let now = WallTime(1_000_000);
        let begin = |fingerprint: u8, at| store.begin_once([1; 32], [fingerprint; 32], at).unwrap();
        assert_eq!(begin(7, now), Begun::Fresh);
        assert_eq!(begin(7, now), Begun::Unknown);
        assert_eq!(begin(8, now), Begun::Mismatch);
        store.answer_once([1; 32], 201, b"sealed").unwrap();
        assert_eq!(begin(7, now), Begun::Answered { status: 201, answer: b"sealed".to_vec() });
        assert_eq!(begin(8, now), Begun::Mismatch);
        let before_its_end = WallTime(now.after(RETENTION).0 - 1);
        assert!(matches!(begin(7, before_its_end), Begun::Answered { .. }));
        assert_eq!(begin(8, now.after(RETENTION)), Begun::Fresh, "a day later the key is as good as new");
        store.forget_once([1; 32]).unwrap();
        assert_eq!(begin(9, now), Begun::Fresh);
    }
}
