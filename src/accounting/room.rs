//! What happens when the disk is full: the ballast is given up, what is in flight is settled into its room, and nothing
//! new is admitted until the ballast can be laid again.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use super::permits::Permits;
use crate::domain::time::Timestamp;
use crate::storage::{Ballast, StorageError};

/// When there was room for everything but the ballast.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) struct Room {
    ballast: Ballast,
    laid: bool,
    busy: bool,
    not_before: Timestamp,
}

type Laying = Pin<Box<dyn Future<Output = io::Result<()>>>>;

impl Room {
    pub(super) fn new(ballast: Ballast) -> Self {
        Self { ballast, laid: false, busy: false, not_before: Timestamp::ZERO }
    }

    /// The database found no room.
    pub(super) fn ran_out(&mut self, permits: &Permits, error: &StorageError) {
        self.laid = false;
        self.not_before = Timestamp::ZERO;
        let (gave_up, is_news) = (self.ballast.give_up(), permits.disk_is_full());
        if gave_up || is_news {
            tracing::error!(
                %error,
                ballast = gave_up,
                "the disk is full: nothing new is admitted until there is room; free some, the gateway goes on by itself"
            );
        }
    }

    /// The work to be done now, if any; its result goes to `laid`.
    pub(super) fn due(&mut self, permits: &Permits, now: Timestamp) -> Option<Laying> {
        // While it is full, what waits for the database comes first.
        let waits = permits.is_disk_full() && permits.is_refused();
        if self.laid || self.busy || waits || now < self.not_before {
            return None;
        }
        self.busy = true;
        self.not_before = if permits.is_disk_full() { now } else { now.after(PATIENCE) };
        let ballast = self.ballast.clone();
        Some(Box::pin(async move {
            let laying = tokio::task::spawn_blocking(move || ballast.lay());
            laying.await.unwrap_or_else(|error| Err(io::Error::other(error)))
        }))
    }

    pub(super) fn laid(&mut self, permits: &Permits, laid: io::Result<()>) {
        self.busy = false;
        match laid {
            Ok(()) => {
                self.laid = true;
                if permits.is_disk_full() {
                    permits.disk_has_room();
                    tracing::info!("the disk has room again, requests are admitted");
                }
            }
            // Told when it began.
            Err(_) if permits.is_disk_full() => {}
            Err(error) => tracing::warn!(
                %error,
                "no room could be set aside for a full disk: requests in flight may then wait until there is room"
            ),
        }
    }
}
