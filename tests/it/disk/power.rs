//! Power cuts: what `durability = "power"` confirmed is there after any of them, and `"process"` makes no such promise.

use std::path::Path;
use std::process::{Command, Stdio};

use aoai_gateway::accounting::recorder::Recorder;
use aoai_gateway::domain::ids::RequestId;
use aoai_gateway::domain::money::Tariff;
use aoai_gateway::settings::model::Durability;
use aoai_gateway::storage::Store;
use aoai_gateway::storage::ledger::Progress;
use aoai_gateway::tripwire::Alarm;
use futures_util::future::join_all;

use super::replay::{self, Disk, Event};
use super::{on, shim};
use crate::ledger::{PRICE, intent, settlement, start};
use crate::support::gateway::eventually;

const DATABASE: &str = "POWER_TEST_DATABASE";
const MODE: &str = "POWER_TEST_MODE";
const CUTS: usize = 300;
/// All of the books are checked after one cut in so many.
const CHECKED: usize = 10;
const TASKS: u32 = 12;
const EACH: u32 = 50;

/// Not a test by itself: the process whose power is cut. It settles for a while and says what was confirmed.
#[test]
fn power_child() {
    let Some(path) = std::env::var_os(DATABASE) else { return };
    let durability = if std::env::var(MODE).unwrap() == "power" { Durability::Power } else { Durability::Process };
    actix::System::new().block_on(async {
        let store = Store::open(Path::new(&path), durability).unwrap();
        let books = start(&store, &Alarm::default());
        let recorder = books.recorder();
        join_all((0..TASKS).map(|n| live(recorder.clone(), n))).await;
    });
}

async fn live(recorder: Recorder, task: u32) {
    for n in 0..EACH {
        let entry = recorder.admit(intent()).unwrap();
        let id = entry.intent().id;
        if n % 4 == 0 {
            entry.durable().await.unwrap();
            entry.progress(Progress { id, resource: "eastus2".into(), deployment: "mini".into(), output_tokens: n });
        }
        let tokens = task * EACH + n;
        entry.settle(settlement(tokens)).await.unwrap();
        println!("\nsettled {id} {tokens}");
    }
}

/// What a process did to its disk, and the disk before.
fn record(folder: &Path, mode: &str) -> (Disk, Vec<Event>) {
    let (database, trace) = (folder.join("gateway.db"), folder.join("trace"));
    drop(Store::open(&database, Durability::Process).unwrap());
    // A connection may still be on its way into the pool: the last to close moves the log into the database.
    eventually(|| if database.with_extension("db-wal").exists() { Err("the log is there".to_owned()) } else { Ok(()) });
    let before = Disk::with(std::fs::read(&database).unwrap());
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "disk::power::power_child", "--nocapture", "--test-threads=1"]);
    child.env(DATABASE, &database).env(MODE, mode).env("DISK_SHIM_TRACE", &trace);
    on(&mut child, &shim(folder), &database);
    let ended = child.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    assert!(ended.success());
    (before, replay::read(&trace))
}

/// Acknowledged settlements that were gone, over all cuts, and how many were looked for.
fn lost_after_cuts(mode: &str, count: usize, seed: u64) -> (usize, usize) {
    let folder = tempfile::tempdir().unwrap();
    let (mut disk, events) = record(folder.path(), mode);
    let flushes = events.iter().filter(|event| matches!(event, Event::Flush { .. })).count();
    println!("{mode}: {} events, {flushes} flushes, SEED={seed}", events.len());
    let mut random = fastrand::Rng::with_seed(seed);
    let mut cuts: Vec<_> = (0..count).map(|_| random.usize(..=events.len())).collect();
    cuts.sort_unstable();
    let mut confirmed: Vec<(RequestId, i64)> = Vec::new();
    let (mut lost, mut looked, mut at) = (0, 0, 0);
    for (number, cut) in cuts.into_iter().enumerate() {
        for event in &events[at..cut] {
            disk.happen(event);
            if let Event::Said(text) = event {
                confirmed.extend(text.lines().filter_map(settled));
            }
        }
        at = cut;
        let after = folder.path().join(format!("after-{number}.db"));
        let [database, log] = disk.after_a_cut(&mut random);
        std::fs::write(&after, database).unwrap();
        std::fs::write(after.with_extension("db-wal"), log).unwrap();
        let store = Store::open(&after, Durability::Process).unwrap();
        store.recover(|_| Tariff::PerToken(PRICE)).unwrap();
        for (id, tokens) in &confirmed {
            looked += 1;
            let found = store.request(*id).unwrap();
            lost += usize::from(!found.is_some_and(|row| row.state == "settled" && row.output_tokens == *tokens));
        }
        if number % CHECKED != 0 {
            continue;
        }
        let verdict = store.verify().unwrap();
        assert!(verdict.holds() && verdict.open == 0, "after the cut at event {cut}: {verdict:#?}");
    }
    (lost, looked)
}

fn settled(line: &str) -> Option<(RequestId, i64)> {
    let (id, tokens) = line.strip_prefix("settled ")?.split_once(' ')?;
    Some((id.parse().ok()?, tokens.parse().ok()?))
}

#[test]
fn what_was_confirmed_survives_power_cuts_and_only_where_that_is_promised() {
    let seed = std::env::var("SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    let (lost, looked) = lost_after_cuts("power", CUTS, seed);
    println!("power: {looked} confirmed settlements looked for after {CUTS} cuts, {lost} lost");
    assert!(looked > CUTS * 50);
    assert_eq!(lost, 0);
    // The same cuts find what is not flushed: the test can fail.
    let (lost, looked) = lost_after_cuts("process", CUTS / 10, seed);
    println!("process: {looked} confirmed settlements looked for after {} cuts, {lost} lost", CUTS / 10);
    assert!(lost > looked / 10, "only {lost} of {looked}");
}
