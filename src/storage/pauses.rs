//! Pauses that deployments have asked for, told among the gateways of one database, by its own clock. Which pauses are
//! worth telling, and what follows from one, is not decided here.

use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};

use super::connection::StoreConnection;
use super::{StorageError, Store, micros};

/// What is left of a deployment's pause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    pub endpoint: String,
    pub deployment: String,
    pub left: Duration,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Text)]
    endpoint: String,
    #[diesel(sql_type = Text)]
    deployment: String,
    #[diesel(sql_type = BigInt)]
    remaining: i64,
}

impl Store {
    /// Tells the others; of two pauses the later end counts. Nothing where nothing is shared.
    pub fn tell_pauses(&self, pauses: &[Pause]) -> Result<(), StorageError> {
        let mut connection = self.reader()?;
        let StoreConnection::Postgres(server) = &mut *connection else { return Ok(()) };
        for Pause { endpoint, deployment, left } in pauses {
            diesel::sql_query(
                "INSERT INTO pauses (endpoint, deployment, ends_at) \
                 VALUES ($1, $2, CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT) + $3) \
                 ON CONFLICT (endpoint, deployment) DO UPDATE SET ends_at = GREATEST(pauses.ends_at, excluded.ends_at)",
            )
            .bind::<Text, _>(endpoint)
            .bind::<Text, _>(deployment)
            .bind::<BigInt, _>(micros(*left))
            .execute(server)?;
        }
        Ok(())
    }

    /// Those that have not ended, whoever told them.
    pub fn pauses(&self) -> Result<Vec<Pause>, StorageError> {
        let mut connection = self.reader()?;
        let StoreConnection::Postgres(server) = &mut *connection else { return Ok(Vec::new()) };
        let rows: Vec<Row> = diesel::sql_query(
            "SELECT endpoint, deployment, ends_at - now_at AS remaining FROM pauses, \
             (SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT) AS now_at) AS clock \
             WHERE ends_at > now_at",
        )
        .load(server)?;
        let pause = |Row { endpoint, deployment, remaining }| {
            let left = Duration::from_micros(u64::try_from(remaining).unwrap_or_default());
            Pause { endpoint, deployment, left }
        };
        Ok(rows.into_iter().map(pause).collect())
    }
}
