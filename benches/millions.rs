//! A ledger of ten million rows: how long a start takes, what questions cost, and whether the request path notices an
//! export. A program that measures and prints, no test.
//!
//! `cargo bench --bench millions` makes the rows first, a minute or two of work and about four gigabytes in the system's
//! temporary folder, by the code that writes them in production. `ROWS=1000000` makes fewer; `LEDGER=/path/gateway.db`
//! keeps the file and uses it again.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock and its environment")]
#![expect(clippy::expect_used, reason = "a benchmark that fails shall stop")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aoai_gateway::accounting;
use aoai_gateway::accounting::recorder::Recorder;
use aoai_gateway::domain::demand::Operation;
use aoai_gateway::domain::ids::{KeyId, ModelName, RequestId, ResourceName};
use aoai_gateway::domain::money::{Cost, Tariff};
use aoai_gateway::domain::time::{WallTime, wall_now};
use aoai_gateway::domain::usage::{Charge, Usage};
use aoai_gateway::settings::model::Durability;
use aoai_gateway::storage::Store;
use aoai_gateway::storage::ledger::{AttemptRecord, Intent, LedgerEntry, RequestState, Settlement};
use aoai_gateway::storage::page::{Cursor, PageSize};
use aoai_gateway::storage::requests::RequestFilter;
use aoai_gateway::storage::usage::{Bucket, GroupBy, UsageFilter};
use aoai_gateway::tripwire::Alarm;
use smallvec::smallvec;
use uuid::Uuid;

const MONTH: Duration = Duration::from_secs(30 * 24 * 3600);
const GROUP: u64 = 1_000;
const KEYS: u64 = 20;
const MODELS: [&str; 2] = ["gpt-4o-mini", "gpt-4.1"];
const RESOURCES: [&str; 3] = ["eastus2", "swedencentral", "westus3"];
const SETTLEMENTS: usize = 2_000;
const WANTED_USAGE: Duration = Duration::from_millis(50);
const WANTED_START: Duration = Duration::from_secs(2);

fn main() {
    let rows: u64 = std::env::var("ROWS").ok().map_or(10_000_000, |text| text.parse().expect("ROWS is a number"));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = std::env::var_os("LEDGER").map_or(folder.path().join("gateway.db"), Into::into);
    if !path.exists() {
        make(&path, rows);
    }
    let began = Instant::now();
    let system = actix::System::new();
    let (store, books) = system.block_on(async {
        let store = Store::open(&path, Durability::Process).expect("a store");
        let books = accounting::start(&store, &Alarm::default(), |_| Tariff::Flat, |_| ()).expect("the books");
        (store, books)
    });
    told("start", began.elapsed(), Some(WANTED_START));
    let by_key = GroupBy { key: true, ..GroupBy::default() };
    told("usage by key, a month", asked(|| usage(&store, Bucket::None, by_key)), Some(WANTED_USAGE));
    told("usage by day and key", asked(|| usage(&store, Bucket::Day, by_key)), None);
    told("newest requests", asked(|| drop(page(&store, &RequestFilter::default(), None))), None);
    let of_key = RequestFilter { key: Some(key(3)), ..RequestFilter::default() };
    told("newest requests of a key", asked(|| drop(page(&store, &of_key, None))), None);

    let recorder = system.block_on(async { books.recorder() });
    let (alone, alone_99) = system.block_on(settle(&recorder));
    let stop = Arc::new(AtomicBool::new(false));
    let exported = Arc::new(AtomicU64::new(0));
    let export = std::thread::spawn({
        let (store, stop, exported) = (store.clone(), stop.clone(), exported.clone());
        move || {
            let mut cursor = None;
            while !stop.load(Ordering::Relaxed) {
                let next = page(&store, &RequestFilter::default(), cursor);
                exported.fetch_add(200, Ordering::Relaxed);
                cursor = next.map(|next| next.parse().expect("a cursor"));
            }
        }
    });
    let (beside, beside_99) = system.block_on(settle(&recorder));
    stop.store(true, Ordering::Relaxed);
    export.join().expect("the export");
    println!("settlement, alone            {alone:?} (median), {alone_99:?} (p99)");
    println!(
        "settlement, beside an export {beside:?} (median), {beside_99:?} (p99), {} rows exported meanwhile",
        exported.load(Ordering::Relaxed)
    );
    drop(recorder);
    system.block_on(async { books.close().await.expect("an orderly end") });
}

fn told(what: &str, took: Duration, wanted: Option<Duration>) {
    let verdict = match wanted {
        Some(wanted) if took <= wanted => format!("wanted: {wanted:?}"),
        Some(wanted) => format!("TOO LONG, wanted: {wanted:?}"),
        None => String::new(),
    };
    println!("{what:<28} {took:>10.1?}  {verdict}");
}

/// The median of five.
fn asked(question: impl Fn()) -> Duration {
    let mut times: Vec<_> = (0..5)
        .map(|_| {
            let began = Instant::now();
            question();
            began.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[2]
}

fn usage(store: &Store, bucket: Bucket, group_by: GroupBy) {
    let to = wall_now();
    let rows = store.usage(&UsageFilter { from: to.before(MONTH), to, bucket, group_by }).expect("usage");
    assert!(!rows.is_empty());
}

fn page(store: &Store, filter: &RequestFilter, cursor: Option<Cursor>) -> Option<String> {
    store.requests(filter, cursor, PageSize::new(200)).expect("requests").next_cursor
}

async fn settle(recorder: &Recorder) -> (Duration, Duration) {
    let mut times = Vec::with_capacity(SETTLEMENTS);
    for n in 0..SETTLEMENTS {
        let entry = recorder.admit(intent(n as u64, wall_now())).expect("room");
        let began = Instant::now();
        entry.settle(Box::new(settlement(n as u64))).await.expect("a committed row");
        times.push(began.elapsed());
    }
    times.sort_unstable();
    (times[SETTLEMENTS / 2], times[SETTLEMENTS * 99 / 100])
}

fn make(path: &Path, rows: u64) {
    let store = Store::open(path, Durability::Process).expect("a store");
    let mut journal = store.journal().expect("a journal");
    let (began, from) = (Instant::now(), wall_now().before(MONTH));
    let step = MONTH / u32::try_from(rows).expect("fewer rows");
    for group in 0..rows.div_ceil(GROUP) {
        let batch: Vec<_> = (group * GROUP..((group + 1) * GROUP).min(rows))
            .map(|n| {
                let at = from.after(step * u32::try_from(n).expect("fewer rows"));
                LedgerEntry::Settled(Arc::new(intent(n, at)), Box::new(settlement(n)))
            })
            .collect();
        journal.append(&[batch]).expect("a committed group");
        if group % 50 == 0 {
            journal.checkpoint().expect("a checkpoint");
        }
    }
    journal.close().expect("an orderly end");
    println!("{rows} rows made in {:.0?}", began.elapsed());
}

fn key(n: u64) -> KeyId {
    KeyId(Uuid::from_u128(u128::from(n % KEYS + 1)))
}

fn resource(n: u64) -> ResourceName {
    RESOURCES[(n / 7) as usize % RESOURCES.len()].into()
}

fn intent(n: u64, at: WallTime) -> Intent {
    let id =
        RequestId(Uuid::from_u128(RequestId::first_of(at).0.as_u128() | (7 << 76) | u128::from(fastrand::u64(..))));
    Intent {
        id,
        request_id: id.to_string(),
        key_id: key(n),
        user_id: None,
        operation: Operation::ChatCompletions,
        model: ModelName::from(MODELS[(n / 3) as usize % MODELS.len()]),
        stream: false,
        started_at: at,
        input_tokens: 100,
    }
}

fn settlement(n: u64) -> Settlement {
    let usage = Usage { input_tokens: 100, output_tokens: 50, ..Usage::default() };
    let (resource, deployment) = (resource(n), "gpt-4o-mini".into());
    Settlement {
        state: RequestState::Settled,
        status: 200,
        usage,
        estimated: false,
        cost: Cost(45_000_000),
        flat_cost: false,
        price_version: None,
        ttfb: Some(Duration::from_millis(3)),
        duration: Duration::from_millis(5),
        attempts: smallvec![AttemptRecord {
            resource,
            deployment,
            status: Some(200),
            reason: "served",
            duration: Duration::from_millis(4),
            usage,
            charge: Charge::Exact,
            upstream_id: Some("0f8fad5b-d9cb-469f-a165-70867728950e".into()),
        }],
    }
}
