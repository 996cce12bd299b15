//! What a ledger row costs: `journal` writes groups directly, `actors` settles through recorder, ledger and writer; and what
//! of it is the hash chain's.
//!
//! Each request is admitted and settled (one row, one roll-up cell of three, no text that a client chose). Run it with
//! `cargo bench --bench ledger`; the lines that begin with `cpu` tell the processor time of all threads, of user and
//! system together, which is what the request path pays. Those that begin with `chain` set what putting a row's values
//! together and hashing them costs beside the whole write of the same rows, in turn. A file per benchmark in the system's
//! temporary folder.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![expect(clippy::expect_used, reason = "a benchmark that fails shall stop")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use aoai_gateway::accounting;
use aoai_gateway::accounting::recorder::Recorder;
use aoai_gateway::domain::money::Tariff;
use aoai_gateway::domain::time::wall_now;
use aoai_gateway::settings::model::Durability;
use aoai_gateway::storage::ledger::LedgerEntry;
use aoai_gateway::storage::{Journal, Store};
use aoai_gateway::tripwire::Alarm;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use futures_util::future::join_all;
use samples::Samples;

mod samples;

const SAMPLES: Samples = Samples { keys: 3, models: &["gpt-4o-mini"], resources: &["eastus2"] };

fn journal(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("journal");
    for size in [1_usize, 10, 30, 100, 1_000] {
        group.throughput(Throughput::Elements(size as u64));
        group.bench_with_input(BenchmarkId::new("append", size), &size, |bencher, size| {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let store = Store::open(&folder.path().join("gateway.db"), Durability::Process).expect("a store");
            let mut journal = store.journal().expect("a journal");
            let mut rows = 0;
            bencher.iter_custom(|iterations| {
                let mut spent = Duration::ZERO;
                for _ in 0..iterations {
                    let batches = [settled(*size)];
                    let began = Instant::now();
                    journal.append(black_box(&batches)).expect("a committed group");
                    spent += began.elapsed();
                    rows += size;
                    if rows >= 20_000 {
                        journal.checkpoint().expect("a checkpoint");
                        rows = 0;
                    }
                }
                spent
            });
        });
    }
    group.finish();
}

fn actors(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("actors");
    for at_once in [1_usize, 16, 64, 512] {
        group.throughput(Throughput::Elements(at_once as u64));
        let folder = tempfile::tempdir().expect("a temporary folder");
        let system = actix::System::new();
        let books = system.block_on(async {
            let store = Store::open(&folder.path().join("gateway.db"), Durability::Process).expect("a store");
            accounting::start(&store, &Alarm::default(), |_| Tariff::Flat, |_| ()).expect("the books")
        });
        let recorder = system.block_on(async { books.recorder() });
        let (mut rows, mut cpu) = (0_u64, Duration::ZERO);
        group.bench_function(BenchmarkId::new("settle", at_once), |bencher| {
            bencher.iter_custom(|iterations| {
                let (began, cpu_before) = (Instant::now(), processor_time());
                system.block_on(settle(&recorder, at_once, iterations));
                rows += iterations * at_once as u64;
                cpu += processor_time().saturating_sub(cpu_before);
                began.elapsed()
            });
        });
        eprintln!("cpu: {at_once} at once: {:.2} us a row over {rows} rows", cpu.as_secs_f64() * 1e6 / rows as f64);
        system.block_on(async { books.close().await.expect("an orderly end") });
    }
    group.finish();
}

/// The chain's part of a write. Beyond it are a number in each row, a hash in each group, and one more statement in 64 rows.
fn chain(_: &mut Criterion) {
    const ROUNDS: usize = 10;
    const ROWS: usize = 20_000;
    for size in [1_usize, 10, 30, 100, 1_000] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open(&folder.path().join("gateway.db"), Durability::Process).expect("a store");
        let mut journal = store.journal().expect("a journal");
        let (mut writing, mut linking) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..ROUNDS {
            let groups: Vec<[Vec<LedgerEntry>; 1]> = (0..ROWS / size).map(|_| [settled(size)]).collect();
            let before = processor_time();
            for group in &groups {
                journal.append(black_box(group)).expect("a committed group");
            }
            let between = processor_time();
            for group in &groups {
                black_box(Journal::link(black_box(group)));
            }
            writing += between.saturating_sub(before);
            linking += processor_time().saturating_sub(between);
            journal.checkpoint().expect("a checkpoint");
        }
        let each = |time: Duration| time.as_secs_f64() * 1e6 / (ROUNDS * (ROWS / size) * size) as f64;
        let (writing, linking) = (each(writing), each(linking));
        let part = linking / writing * 100.0;
        eprintln!("chain: groups of {size}: {linking:.2} of {writing:.2} us of CPU a row, {part:.1} %");
    }
}

fn settled(size: usize) -> Vec<LedgerEntry> {
    let numbers = (0..size).map(|n| n as u64);
    numbers
        .map(|n| LedgerEntry::Settled(SAMPLES.intent(n, wall_now()).into(), Box::new(SAMPLES.settlement(n))))
        .collect()
}

/// As many requests at once as said, each task one after the other.
async fn settle(recorder: &Recorder, at_once: usize, iterations: u64) {
    let tasks = (0..at_once as u64).map(|n| async move {
        for _ in 0..iterations {
            let entry = recorder.admit(SAMPLES.intent(n, wall_now())).expect("room");
            entry.settle(Box::new(SAMPLES.settlement(n))).await.expect("a committed row");
        }
    });
    join_all(tasks).await;
}

/// Of all threads of this process, user and system, as the scheduler counts it.
fn processor_time() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let nanoseconds = tasks
        .filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok())
        .filter_map(|text| text.split(' ').next().and_then(|first| first.parse::<u64>().ok()));
    Duration::from_nanos(nanoseconds.sum())
}

criterion_group!(benches, chain, journal, actors);
criterion_main!(benches);
