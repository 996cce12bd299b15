//! What gateways share on PostgreSQL, with a million requests in it: how quickly rows are brought there, and what questions
//! cost. A program that measures and prints, no test.
//!
//! `cargo bench --bench shared` starts a PostgreSQL of its own, as the tests do, makes the rows by the code that writes and
//! brings them over in production, and asks the real gateway over HTTP. In the environment: `ROWS=10000000` makes more (of
//! disk, a gigabyte for each million, twice), `KEYS=200` spreads them over more keys than 20, `DATABASE_URL=postgres://…`
//! uses that empty database.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock and its environment")]
#![expect(clippy::expect_used, reason = "a benchmark that fails shall stop")]

use std::path::Path;
use std::time::{Duration, Instant};

use aoai_gateway::domain::secret::Secret;
use aoai_gateway::domain::time::wall_now;
use aoai_gateway::settings::model::{Durability, Settings};
use aoai_gateway::storage::folding::Step;
use aoai_gateway::storage::{Projection, Store};
use diesel::connection::SimpleConnection;
use load::questions::{median_of_five, questions, told};
use load::{Gateway, month, number};
use samples::Samples;

#[expect(dead_code, reason = "nothing is loaded here")]
mod load;
#[expect(dead_code, clippy::panic, clippy::unwrap_used, reason = "the tests use more of it")]
#[path = "../tests/it/support/postgres.rs"]
mod postgres;
mod samples;

/// Groups between two looks at how far the server is: as much waits, as after a short outage.
const AHEAD: usize = 10;

fn main() {
    let samples = load::samples(number("KEYS", 20));
    let (given, mut own) = (std::env::var("DATABASE_URL").ok(), None);
    let url = given.unwrap_or_else(|| own.insert(postgres::Server::start()).database());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let journal = folder.path().join("journal.db");
    make(&journal, &url, &samples, number("ROWS", 1_000_000));
    // As its own housekeeping does sooner or later.
    postgres::connect(&url).batch_execute("VACUUM ANALYZE").expect("statistics");

    let settings = format!("[accounting]\njournal = \"{}\"\n", journal.display());
    let (gateway, took) = Gateway::start(&url, &settings);
    told("a start, until it is ready", took, Some(Duration::from_secs(2)));
    questions(&gateway, &samples);
    let key = gateway.key();
    for path in ["/v1/me", "/dashboard/billing/usage"] {
        told(&format!("a key's {path}"), median_of_five(|| drop(gateway.account(&key, path))), None);
    }
}

fn make(path: &Path, url: &str, samples: &Samples, rows: u64) {
    let mut settings = Settings::default();
    settings.database.path = path.to_owned();
    settings.database.server = Some(Secret::new(url));
    let store = Store::open(&settings.database, Durability::Process).expect("a store");
    let mut journal = store.journal().expect("a journal");
    let mut projection = store.projection().expect("a projection").expect("a server");
    let (began, mut bringing) = (Instant::now(), Duration::ZERO);
    for (number, group) in month::groups(samples, rows).enumerate() {
        journal.append(&[group]).expect("a committed group");
        if number % AHEAD == 0 {
            bringing += bring(&mut projection);
            journal.checkpoint().expect("a checkpoint");
        }
    }
    bringing += bring(&mut projection);
    journal.close().expect("an orderly end");
    println!("{:<44} {:>10.0?}  {} keys", format!("{rows} rows made"), began.elapsed(), samples.keys);
    let each = bringing.as_secs_f64() / rows as f64;
    println!("{:<44} {bringing:>10.0?}  {:.0} a second", "of it, bringing them over", 1.0 / each);
    let (began, mut folded) = (Instant::now(), 0);
    while let Step::Folded(more) = store.fold_hours(wall_now()).expect("folded hours") {
        folded += more;
    }
    println!("{:<44} {:>10.0?}  {folded} rows", "hours into days and months", began.elapsed());
}

fn bring(projection: &mut Projection) -> Duration {
    let began = Instant::now();
    while projection.step().expect("a batch that was brought over").done > 0 {}
    began.elapsed()
}
