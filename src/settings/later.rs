//! The settings that the documentation lists and this version does not act on yet. None is ignored silently: a value
//! that says what happens anyway is accepted, any other is a warning.
//!
//! A line leaves this table when the setting takes effect; nothing else has to change here.

use config::{Value, ValueKind};

use super::key_path::KeyPath;
use super::problem::{Place, Problem};

struct Later {
    /// The path, `*` for names that operators choose.
    pattern: &'static str,
    /// What happens instead.
    instead: &'static str,
}

const LATER: [Later; 1] =
    [Later { pattern: "server.trusted_proxies", instead: "no proxy's forwarding headers are trusted" }];

/// What of the table was met; a warning that many deployments share is given once.
#[derive(Default)]
pub(super) struct Seen {
    met: Vec<Met>,
}

struct Met {
    line: usize,
    path: KeyPath,
    place: Place,
    more: usize,
}

impl Seen {
    /// True when the table has the path; then it is dealt with.
    pub(super) fn look(&mut self, path: &KeyPath, value: &Value, place: impl FnOnce() -> Place) -> bool {
        let Some(line) = LATER.iter().position(|later| path.matches(later.pattern)) else { return false };
        if is_empty(&value.kind) {
            return true;
        }
        match self.met.iter_mut().find(|met| met.line == line) {
            Some(met) => met.more += 1,
            None => self.met.push(Met { line, path: path.clone(), place: place(), more: 0 }),
        }
        true
    }

    pub(super) fn problems(self) -> impl Iterator<Item = Problem> {
        self.met.into_iter().map(|met| {
            let path = met.path.to_string();
            let more = if met.more > 0 { format!(" ({} more like it)", met.more) } else { String::new() };
            let message = format!("`{path}` is not in effect in this version{more}: {}", LATER[met.line].instead);
            Problem::warning(path, met.place, message)
        })
    }
}

/// The keys of the table in the section of that pattern, for "did you mean".
pub(super) fn keys_of(section: &str) -> impl Iterator<Item = &'static str> {
    LATER.iter().filter_map(move |later| match later.pattern.rsplit_once('.') {
        Some((parent, key)) if parent == section => Some(key),
        Some(_) | None => None,
    })
}

/// An empty value asks for nothing.
fn is_empty(value: &ValueKind) -> bool {
    match value {
        ValueKind::String(text) => text.is_empty(),
        ValueKind::Array(list) => list.is_empty(),
        ValueKind::Table(table) => table.is_empty(),
        _ => false,
    }
}
