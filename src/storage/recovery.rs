//! What a crash left open is closed before anything new is admitted.
//!
//! Nobody knows what Azure charged for such a request, so it is charged what its row knows: the estimated input and
//! the output delivered by its last progress, marked as estimated. It happens in one transaction with the roll-ups.

use diesel::prelude::*;

use super::chain::{Content, Format};
use super::chains::Chain;
use super::content::StoredRequest;
use super::folding;
use super::keys::read_id;
use super::ledger::RequestState;
use super::listing::is_open;
use super::queue::QueueRequest;
use super::rollups::{Rollups, Sums};
use super::rows::{CloseOpen, FileClosed};
use super::schema::requests;
use super::{StorageError, Store, meta};
use crate::domain::ids::{DeploymentName, ModelName, RequestId, ResourceName};
use crate::domain::money::{PriceVersion, Tariff};
use crate::domain::time::WallTime;
use crate::domain::usage::{Charge, Usage};
use crate::tripwire::kill_points::{self, Point};

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
        self.show_open()?;
        self.write_file(|connection| {
            let open: Vec<StoredRequest> =
                requests::table.filter(is_open()).select(StoredRequest::as_select()).load(connection)?;
            let mut left = open.len();
            let (count, mut chain, mut content, mut rollups) =
                (open.len() as u64, Chain::default(), Content::default(), Rollups::default());
            let rows: Vec<_> = open.into_iter().map(|row| closed(row, &tariff)).collect();
            for stored in &rows {
                left -= 1;
                let row = stored.row();
                let link = chain.link(connection, content.of(Format::NEWEST, &row, &[]))?;
                CloseOpen::from(&link.row(row, left)).execute(connection)?;
                chain.accept(link, RequestId(read_id(&stored.id, "requests.id")?), left);
                rollups.add(row.cell(), sums(&row));
                if self.is_shared() {
                    QueueRequest { request: &stored.id }.execute(connection)?;
                }
            }
            chain.seal(connection)?;
            chain.note(connection)?;
            rollups.write(connection, self.folding())?;
            if count > 0 {
                kill_points::reached(Point::Recovering);
            }
            Ok(count)
        })
    }

    /// When the process that serves the file began; open requests of before cannot exist while it runs.
    pub(super) fn note_start(&self, now: WallTime) -> Result<(), StorageError> {
        self.write_file(|connection| {
            folding::begin(connection, now)?;
            meta::set_in_file(connection, meta::STARTED_AT, &now.0.to_string())
        })?;
        self.learn_fold()
    }
}

/// The row as recovery closes it. `ambiguous` only where an attempt is known to have begun.
fn closed(row: StoredRequest, tariff: &impl Fn(&Bound) -> Tariff) -> StoredRequest {
    let tariff = tariff(&Bound {
        model: row.model.as_str().into(),
        resource: row.resource.as_str().into(),
        deployment: row.deployment.as_str().into(),
    });
    let clip = |tokens: i64| u32::try_from(tokens).unwrap_or(u32::MAX);
    let (input_tokens, output_tokens) = (clip(row.input_tokens), clip(row.output_tokens));
    let cost = tariff.cost(Usage { input_tokens, output_tokens, ..Usage::default() });
    let begun = !row.resource.is_empty();
    StoredRequest {
        state: RequestState::Recovered.label().to_owned(),
        estimated: true,
        cost: cost.0.max(0),
        flat_cost: tariff.is_flat(),
        price_version: tariff.version().map(|PriceVersion(version)| version),
        attempts: i32::from(begun),
        reason: begun.then(|| "recovered".to_owned()),
        attempt_us: begun.then_some(0),
        charge: begun.then(|| Charge::Ambiguous.label().to_owned()),
        ..row
    }
}

fn sums(row: &FileClosed<'_>) -> Sums {
    Sums {
        requests: 1,
        input_tokens: row.input_tokens,
        output_tokens: row.output_tokens,
        cost: row.cost,
        estimated: 1,
        flat_cost: i64::from(row.flat_cost),
        ..Sums::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::money::{Cost, Price};
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
            _ => Tariff::PerToken(Price::of(2, 1, 3)),
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
