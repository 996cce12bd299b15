//! A copy of the file as it is at one moment, while a gateway goes on writing to it.

use std::path::Path;

use diesel::prelude::*;
use diesel::sql_types::Text;

use super::{StorageError, Store};

impl Store {
    /// Writes a new file, on disk when it returns; no writer waits for it.
    pub fn backup(&self, to: &Path) -> Result<(), StorageError> {
        if !self.path().exists() {
            return Err(StorageError::Missing { path: self.path().to_owned() });
        }
        let refused = |cause: &dyn std::fmt::Display| {
            StorageError::open(to, cause, "Name a file that is not there yet, in a folder that may be written to")
        };
        if to.exists() {
            return Err(refused(&"it exists"));
        }
        diesel::sql_query("VACUUM INTO ?")
            .bind::<Text, _>(to.to_string_lossy())
            .execute(&mut self.writer()?)
            .map_err(|error| refused(&error))?;
        std::fs::File::open(to).and_then(|file| file.sync_all()).map_err(|error| refused(&error))
    }
}
