//! What the balancer achieves over real sockets, in figures: unequal deployments near their limits, overload, faults.
//!
//! Every test here runs in a short form that fails when the promise is broken, and, with `SCENARIOS=full`, for as long
//! as the figures need to mean something (`make scenarios`, which gathers them in `docs/scenarios.md`). The simulated
//! regions are the judges: what they journal is compared with what clients saw.

mod faults;
mod load;
mod overload;
mod unequal;

use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

/// How long a scenario takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Short,
    Full,
}

impl Form {
    fn asked_for() -> Self {
        match std::env::var("SCENARIOS").as_deref() {
            Ok("full") => Self::Full,
            Ok(other) => panic!("SCENARIOS is {other:?}; it may only be \"full\""),
            Err(_) => Self::Short,
        }
    }

    fn of<T>(self, short: T, full: T) -> T {
        match self {
            Self::Short => short,
            Self::Full => full,
        }
    }
}

/// One scenario's part of the report.
struct Report {
    file: &'static str,
    text: String,
}

impl Report {
    /// `file` orders the parts.
    fn new(file: &'static str, title: &str, about: &str) -> Self {
        Self { file, text: format!("## {title}\n\n{about}\n\n") }
    }

    fn table(&mut self, heads: &[&str]) {
        self.row(heads.iter().map(|head| (*head).to_owned()));
        self.row(heads.iter().map(|_| "---".to_owned()));
    }

    fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells: Vec<_> = cells.into_iter().collect();
        writeln!(self.text, "| {} |", cells.join(" | ")).unwrap();
    }

    /// To the terminal and, where one was named, to the folder of the parts.
    fn publish(&self) {
        println!("\n{}", self.text);
        if let Some(folder) = std::env::var_os("SCENARIOS_OUT").map(PathBuf::from) {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join(self.file), format!("{}\n", self.text)).unwrap();
        }
    }
}

fn percent(part: f64, whole: f64) -> String {
    format!("{:.2} %", 100.0 * part / whole)
}

fn milliseconds(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
}
