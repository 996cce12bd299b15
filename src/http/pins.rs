//! Where responses are kept, as the follow-ups' path asks for it: read through a small memory of the newest answers.
//!
//! What is not there is looked up in the database, where every gateway's pins are; that nothing was found is never
//! remembered, because another gateway may file it a moment later. What was found is remembered for a minute: should it be
//! deleted elsewhere meanwhile, the upstream says so.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::domain::time::{self, Timestamp};
use crate::storage::pins::Pin;
use crate::storage::{StorageError, Store};

/// About 3 MB.
const MOST: usize = 10_000;
const LONGEST: Duration = Duration::from_secs(60);

/// Shared by all workers; its lock is held for a look.
#[derive(Default)]
pub struct Pins(Mutex<Memory>);

#[derive(Default)]
struct Memory {
    found: HashMap<String, (Arc<Pin>, Timestamp)>,
    /// The oldest first; may name what was forgotten since.
    order: VecDeque<(String, Timestamp)>,
}

impl Pins {
    /// The pins of these ids, whoever's they are, in their order. Reads the database off the worker's thread.
    pub async fn find(&self, store: &Store, ids: &[String]) -> Result<Vec<Option<Arc<Pin>>>, StorageError> {
        let now = time::now();
        let mut found: Vec<_> = {
            let memory = self.memory();
            ids.iter().map(|id| memory.recall(id, now)).collect()
        };
        let unknown: Vec<_> =
            ids.iter().zip(&found).filter(|(_, pin)| pin.is_none()).map(|(id, _)| id.clone()).collect();
        if unknown.is_empty() {
            return Ok(found);
        }
        let store = store.clone();
        let read = actix_web::web::block(move || store.pins(&unknown, time::wall_now())).await;
        // The blocking pool is gone: the process is ending.
        let mut read = read.unwrap_or_else(|_| Ok(Vec::new()))?.into_iter();
        let (mut memory, now) = (self.memory(), time::now());
        for pin in found.iter_mut().filter(|pin| pin.is_none()) {
            *pin = read.next().flatten().map(Arc::new);
            if let Some(pin) = pin {
                memory.keep(pin.clone(), now);
            }
        }
        drop(memory);
        Ok(found)
    }

    /// The upstream keeps it no longer.
    pub async fn remove(&self, store: &Store, id: &str) -> Result<(), StorageError> {
        let (store, gone) = (store.clone(), id.to_owned());
        let removed = actix_web::web::block(move || store.remove_pin(&gone)).await.unwrap_or(Ok(()));
        self.memory().found.remove(id);
        removed
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    fn recall(&self, id: &str, now: Timestamp) -> Option<Arc<Pin>> {
        let (pin, since) = self.found.get(id)?;
        (now.since(*since) < LONGEST).then(|| pin.clone())
    }

    fn keep(&mut self, pin: Arc<Pin>, now: Timestamp) {
        self.order.push_back((pin.id.clone(), now));
        self.found.insert(pin.id.clone(), (pin, now));
        while self.order.len() > MOST {
            let Some((oldest, since)) = self.order.pop_front() else { return };
            // Unless it was found again later.
            if self.found.get(&oldest).is_some_and(|(_, at)| *at == since) {
                self.found.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::KeyId;
    use crate::domain::time::WallTime;

    fn pin(n: usize) -> Arc<Pin> {
        Arc::new(Pin {
            id: format!("resp_{n}"),
            key_id: KeyId::generate(),
            resource: "eastus2".into(),
            deployment: "mini".into(),
            model: "gpt-4o-mini".into(),
            created_at: WallTime(0),
            expires_at: WallTime(1),
            kind: String::new(),
            purpose: String::new(),
        })
    }

    #[test]
    fn a_minute_later_the_database_is_asked_again() {
        let mut memory = Memory::default();
        let one = pin(1);
        memory.keep(one.clone(), Timestamp::ZERO);
        let at = |seconds| Timestamp::ZERO.after(Duration::from_secs(seconds));
        assert_eq!(memory.recall("resp_1", at(59)), Some(one));
        assert_eq!((memory.recall("resp_1", at(60)), memory.recall("resp_2", at(0))), (None, None));
    }

    #[test]
    fn the_memory_is_bounded_and_the_oldest_goes_first() {
        let mut memory = Memory::default();
        let at = |n: usize| Timestamp(n as u64);
        memory.keep(pin(0), at(0));
        memory.keep(pin(1), at(1));
        // Found again: it is the newest now.
        memory.keep(pin(0), at(2));
        for n in 3..MOST + 2 {
            memory.keep(pin(n), at(n));
        }
        assert!(memory.recall("resp_0", at(MOST)).is_some());
        assert!(memory.recall("resp_1", at(MOST)).is_none());
        assert!(memory.order.len() == MOST && memory.found.len() <= MOST);
    }
}
