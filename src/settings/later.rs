//! The settings that the documentation lists and this version does not act on yet. None is ignored silently: a value
//! that says what happens anyway is accepted, any other is a warning where ignoring it does no harm, and an error
//! where an operator would rely on it.
//!
//! A line leaves this table when the setting takes effect; nothing else has to change here.

use config::{Value, ValueKind};

use super::key_path::KeyPath;
use super::problem::{Place, Problem, Severity};

struct Later {
    /// The path, `*` for names that operators choose.
    pattern: &'static str,
    severity: Severity,
    accepted: Accepted,
    /// What happens instead.
    instead: &'static str,
}

/// The values that describe what this version does.
enum Accepted {
    Nothing,
    Text(&'static [&'static str]),
    /// An empty text, list or table.
    Empty,
}

const fn warns(pattern: &'static str, accepted: Accepted, instead: &'static str) -> Later {
    Later { pattern, severity: Severity::Warning, accepted, instead }
}

const fn refused(pattern: &'static str, accepted: Accepted, instead: &'static str) -> Later {
    Later { pattern, severity: Severity::Error, accepted, instead }
}

const LATER: [Later; 3] = [
    warns("server.trusted_proxies", Accepted::Empty, "no proxy's forwarding headers are trusted"),
    warns("accounting.keep_requests", Accepted::Nothing, "request rows are kept without end"),
    refused("accounting.on_disconnect", Accepted::Text(&["cancel"]), "a request whose client left is cancelled"),
];

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
        if LATER[line].accepted.includes(&value.kind) {
            return true;
        }
        let shared = self.met.iter_mut().find(|met| met.line == line);
        match (LATER[line].severity, shared) {
            (Severity::Warning, Some(met)) => met.more += 1,
            (Severity::Warning, None) | (Severity::Error, _) => {
                self.met.push(Met { line, path: path.clone(), place: place(), more: 0 });
            }
        }
        true
    }

    pub(super) fn problems(self) -> impl Iterator<Item = Problem> {
        self.met.into_iter().map(|met| {
            let Later { severity, accepted, instead, .. } = &LATER[met.line];
            let path = met.path.to_string();
            match severity {
                Severity::Error => {
                    let message = format!("`{path}` is not supported by this version: {instead}");
                    Problem::error(path, met.place, message).tip(accepted.advice())
                }
                Severity::Warning => {
                    let more = if met.more > 0 { format!(" ({} more like it)", met.more) } else { String::new() };
                    let message = format!("`{path}` is not in effect in this version{more}: {instead}");
                    Problem::warning(path, met.place, message)
                }
            }
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

impl Accepted {
    fn includes(&self, value: &ValueKind) -> bool {
        match (self, value) {
            (Self::Text(texts), ValueKind::String(text)) => texts.contains(&text.as_str()),
            (Self::Empty, ValueKind::String(text)) => text.is_empty(),
            (Self::Empty, ValueKind::Array(list)) => list.is_empty(),
            (Self::Empty, ValueKind::Table(table)) => table.is_empty(),
            (Self::Nothing | Self::Text(_) | Self::Empty, _) => false,
        }
    }

    fn advice(&self) -> String {
        match self {
            Self::Nothing | Self::Empty => "remove the line".to_owned(),
            Self::Text(texts) => format!("remove the line, or write \"{}\"", texts.first().unwrap_or(&"")),
        }
    }
}
