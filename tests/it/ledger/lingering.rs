//! Beginnings that nobody waits for stay with their worker for a moment: mostly their end is all that is written.

use aoai_gateway::storage::pins::{Pin, RETENTION};

use super::*;

fn pin(entry: &Intent) -> Box<Pin> {
    let created_at = wall_now();
    Box::new(Pin {
        id: format!("resp_{}", entry.id),
        key_id: entry.key_id,
        resource: "eastus2".into(),
        deployment: "mini".into(),
        model: "gpt-4o-mini".into(),
        created_at,
        expires_at: created_at.after(RETENTION),
        kind: String::new(),
        purpose: String::new(),
    })
}

#[test]
fn a_beginning_stays_while_others_leave() {
    with_books(async |store, books, recorder| {
        let mut stayed = 0;
        for _ in 0..50 {
            let waiting = recorder.admit(intent()).unwrap();
            let before = books.inspect().await.unwrap().committed.0;
            recorder.admit(intent()).unwrap().settle(settlement(1)).await.unwrap();
            let written = store.request(waiting.intent().id).unwrap().is_some();
            // A machine that paused here for long has seen its time run out.
            stayed += usize::from(!written && books.inspect().await.unwrap().committed.0 == before + 1);
            waiting.settle(settlement(2)).await.unwrap();
        }
        assert!(stayed > 0, "a beginning left with others each time");
        assert_eq!(books.permits.taken(), 0);
        assert_books_are_right(&store);
    });
}

#[test]
fn an_intent_is_in_the_database_when_it_is_durable_and_its_end_replaces_it() {
    with_books(async |store, _, recorder| {
        let entry = recorder.admit(Intent { request_id: "chosen by the client".into(), ..intent() }).unwrap();
        let id = entry.intent().id;
        entry.durable().await.unwrap();
        let view = store.request(id).unwrap().unwrap();
        assert_eq!((view.state.as_str(), view.input_tokens, view.estimated), ("open", 10, true));
        entry.durable().await.unwrap();
        entry.settle(settlement(5)).await.unwrap();
        let view = store.request(id).unwrap().unwrap();
        assert_eq!((view.state.as_str(), view.input_tokens, view.estimated), ("settled", 12, false));
        assert_eq!(view.request_id, "chosen by the client");
        assert_books_are_right(&store);
    });
}

#[test]
fn a_beginning_leaves_by_itself_and_its_end_changes_the_row() {
    with_books(async |store, books, recorder| {
        let entry = recorder.admit(intent()).unwrap();
        let id = entry.intent().id;
        while store.request(id).unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await; // bounded: between two looks, and by the test's patience
        }
        assert_eq!(store.request(id).unwrap().unwrap().state, "open");
        entry.durable().await.unwrap();
        let before = books.inspect().await.unwrap().committed.0;
        entry.settle(settlement(5)).await.unwrap();
        assert_eq!(store.request(id).unwrap().unwrap().state, "settled");
        assert_eq!(books.inspect().await.unwrap().committed.0, before + 1);
        assert_books_are_right(&store);
    });
}

/// Another process sees only what is in the file; this one makes rows of what it looks for.
#[test]
fn what_stays_open_for_some_seconds_gets_a_row_by_itself_and_the_log_is_emptied_after_it() {
    with_books(async |store, _, recorder| {
        let entry = recorder.admit(intent()).unwrap();
        entry.durable().await.unwrap();
        let other = Store::existing(store.path(), Durability::Process).unwrap();
        let id = entry.intent().id;
        assert_eq!(other.request(id).unwrap(), None, "a log is enough for it so far");
        while other.request(id).unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await; // bounded: between two looks, and by the test's patience
        }
        assert_eq!(other.request(id).unwrap().unwrap().state, "open");
        while !store.is_tidy() {
            tokio::time::sleep(Duration::from_millis(20)).await; // bounded: as above
        }
        entry.settle(settlement(5)).await.unwrap();
        assert_eq!(other.request(id).unwrap().unwrap().state, "settled");
        assert_books_are_right(&store);
    });
}

#[test]
fn a_pin_never_travels_before_its_beginning() {
    with_books(async |store, books, recorder| {
        let mut entry = recorder.admit(intent()).unwrap();
        let pinned = pin(entry.intent());
        entry.pin(pinned.clone());
        recorder.admit(intent()).unwrap().settle(settlement(1)).await.unwrap();
        let id = entry.intent().id;
        assert_eq!(store.request(id).unwrap().map(|view| view.state).as_deref(), Some("open"));
        entry.durable().await.unwrap();
        assert_eq!(store.pin(&pinned.id, wall_now()).unwrap(), Some(*pinned));
        entry.settle(settlement(5)).await.unwrap();

        let mut at_once = recorder.admit(intent()).unwrap();
        let (id, pinned) = (at_once.intent().id, pin(at_once.intent()));
        let before = books.inspect().await.unwrap().committed.0;
        at_once.pin(pinned.clone());
        at_once.settle(settlement(6)).await.unwrap();
        assert_eq!(books.inspect().await.unwrap().committed.0, before + 2, "its end replaced its beginning");
        assert_eq!(store.request(id).unwrap().unwrap().state, "settled");
        assert_eq!(store.pin(&pinned.id, wall_now()).unwrap(), Some(*pinned));
        assert_books_are_right(&store);
    });
}
