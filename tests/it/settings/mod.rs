//! The settings, from files that are really there.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod commands;
mod hostile;
mod layers;
mod mistakes;
mod online;
mod shipped;
mod watching;

use std::path::Path;

use aoai_gateway::settings::{Source, Variables, load};
use tempfile::TempDir;

/// A directory with these files.
fn directory(files: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}

/// That directory, and an environment with nothing but `KEY` in it.
fn source(directory: &Path) -> Source {
    Source { variables: Variables::given([("KEY", "abc")]), ..Source::new(directory) }
}

/// What a load says about the files, with the directory shown as `settings`.
fn found(files: &[(&str, &str)]) -> String {
    let directory = directory(files);
    let problems = match load(&source(directory.path())) {
        Ok(loaded) => loaded.warnings,
        Err(errors) => errors.problems,
    };
    let text: Vec<String> = problems.iter().map(ToString::to_string).collect();
    text.join("\n").replace(&directory.path().display().to_string(), "settings")
}
