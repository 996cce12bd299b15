//! Which gateways are at work on the shared database, by its own clock.

use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Binary};
use uuid::Uuid;

use super::{StorageError, Store, micros};
use crate::domain::time::{WallTime, wall_now};
use crate::domain::witness::Reading;

/// Who has not been heard of for so long is not counted any more.
const SILENCE: Duration = Duration::from_secs(5);

/// A process that serves; another start is another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaId(Uuid);

impl ReplicaId {
    pub fn generate() -> Self {
        Self(Uuid::new_v4())
    }
}

/// What a gateway learns by saying that it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beat {
    /// How many are, itself included.
    pub alive: u32,
    /// The database's clock beside ours.
    pub clock: Reading,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = BigInt)]
    alive: i64,
    #[diesel(sql_type = BigInt)]
    now: i64,
}

impl Store {
    /// Says that this process is at work. None where nothing is shared.
    pub fn beat(&self, id: ReplicaId) -> Result<Option<Beat>, StorageError> {
        if !self.is_shared() {
            return Ok(None);
        }
        let connection = &mut *self.reader()?;
        diesel::sql_query(
            "INSERT INTO replicas (id, seen_at) VALUES ($1, CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)) \
             ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at",
        )
        .bind::<Binary, _>(id.0.as_bytes().as_slice())
        .execute(connection)?;
        let asked = wall_now();
        let Row { alive, now } = diesel::sql_query(
            "SELECT COUNT(*) AS alive, CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT) AS now FROM replicas \
             WHERE seen_at > CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT) - $1",
        )
        .bind::<BigInt, _>(micros(SILENCE))
        .get_result(connection)?;
        let clock = Reading { asked, says: WallTime(now), answered: wall_now() };
        Ok(Some(Beat { alive: u32::try_from(alive).unwrap_or(u32::MAX).max(1), clock }))
    }

    /// The orderly end; those that went without a word long ago are forgotten too.
    pub fn leave(&self, id: ReplicaId) -> Result<(), StorageError> {
        diesel::sql_query(
            "DELETE FROM replicas WHERE id = $1 \
             OR seen_at < CAST(EXTRACT(EPOCH FROM clock_timestamp() - INTERVAL '1 day') * 1000000 AS BIGINT)",
        )
        .bind::<Binary, _>(id.0.as_bytes().as_slice())
        .execute(&mut *self.reader()?)?;
        Ok(())
    }
}
