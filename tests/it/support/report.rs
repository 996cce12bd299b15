//! Figures that tests find, for people: to the terminal and, with `SCENARIOS_OUT`, to the folder of which
//! `make scenarios` makes a document.

use std::fmt::Write;
use std::path::PathBuf;

/// One scenario's part of the report.
pub struct Report {
    file: &'static str,
    pub text: String,
}

impl Report {
    /// `file` orders the parts.
    pub fn new(file: &'static str, title: &str, about: &str) -> Self {
        Self { file, text: format!("## {title}\n\n{about}\n\n") }
    }

    pub fn table(&mut self, heads: &[&str]) {
        self.row(heads.iter().map(|head| (*head).to_owned()));
        self.row(heads.iter().map(|_| "---".to_owned()));
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells: Vec<_> = cells.into_iter().collect();
        writeln!(self.text, "| {} |", cells.join(" | ")).unwrap();
    }

    /// To the terminal and, where one was named, to the folder of the parts.
    pub fn publish(&self) {
        println!("\n{}", self.text);
        if let Some(folder) = std::env::var_os("SCENARIOS_OUT").map(PathBuf::from) {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join(self.file), format!("{}\n", self.text)).unwrap();
        }
    }
}
