//! How late the ledger's newest rows are, by the clock that they were booked with.

use diesel::prelude::*;

use super::schema::{requests, usage_hourly};
use super::{StorageError, Store};
use crate::domain::time::WallTime;

/// Ids are in the order of the clock but for what was under way at once.
const NEWEST: i64 = 100;

impl Store {
    /// When the newest request of this gateway's own file began; of those that were removed, the hour is known. None where
    /// there never was one.
    pub fn newest_request(&self) -> Result<Option<WallTime>, StorageError> {
        self.show_open()?;
        let newest: Vec<i64> = requests::table
            .order(requests::id.desc())
            .limit(NEWEST)
            .select(requests::started_at)
            .load(&mut *self.file_reader()?)?;
        let newest = newest.into_iter().max().map(WallTime);
        Ok(newest.max(self.newest_hour()?))
    }

    /// The last hour of this gateway's own file in which a closed request began.
    pub fn newest_hour(&self) -> Result<Option<WallTime>, StorageError> {
        let hours = usage_hourly::table.select(diesel::dsl::max(usage_hourly::hour));
        let newest: Option<i64> = hours.first(&mut *self.file_reader()?)?;
        Ok(newest.map(WallTime))
    }
}

#[cfg(test)]
mod tests {
    use diesel::connection::SimpleConnection;

    use super::*;
    use crate::settings::model::Durability;
    use crate::storage::ledger::LedgerEntry;
    use crate::storage::samples::{intent, settled};

    #[test]
    fn the_newest_is_known_while_it_is_open_and_after_it_was_removed() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("gateway.db"), Durability::Process).unwrap();
        assert_eq!((store.newest_request().unwrap(), store.newest_hour().unwrap()), (None, None));
        let (one, mut other) = (intent(1), (*intent(2)).clone());
        let hour = one.started_at.hour();
        other.started_at = WallTime(one.started_at.0 - 5);
        // The one with the greater id is older.
        let batch = vec![LedgerEntry::Intent(one.clone()), LedgerEntry::Intent(other.into())];
        store.journal().unwrap().append(&[batch]).unwrap();
        assert_eq!((store.newest_request().unwrap(), store.newest_hour().unwrap()), (Some(one.started_at), None));
        store.journal().unwrap().append(&[vec![settled(&one, 1)]]).unwrap();
        assert_eq!(store.newest_hour().unwrap(), Some(hour));
        store.writer().unwrap().batch_execute("DELETE FROM requests").unwrap();
        assert_eq!(store.newest_request().unwrap(), Some(hour));
    }
}
