//! A ledger of ten million rows: how long a start takes, what questions cost, whether requests notice an export or the
//! removal of old rows, and how long `verify` reads. A program that measures and prints, no test.
//!
//! `cargo bench --bench millions` makes the rows first, by the code that writes them in production: a few minutes, and
//! 2.7 GB in the system's temporary folder. Then the real gateway serves that file before a simulated region, and
//! everything is asked over HTTP. In the environment: `ROWS=1000000` makes fewer, `KEYS=200` spreads them over more keys
//! than 20, `RATE=100` changes the requests per second, `LEDGER=/path/gateway.db` keeps the file and uses it again (rows
//! that the removal took are gone from it).

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock and its environment")]
#![expect(clippy::expect_used, reason = "a benchmark that fails shall stop")]

use std::path::Path;
use std::time::{Duration, Instant};

use aoai_gateway::domain::time::wall_now;
use aoai_gateway::settings::model::Durability;
use aoai_gateway::storage::Store;
use aoai_gateway::storage::folding::Step;
use load::questions::{median_of_five, questions, told};
use load::{Gateway, Window, month, number};
use samples::Samples;

mod load;
mod samples;

/// Each way of load, this often, in turn.
const ROUNDS: usize = 6;
const WINDOW: Duration = Duration::from_secs(5);
const WANTED_START: Duration = Duration::from_secs(2);

fn main() {
    let samples = load::samples(number("KEYS", 20));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = std::env::var_os("LEDGER").map_or(folder.path().join("gateway.db"), Into::into);
    if !path.exists() {
        make(&path, &samples, number("ROWS", 10_000_000));
    }
    let url = format!("sqlite:{}", path.display());
    let (gateway, took) = Gateway::start(&url, "");
    told("the first start, until it is ready", took, Some(WANTED_START));
    drop(gateway);
    fold(&path);
    let (gateway, took) = Gateway::start(&url, "");
    told("a start, until it is ready", took, Some(WANTED_START));
    questions(&gateway, &samples);
    let rate = u32::try_from(number("RATE", 200)).expect("a rate");
    let key = gateway.key();
    for path in ["/v1/me", "/dashboard/billing/usage"] {
        told(&format!("a key's {path}"), median_of_five(|| drop(gateway.account(&key, path))), None);
    }
    beside_an_export(&gateway, &key, rate);
    drop(gateway);

    // A fortieth of what there is, as it gets too old while it is looked at.
    let (gateway, _) = Gateway::start(&url, "[accounting]\nkeep_requests = \"29d\"\n");
    let removing = gateway.load(&key, rate, WINDOW * 4);
    report("beside the removal of old requests", &removing);
    drop(gateway);
    verify(&path);
}

fn beside_an_export(gateway: &Gateway, key: &str, rate: u32) {
    gateway.load(key, rate, WINDOW);
    let (mut alone, mut beside, mut rows) = (Window::default(), Window::default(), 0);
    for _ in 0..ROUNDS {
        alone.add(gateway.load(key, rate, WINDOW));
        let export = gateway.export();
        beside.add(gateway.load(key, rate, WINDOW));
        rows += export.stop();
    }
    report("requests alone", &alone);
    report("requests beside an export", &beside);
    println!("{:<44} {rows} rows, {} a second", "exported meanwhile", rows / (WINDOW.as_secs() * ROUNDS as u64));
}

fn report(what: &str, window: &Window) {
    let mut latencies = window.latencies.clone();
    latencies.sort_unstable();
    let at = |per_mille: usize| latencies[(latencies.len() - 1) * per_mille / 1_000];
    println!(
        "{what:<44} p50 {:.2?}, p99 {:.2?}, p99.9 {:.2?}, {:.0?} of CPU a request, {} of {} refused",
        at(500),
        at(990),
        at(999),
        window.cpu / u32::try_from(latencies.len()).expect("fewer requests"),
        window.refused,
        latencies.len()
    );
}

/// The gateway does it while it serves, in its pauses; here it is waited for.
fn fold(path: &Path) {
    let store = Store::open(path, Durability::Process).expect("a store");
    let (began, mut longest, mut rows) = (Instant::now(), Duration::ZERO, 0);
    loop {
        let step = Instant::now();
        let Step::Folded(more) = store.fold_hours(wall_now()).expect("folded hours") else { break };
        longest = longest.max(step.elapsed());
        rows += more;
    }
    println!(
        "{:<44} {:>10.1?}  {rows} rows, the longest step {longest:.1?}",
        "hours into days and months",
        began.elapsed()
    );
}

fn verify(path: &Path) {
    let began = Instant::now();
    let store = Store::existing(path, Durability::Process).expect("a store");
    let verdict = store.verify().expect("a verdict");
    for rule in verdict.rules.iter().filter(|rule| !rule.broken.is_empty()) {
        println!("BROKEN: {}: {:?}", rule.name, rule.broken);
    }
    println!("{:<44} {:>10.1?}  {} rows", "verify", began.elapsed(), verdict.requests);
}

fn make(path: &Path, samples: &Samples, rows: u64) {
    let store = Store::open(path, Durability::Process).expect("a store");
    let mut journal = store.journal().expect("a journal");
    let began = Instant::now();
    for (number, group) in month::groups(samples, rows).enumerate() {
        journal.append(&[group]).expect("a committed group");
        if number % 50 == 0 {
            journal.checkpoint().expect("a checkpoint");
        }
    }
    journal.close().expect("an orderly end");
    println!("{:<44} {:>10.0?}  {} keys", format!("{rows} rows made"), began.elapsed(), samples.keys);
}
