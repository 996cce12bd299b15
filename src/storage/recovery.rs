//! What a crash left open is closed before anything new is admitted.
//!
//! Nobody knows what Azure charged for such a request, so it is charged what its row knows: the estimated input and
//! the output delivered by its last progress, marked as estimated. It happens in one transaction with the roll-ups.

use diesel::prelude::*;

use super::ledger::RequestState;
use super::queue::QueueRequest;
use super::rollups::{Cell, Rollups, Sums};
use super::schema::requests;
use super::{StorageError, Store, meta};
use crate::domain::ids::{DeploymentName, ModelName, ResourceName};
use crate::domain::money::{Cost, Tariff};
use crate::domain::time::WallTime;
use crate::domain::usage::Usage;

#[derive(Queryable)]
struct Open {
    id: Vec<u8>,
    key_id: Vec<u8>,
    user_id: Option<Vec<u8>>,
    model: String,
    resource: String,
    deployment: String,
    started_at: i64,
    input_tokens: i64,
    output_tokens: i64,
}

/// What is known of where a request was going.
#[derive(Clone, Debug, PartialEq)]
pub struct Bound {
    pub model: ModelName,
    /// Empty, as `deployment` is, where no attempt is known.
    pub resource: ResourceName,
    pub deployment: DeploymentName,
}

impl Store {
    /// Closes every open request and says how many there were. Only for the process that serves the file.
    pub fn recover(&self, tariff: impl Fn(&Bound) -> Tariff) -> Result<u64, StorageError> {
        use requests as t;
        self.write_file(|connection| {
            let open: Vec<Open> = t::table
                .filter(t::state.eq(RequestState::Open.label()))
                .select((
                    t::id,
                    t::key_id,
                    t::user_id,
                    t::model,
                    t::resource,
                    t::deployment,
                    t::started_at,
                    t::input_tokens,
                    t::output_tokens,
                ))
                .load(connection)?;
            let mut rollups = Rollups::default();
            for row in &open {
                let tariff = tariff(&row.bound());
                let Cost(cost) = tariff.cost(row.usage());
                let cost = cost.max(0);
                // `ambiguous` only where an attempt is known to have begun.
                let (charge, attempts) = if row.resource.is_empty() { (None, 0) } else { (Some("ambiguous"), 1) };
                diesel::update(t::table.find(&row.id))
                    .set((
                        t::state.eq(RequestState::Recovered.label()),
                        t::estimated.eq(true),
                        t::cost.eq(cost),
                        t::flat_cost.eq(tariff.is_flat()),
                        t::attempts.eq(attempts),
                        t::reason.eq(charge.map(|_| "recovered")),
                        t::attempt_us.eq(charge.map(|_| 0_i64)),
                        t::charge.eq(charge),
                    ))
                    .execute(connection)?;
                rollups.add(row.cell(), row.sums(cost, tariff));
                if self.is_shared() {
                    QueueRequest { request: &row.id }.execute(connection)?;
                }
            }
            rollups.write(connection)?;
            Ok(open.len() as u64)
        })
    }

    /// When the process that serves the file began; open requests of before cannot exist while it runs.
    pub(super) fn note_start(&self, now: WallTime) -> Result<(), StorageError> {
        self.write_file(|connection| meta::set_in_file(connection, meta::STARTED_AT, &now.0.to_string()))
    }
}

impl Open {
    fn bound(&self) -> Bound {
        Bound {
            model: self.model.as_str().into(),
            resource: self.resource.as_str().into(),
            deployment: self.deployment.as_str().into(),
        }
    }

    fn usage(&self) -> Usage {
        let clip = |tokens: i64| u32::try_from(tokens).unwrap_or(u32::MAX);
        Usage { input_tokens: clip(self.input_tokens), output_tokens: clip(self.output_tokens), ..Usage::default() }
    }

    fn cell(&self) -> Cell<'_> {
        Cell::new(self.started_at, &self.key_id, self.user_id.as_deref(), &self.model, &self.resource)
    }

    fn sums(&self, cost: i64, tariff: Tariff) -> Sums {
        Sums {
            requests: 1,
            input_tokens: self.input_tokens,
            output_tokens: self.output_tokens,
            cost,
            estimated: 1,
            flat_cost: i64::from(tariff.is_flat()),
            ..Sums::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::money::Price;
    use crate::settings::model::Durability;
    use crate::storage::ledger::{LedgerEntry, Progress};
    use crate::storage::samples::{dump, intent, progress, settled};

    #[test]
    fn open_requests_are_closed_with_what_is_known_of_them_once() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("gateway.db"), Durability::Process).unwrap();
        let (begun, streaming, done, flat) = (intent(1), intent(2), intent(3), intent(4));
        let batch = vec![
            LedgerEntry::Intent(begun.clone()),
            LedgerEntry::Intent(streaming.clone()),
            progress(&streaming, 7),
            LedgerEntry::Intent(flat.clone()),
            LedgerEntry::Progress(Progress {
                id: flat.id,
                resource: "eastus2".into(),
                deployment: "provisioned".into(),
                output_tokens: 7,
            }),
            settled(&done, 5),
        ];
        store.journal().unwrap().append(&[batch]).unwrap();
        let tariff = |bound: &Bound| match bound.deployment.as_str() {
            "provisioned" => Tariff::Flat,
            _ => Tariff::PerToken(Price { input: 2, cached_input: 1, output: 3 }),
        };
        assert_eq!(store.recover(tariff).unwrap(), 3);

        let view = store.request(begun.id).unwrap().unwrap();
        assert_eq!(
            (view.state.as_str(), view.estimated, view.input_tokens, view.output_tokens),
            ("recovered", true, 10, 0)
        );
        assert!(view.attempts.is_empty());
        let view = store.request(streaming.id).unwrap().unwrap();
        assert_eq!((view.state.as_str(), view.input_tokens, view.output_tokens), ("recovered", 10, 7));
        assert_eq!(view.cost_usd, Cost(10 * 2 + 7 * 3).dollars());
        assert_eq!((view.attempts[0].charged.as_deref(), view.flat_cost), (Some("ambiguous"), false));
        let view = store.request(flat.id).unwrap().unwrap();
        assert_eq!(
            (view.state.as_str(), view.output_tokens, view.cost_usd, view.flat_cost),
            ("recovered", 7, 0.0, true)
        );

        let verdict = store.verify().unwrap();
        assert!(verdict.holds() && verdict.open == 0, "{verdict:?}");
        let before = dump(&store);
        assert_eq!(store.recover(tariff).unwrap(), 0);
        // A settlement that comes after all (it cannot: its process is gone) would change nothing.
        store.journal().unwrap().append(&[vec![settled(&begun, 99)]]).unwrap();
        assert_eq!(dump(&store), before);
    }
}
