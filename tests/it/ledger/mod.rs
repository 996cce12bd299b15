//! The ledger from the request path to the file: nothing acknowledged is lost, nothing is counted twice.

use std::future::Future;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aoai_gateway::accounting::recorder::Recorder;
use aoai_gateway::accounting::{self, Books};
use aoai_gateway::domain::demand::Operation;
use aoai_gateway::domain::ids::{KeyId, RequestId, UserId};
use aoai_gateway::domain::money::{Cost, Price, Tariff};
use aoai_gateway::domain::time::wall_now;
use aoai_gateway::domain::usage::{Charge, Usage};
use aoai_gateway::settings::model::Durability;
use aoai_gateway::storage::ledger::{AttemptRecord, Intent, Progress, RequestState, Settlement};
use aoai_gateway::storage::page::PageSize;
use aoai_gateway::storage::requests::RequestFilter;
use aoai_gateway::storage::usage::{Bucket, GroupBy, UsageFilter};
use aoai_gateway::storage::{Served, StorageError, Store};
use aoai_gateway::tripwire::Alarm;
use diesel::prelude::*;
use futures_util::future::join_all;
use smallvec::smallvec;

use crate::support::sqlite;

mod killed;
mod lingering;

pub const PRICE: Price = Price::of(2, 1, 3);
const PATIENCE: Duration = Duration::from_secs(20);

pub fn intent() -> Intent {
    let id = RequestId::generate();
    Intent {
        id,
        request_id: id.to_string(),
        key_id: KeyId(uuid::Uuid::from_u128(7)),
        user_id: None,
        operation: Operation::ChatCompletions,
        model: "gpt-4o-mini".into(),
        stream: false,
        started_at: wall_now(),
        input_tokens: 10,
    }
}

fn attempt(usage: Usage) -> AttemptRecord {
    AttemptRecord {
        resource: "eastus2".into(),
        deployment: "mini".into(),
        status: Some(200),
        reason: "served",
        duration: Duration::from_millis(4),
        usage,
        charge: Charge::Exact,
        upstream_id: None,
    }
}

pub fn settlement(output_tokens: u32) -> Box<Settlement> {
    let usage = Usage { input_tokens: 12, cached_input_tokens: 4, output_tokens, ..Usage::default() };
    Box::new(Settlement {
        state: RequestState::Settled,
        status: 200,
        usage,
        estimated: false,
        cost: PRICE.cost(usage),
        flat_cost: false,
        price_version: Some(PRICE.version()),
        ttfb: Some(Duration::from_millis(3)),
        duration: Duration::from_millis(5),
        attempts: smallvec![attempt(usage)],
    })
}

fn open(folder: &Path) -> Store {
    Store::open(&folder.join("gateway.db"), Durability::Process).unwrap()
}

pub fn start(store: &Store, alarm: &Alarm) -> Books {
    accounting::start(store, alarm, |_| Tariff::PerToken(PRICE), |_| ()).unwrap()
}

/// Runs a test inside an actix system; whatever waits for too long fails it.
fn with_books<F: Future<Output = ()>>(test: impl FnOnce(Store, Books, Recorder) -> F) {
    let folder = tempfile::tempdir().unwrap();
    actix::System::new().block_on(async {
        let store = open(folder.path());
        let books = start(&store, &Alarm::default());
        let recorder = books.recorder();
        tokio::time::timeout(PATIENCE, test(store, books, recorder)).await.expect("the test hangs");
    });
}

#[track_caller]
fn assert_books_are_right(store: &Store) {
    let verdict = store.verify().unwrap();
    assert!(verdict.holds(), "{verdict:#?}");
}

#[test]
fn a_settlement_is_in_the_database_when_it_is_confirmed() {
    with_books(async |store, books, recorder| {
        let entry = recorder.admit(intent()).unwrap();
        let id = entry.intent().id;
        entry.settle(settlement(5)).await.unwrap();
        let view = store.request(id).unwrap().unwrap();
        assert_eq!((view.state.as_str(), view.status, view.output_tokens), ("settled", Some(200), 5));
        assert_eq!(view.request_id, id.to_string());
        assert_eq!(view.attempts.len(), 1);
        assert_eq!(view.attempts[0].charged.as_deref(), Some("exact"));
        assert_eq!(books.permits.taken(), 0);
        assert_eq!(books.gauges.committed_total(), 1);
        assert_books_are_right(&store);
    });
}

#[test]
fn what_happens_together_is_written_together() {
    with_books(async |store, books, recorder| {
        let before = books.inspect().await.unwrap().committed.0;
        let ends = (0..500).map(|n| recorder.admit(intent()).unwrap().settle(settlement(n)));
        for end in join_all(ends).await {
            end.unwrap();
        }
        // One entry a request: each intent met its end before it left the worker.
        assert_eq!(books.inspect().await.unwrap().committed.0 - before, 500);
        let page = store.requests(&RequestFilter::default(), None, PageSize::new(200)).unwrap();
        assert!(page.has_more && page.data.len() == 200);
        let usage = store.usage(&all_usage(GroupBy { model: true, ..GroupBy::default() })).unwrap();
        assert_eq!(usage.len(), 1);
        assert_eq!((usage[0].requests, usage[0].output_tokens), (500, 499 * 500 / 2));
        assert_books_are_right(&store);
    });
}

fn all_usage(group_by: GroupBy) -> UsageFilter {
    let now = wall_now();
    let hour_ago = aoai_gateway::domain::time::WallTime(now.0 - 3_600_000_000);
    UsageFilter { from: hour_ago, to: now, bucket: Bucket::None, group_by }
}

#[test]
fn an_entry_that_is_dropped_settles_itself_with_what_was_noted() {
    with_books(async |store, books, recorder| {
        let nothing = recorder.admit(intent()).unwrap().priced(PRICE);
        let mut served = recorder.admit(intent()).unwrap().priced(PRICE);
        let streaming = recorder.admit(intent()).unwrap().priced(PRICE);
        let ids = [&nothing, &served, &streaming].map(|entry| entry.intent().id);
        let usage = Usage { input_tokens: 12, output_tokens: 5, ..Usage::default() };
        served.attempted(attempt(usage));
        streaming.progress(Progress {
            id: ids[2],
            resource: "westus".into(),
            deployment: "mini".into(),
            output_tokens: 7,
        });
        drop((nothing, served, streaming));
        // What was put down before it travels before it.
        recorder.admit(intent()).unwrap().settle(settlement(1)).await.unwrap();

        let views = ids.map(|id| store.request(id).unwrap().unwrap());
        for view in &views {
            assert_eq!((view.state.as_str(), view.status), ("cancelled", Some(499)));
            assert!(view.duration_ms.is_some());
        }
        let told = views.each_ref().map(|view| (view.input_tokens, view.output_tokens, view.estimated, view.cost_usd));
        let usd = |picodollars| Cost(picodollars).dollars();
        assert_eq!(told, [(0, 0, false, 0.0), (12, 5, false, usd(39)), (10, 7, true, usd(41))]);
        assert_eq!(views[2].attempts[0].resource, "westus");
        assert_eq!(books.permits.taken(), 0);
        assert_books_are_right(&store);
    });
}

#[test]
fn a_settlement_is_filed_even_if_its_waiter_leaves() {
    with_books(async |store, books, recorder| {
        let entry = recorder.admit(intent()).unwrap();
        let id = entry.intent().id;
        let mut end = Box::pin(entry.settle(settlement(5)));
        assert_eq!(futures_util::FutureExt::now_or_never(&mut end), None);
        drop(end);
        let never_polled = recorder.admit(intent()).unwrap();
        let other = never_polled.intent().id;
        drop(never_polled.settle(settlement(6)));
        let detached = recorder.admit(intent()).unwrap();
        let third = detached.intent().id;
        detached.settle_detached(settlement(7));
        recorder.admit(intent()).unwrap().settle(settlement(1)).await.unwrap();
        let states = [id, other, third].map(|id| store.request(id).unwrap().unwrap().state);
        assert_eq!(states, ["settled"; 3], "also one that nobody began to wait for");
        assert_eq!(books.permits.taken(), 0);
    });
}

#[test]
fn what_a_worker_still_holds_at_its_end_reaches_the_database() {
    with_books(async |store, books, recorder| {
        let entry = recorder.admit(intent()).unwrap();
        let id = entry.intent().id;
        drop(recorder);
        drop(entry);
        books.flush().await.unwrap();
        assert_eq!(store.request(id).unwrap().unwrap().state, "cancelled");
    });
}

#[test]
fn an_error_of_the_database_delays_and_loses_nothing() {
    with_books(async |store, books, recorder| {
        let mut saboteur = sqlite::connect(store.path());
        let mut run = |sql: &str| diesel::sql_query(sql).execute(&mut saboteur).unwrap();
        run("ALTER TABLE requests RENAME TO elsewhere");
        let entry = recorder.admit(intent()).unwrap();
        let id = entry.intent().id;
        let confirmed = Rc::new(AtomicBool::new(false));
        let end = actix::spawn({
            let confirmed = confirmed.clone();
            async move {
                entry.settle(settlement(5)).await.unwrap();
                confirmed.store(true, Ordering::Relaxed);
            }
        });
        while books.gauges.database_errors_total() < 2 {
            tokio::task::yield_now().await;
        }
        assert!(!confirmed.load(Ordering::Relaxed));
        assert_eq!(books.permits.taken(), 1);
        run("ALTER TABLE elsewhere RENAME TO requests");
        end.await.unwrap();
        assert_eq!(store.request(id).unwrap().unwrap().state, "settled");
        assert_eq!(books.permits.taken(), 0);
        assert_books_are_right(&store);
    });
}

#[test]
fn an_orderly_end_raises_no_alarm_and_takes_nothing_more() {
    let folder = tempfile::tempdir().unwrap();
    actix::System::new().block_on(async {
        let alarm = Alarm::default();
        let store = open(folder.path());
        let books = start(&store, &alarm);
        let recorder = books.recorder();
        recorder.admit(intent()).unwrap().settle_detached(settlement(5));
        drop(recorder.clone());
        drop(recorder);
        books.close().await.unwrap();
        assert!(books.recorder().admit(intent()).is_err());
        assert_eq!(futures_util::FutureExt::now_or_never(alarm.raised()), None);
        assert_eq!(store.verify().unwrap().open, 0);
        let wal = std::fs::metadata(store.path().with_extension("db-wal")).map_or(0, |file| file.len());
        assert_eq!(wal, 0);
    });
}

#[test]
fn a_panic_in_the_ledger_raises_the_alarm_and_confirms_nothing_more() {
    let folder = tempfile::tempdir().unwrap();
    actix::System::new().block_on(async {
        let alarm = Alarm::default();
        let store = open(folder.path());
        let books = accounting::start(&store, &alarm, |_| Tariff::PerToken(PRICE), |_| panic!("on purpose")).unwrap();
        let recorder = books.recorder();
        let end = recorder.admit(intent()).unwrap().settle(settlement(5));
        assert!(tokio::time::timeout(PATIENCE, end).await.unwrap().is_err());
        assert_eq!(tokio::time::timeout(PATIENCE, alarm.raised()).await.unwrap(), "ledger");
        assert!(recorder.admit(intent()).is_err());
    });
}

#[test]
fn text_that_looks_like_sql_is_only_text() {
    with_books(async |store, _, recorder| {
        let evil = "'; DROP TABLE requests; --\"`\u{1F980}%_\\";
        let id = RequestId::generate();
        let intent = Intent {
            id,
            request_id: evil.to_owned(),
            user_id: Some(UserId::generate()),
            model: evil.into(),
            ..intent()
        };
        let billed = Usage { input_tokens: 1, ..Usage::default() };
        let (mut end, refused) = (settlement(3), AttemptRecord { charge: Charge::None, ..attempt(billed) });
        end.attempts = smallvec![
            refused.clone(),
            AttemptRecord {
                resource: evil.into(),
                deployment: evil.into(),
                upstream_id: Some(evil.to_owned()),
                ..attempt(end.usage)
            }
        ];
        end.attempts[0].resource = evil.into();
        let entry = recorder.admit(intent).unwrap();
        entry.progress(Progress { id, resource: evil.into(), deployment: evil.into(), output_tokens: 1 });
        entry.settle(end).await.unwrap();

        for filter in [
            RequestFilter { request_id: Some(evil.to_owned()), ..RequestFilter::default() },
            RequestFilter { model: Some(evil.to_owned()), ..RequestFilter::default() },
        ] {
            let page = store.requests(&filter, None, PageSize::default()).unwrap();
            assert_eq!(page.data.len(), 1);
            assert_eq!((page.data[0].model.as_str(), page.data[0].request_id.as_str()), (evil, evil));
            assert_eq!(page.data[0].attempts[1].resource, evil);
        }
        let injected = RequestFilter { request_id: Some("' OR 1=1 --".to_owned()), ..RequestFilter::default() };
        assert!(store.requests(&injected, None, PageSize::default()).unwrap().data.is_empty());
        let usage = store.usage(&all_usage(GroupBy { model: true, resource: true, ..GroupBy::default() })).unwrap();
        assert_eq!((usage[0].model.as_deref(), usage[0].resource.as_deref()), (Some(evil), Some(evil)));
        assert_books_are_right(&store);
    });
}

#[test]
fn usage_is_divided_as_asked() {
    with_books(async |store, _, recorder| {
        let ends = [RequestState::Settled, RequestState::Failed, RequestState::Cancelled];
        for (n, state) in ends.into_iter().enumerate() {
            let mut end = Box::new(Settlement { state, estimated: n == 2, ..*settlement(10) });
            if n == 1 {
                end.attempts[0].resource = "westus".into();
            }
            recorder.admit(intent()).unwrap().settle(end).await.unwrap();
        }
        let sums = |group_by| -> Vec<_> {
            let rows = store.usage(&all_usage(group_by)).unwrap();
            rows.into_iter().map(|row| (row.resource, row.requests, row.errors, row.cancelled, row.estimated)).collect()
        };
        assert_eq!(sums(GroupBy::default()), [(None, 3, 1, 1, 1)]);
        assert_eq!(
            sums(GroupBy { resource: true, ..GroupBy::default() }),
            [(Some("eastus2".into()), 2, 0, 1, 1), (Some("westus".into()), 1, 1, 0, 0)]
        );
        let by_key = store.usage(&all_usage(GroupBy { key: true, user: true, ..GroupBy::default() })).unwrap();
        assert_eq!(by_key[0].key, Some(KeyId(uuid::Uuid::from_u128(7))));
        assert_eq!((by_key[0].user, by_key[0].cost_usd), (None, Cost(3 * (8 * 2 + 4 + 10 * 3)).dollars()));
        let buckets = [(Bucket::Hour, "T"), (Bucket::Day, "T00:00:00"), (Bucket::Month, "-01T00:00:00")];
        for (bucket, expected) in buckets {
            let rows = store.usage(&UsageFilter { bucket, ..all_usage(GroupBy::default()) }).unwrap();
            let start = serde_json::to_value(&rows[0]).unwrap()["start"].as_str().unwrap().to_owned();
            assert!(start.contains(expected), "{start}");
        }
    });
}

#[test]
fn a_second_gateway_is_refused_and_a_command_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let error = Store::open(store.path(), Durability::Process).unwrap_err();
    assert!(matches!(error, StorageError::Locked { .. }), "{error}");
    assert!(error.to_string().contains("another gateway") && error.to_string().contains("gateway.db"), "{error}");

    let command = Store::existing(store.path(), Durability::Process).unwrap();
    assert_eq!(command.served(), Served::ByAGateway);
    assert!(command.verify().unwrap().holds());
    let path = store.path().to_owned();
    drop(store);
    assert_eq!(command.served(), Served::ByNobody);
    Store::open(&path, Durability::Process).unwrap();
}

#[test]
fn an_unusable_place_is_named_with_the_next_step() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "not a folder").unwrap();
    let error = Store::open(&file.join("gateway.db"), Durability::Process).unwrap_err().to_string();
    assert!(error.contains("file/gateway.db") && error.contains("Create its folder"), "{error}");

    let error = Store::open(&file, Durability::Process).unwrap_err().to_string();
    assert!(error.contains("not a database") && error.contains("Check that"), "{error}");

    let missing = folder.path().join("missing.db");
    let error = Store::existing(&missing, Durability::Process).unwrap_err().to_string();
    assert!(error.contains("no database at") && error.contains("Start the gateway once"), "{error}");
    assert!(!missing.exists());
    Store::open(&folder.path().join("made/on/the/way/gateway.db"), Durability::Power).unwrap();
}
