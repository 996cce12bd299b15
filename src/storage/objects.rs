//! A key's own objects, page by page: what lists are made of. What the objects are is asked where they are kept.

use diesel::prelude::*;

use super::connection::StoreConnection;
use super::pins::{self, Pin, Row};
use super::schema::pins as table;
use super::{StorageError, Store};
use crate::domain::ids::KeyId;
use crate::domain::time::WallTime;

/// Which of them, and in which order.
#[derive(Clone, Debug)]
pub struct Shelf {
    pub key_id: KeyId,
    /// `Kind::label`
    pub kind: &'static str,
    pub purpose: Option<String>,
    pub order: Order,
    /// Those behind this one, in that order.
    pub after: Option<String>,
    /// Those before this one, in that order: the nearest.
    pub before: Option<String>,
    pub limit: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    NewestFirst,
    OldestFirst,
}

/// A page of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    pub pins: Vec<Pin>,
    pub has_more: bool,
}

impl Store {
    /// One page; empty where `after` or `before` is no object of theirs. What this gateway has filed and not yet brought to
    /// a shared database is in it.
    pub fn objects(&self, shelf: &Shelf, now: WallTime) -> Result<Page, StorageError> {
        let mut places = vec![self.file_reader()?];
        if self.is_shared() {
            places.push(self.reader()?);
        }
        let mut bounds = Bounds::default();
        for (id, bound) in [(&shelf.after, &mut bounds.after), (&shelf.before, &mut bounds.before)] {
            let Some(id) = id else { continue };
            for place in &mut places {
                *bound = bound.take().or(created_at(place, shelf, id)?.map(|at| (at, id.clone())));
            }
            if bound.is_none() {
                return Ok(Page { pins: Vec::new(), has_more: false });
            }
        }
        let mut rows: Vec<Row> = Vec::new();
        for place in &mut places {
            rows.extend(page(place, shelf, &bounds, now)?);
        }
        let mut pins = rows.into_iter().map(pins::pin).collect::<Result<Vec<_>, _>>()?;
        pins.sort_by(|one, other| (one.created_at, &one.id).cmp(&(other.created_at, &other.id)));
        pins.dedup_by(|one, other| one.id == other.id);
        if shelf.is_read_downwards() {
            pins.reverse();
        }
        let has_more = pins.len() > shelf.limit as usize;
        pins.truncate(shelf.limit as usize);
        // With `before`, the page is read from there backwards, and turned round.
        if shelf.before.is_some() {
            pins.reverse();
        }
        Ok(Page { pins, has_more })
    }
}

impl Shelf {
    fn is_read_downwards(&self) -> bool {
        (self.order == Order::NewestFirst) != self.before.is_some()
    }
}

/// When the objects came that a page stands between, and their ids.
#[derive(Default)]
struct Bounds {
    after: Option<(i64, String)>,
    before: Option<(i64, String)>,
}

fn created_at(connection: &mut StoreConnection, shelf: &Shelf, id: &str) -> Result<Option<i64>, StorageError> {
    let own = table::table.find(id).filter(table::key_id.eq(shelf.key_id.0.as_bytes().to_vec()));
    Ok(own.filter(table::kind.eq(shelf.kind)).select(table::created_at).first(connection).optional()?)
}

/// One more than the page has, so that it is known whether more follow.
fn page(
    connection: &mut StoreConnection,
    shelf: &Shelf,
    bounds: &Bounds,
    now: WallTime,
) -> Result<Vec<Row>, StorageError> {
    let mut query = table::table
        .filter(table::key_id.eq(shelf.key_id.0.as_bytes().to_vec()))
        .filter(table::kind.eq(shelf.kind))
        .filter(table::expires_at.gt(now.0))
        .into_boxed();
    if let Some(purpose) = &shelf.purpose {
        query = query.filter(table::purpose.eq(purpose));
    }
    let newest_first = shelf.order == Order::NewestFirst;
    for (bound, earlier) in [(&bounds.after, newest_first), (&bounds.before, !newest_first)] {
        let Some((at, id)) = bound else { continue };
        let same = table::created_at.eq(*at);
        query = match earlier {
            true => query.filter(table::created_at.lt(*at).or(same.and(table::id.lt(id)))),
            false => query.filter(table::created_at.gt(*at).or(same.and(table::id.gt(id)))),
        };
    }
    let query = match shelf.is_read_downwards() {
        true => query.order((table::created_at.desc(), table::id.desc())),
        false => query.order((table::created_at.asc(), table::id.asc())),
    };
    Ok(query.limit(i64::from(shelf.limit) + 1).load(connection)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::model::Durability;
    use crate::storage::ledger::LedgerEntry;
    use crate::storage::pins::FOR_EVER;
    use crate::storage::samples::intent;

    const NOW: WallTime = WallTime(4_000_000_000_000_000);

    fn store(folder: &tempfile::TempDir) -> Store {
        let store = Store::open(&folder.path().join("gateway.db"), Durability::Process).unwrap();
        let pin = |id: String, key_id: KeyId, kind: &str, purpose: &str, at: i64| {
            LedgerEntry::Pinned(Box::new(Pin {
                id,
                key_id,
                resource: "east".into(),
                deployment: "mini".into(),
                model: "gpt-4o-mini".into(),
                created_at: WallTime(at),
                expires_at: FOR_EVER,
                kind: kind.to_owned(),
                purpose: purpose.to_owned(),
            }))
        };
        let own = intent(1).key_id;
        let mut entries: Vec<_> = (0..7)
            // Two of them came at the same moment.
            .map(|n| pin(format!("file-{n}"), own, "file", if n % 2 == 0 { "batch" } else { "assistants" }, n.max(1)))
            .collect();
        entries.push(pin("batch_1".into(), own, "batch", "", 3));
        entries.push(pin("file-other".into(), KeyId::generate(), "file", "batch", 3));
        store.journal().unwrap().append(&[entries]).unwrap();
        store
    }

    fn shelf(limit: u32) -> Shelf {
        Shelf {
            key_id: intent(1).key_id,
            kind: "file",
            purpose: None,
            order: Order::NewestFirst,
            after: None,
            before: None,
            limit,
        }
    }

    fn ids(store: &Store, shelf: &Shelf) -> (Vec<String>, bool) {
        let page = store.objects(shelf, NOW).unwrap();
        (page.pins.into_iter().map(|pin| pin.id.replace("file-", "")).collect(), page.has_more)
    }

    #[test]
    fn a_keys_own_objects_come_in_pages_in_either_order() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder);
        for (order, all) in [(Order::NewestFirst, "6 5 4 3 2 1 0"), (Order::OldestFirst, "0 1 2 3 4 5 6")] {
            let mut shelf = Shelf { order, ..shelf(3) };
            let mut seen = Vec::new();
            loop {
                let (page, has_more) = ids(&store, &shelf);
                seen.extend(page);
                shelf.after = seen.last().map(|id| format!("file-{id}"));
                if !has_more {
                    break;
                }
            }
            assert_eq!(seen.join(" "), all);
        }
        let before = Shelf { before: Some("file-2".into()), ..shelf(2) };
        assert_eq!(ids(&store, &before), (vec!["4".into(), "3".into()], true));
    }

    #[test]
    fn by_purpose_and_behind_what_is_nobodys() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder);
        let batch = Shelf { purpose: Some("batch".into()), ..shelf(3) };
        assert_eq!(ids(&store, &batch), (vec!["6".into(), "4".into(), "2".into()], true));
        for unknown in ["file-other", "batch_1", "file-9"] {
            assert_eq!(ids(&store, &Shelf { after: Some(unknown.into()), ..shelf(3) }), (vec![], false));
        }
    }
}
