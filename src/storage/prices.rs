//! The prices behind the versions that rows of the ledger name. A version is a hash of its prices, so a row of it never
//! changes and is the same in every database.

use std::collections::BTreeMap;

use diesel::prelude::*;

use super::connection::StoreConnection;
use super::schema::prices;
use super::{StorageError, Store};
use crate::domain::money::{Price, PriceVersion};
use crate::domain::time::wall_now;

impl Store {
    /// Files those that are not known yet.
    pub fn file_prices(&self, list: &[Price]) -> Result<(), StorageError> {
        if unknown(&mut *self.reader()?, list)?.is_empty() {
            return Ok(());
        }
        self.write(|connection| {
            // Looked at again: another process may have been faster.
            for (version, price) in unknown(connection, list)? {
                let Price { input, cached_input, output, reasoning, audio_input, audio_output } = price;
                diesel::insert_into(prices::table)
                    .values((
                        prices::version.eq(version),
                        prices::input.eq(input),
                        prices::cached_input.eq(cached_input),
                        prices::output.eq(output),
                        prices::reasoning.eq(reasoning),
                        prices::audio_input.eq(audio_input),
                        prices::audio_output.eq(audio_output),
                        prices::first_seen.eq(wall_now().0),
                    ))
                    .execute(connection)?;
            }
            Ok(())
        })
    }

    pub fn prices(&self, version: PriceVersion) -> Result<Option<Price>, StorageError> {
        type Columns = (i64, i64, i64, Option<i64>, Option<i64>, Option<i64>);
        let row: Option<Columns> = prices::table
            .find(version.0)
            .select((
                prices::input,
                prices::cached_input,
                prices::output,
                prices::reasoning,
                prices::audio_input,
                prices::audio_output,
            ))
            .first(&mut *self.reader()?)
            .optional()?;
        Ok(row.map(|(input, cached_input, output, reasoning, audio_input, audio_output)| Price {
            input,
            cached_input,
            output,
            reasoning,
            audio_input,
            audio_output,
        }))
    }
}

/// By version: several models may have the same prices.
fn unknown(connection: &mut StoreConnection, list: &[Price]) -> Result<BTreeMap<i64, Price>, StorageError> {
    let known: Vec<i64> = prices::table.select(prices::version).load(connection)?;
    let all = list.iter().map(|price| (price.version().0, *price));
    Ok(all.filter(|(version, _)| !known.contains(version)).collect())
}
