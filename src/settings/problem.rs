//! One mistake in the settings: what is wrong, where, and what to do about it, for people (`Display`, in the style of
//! rustc) and for machines (the fields, and `Serialize`).
//!
//! A problem never carries a secret: the quoted source line is masked when it is made, not when it is shown.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::files::ContentHash;
use super::mask;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The settings are refused.
    Error,
    /// They take effect; someone should look.
    Warning,
}

impl Severity {
    pub fn label(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub severity: Severity,
    /// Dotted, quoted like TOML where needed; empty when it concerns a whole file or the directory.
    pub key: String,
    pub message: String,
    pub tip: Option<String>,
    pub place: Place,
}

/// Where the value that is wrong comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Line {
        file: PathBuf,
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        snippet: Snippet,
    },
    /// A file or the directory as a whole.
    Path(PathBuf),
    /// An environment variable, by name.
    Environment(String),
    /// A flag, by the key that it sets.
    Flag(String),
    /// Something that is missing everywhere.
    Nowhere,
}

/// The source line with what is underlined in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snippet {
    /// The masked line, printable.
    pub text: String,
    /// Characters of `text` before the underline.
    pub offset: usize,
    pub width: usize,
    /// Said beside the underline; may be empty.
    pub label: String,
}

impl Snippet {
    /// `offset` and `width` count characters of `line`; the result is masked, printable and of bounded length.
    pub fn new(line: &str, offset: usize, width: usize) -> Self {
        const LONGEST: usize = 160;
        let (masked, offset, width) = mask::source_line(line, offset, width);
        let skipped = if masked.chars().count() > LONGEST { offset.saturating_sub(40) } else { 0 };
        let text: String = masked.chars().skip(skipped).take(LONGEST).collect();
        let text = printable(&text);
        let offset = offset - skipped;
        let width = width.clamp(1, LONGEST.saturating_sub(offset).max(1));
        Self { text, offset, width, label: String::new() }
    }
}

/// What comes from a file must not steer the terminal.
fn printable(text: &str) -> String {
    let shown = |c: char| match c {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    text.chars().map(shown).collect()
}

impl Problem {
    pub fn error(key: impl Into<String>, place: Place, message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, key: key.into(), message: printable(&message.into()), tip: None, place }
    }

    pub fn warning(key: impl Into<String>, place: Place, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(key, place, message) }
    }

    pub fn tip(mut self, tip: impl Into<String>) -> Self {
        self.tip = Some(printable(&tip.into()));
        self
    }

    /// What is said beside the underline, where there is one.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        if let Place::Line { snippet, .. } = &mut self.place {
            snippet.label = label.into();
        }
        self
    }

    /// For logs and readiness: place and message, without the source line (which may hold a secret). Of tips only what
    /// was meant is told, which is a name that the gateway knows.
    pub fn in_one_line(&self) -> String {
        let meant = self.tip.as_deref().filter(|tip| tip.starts_with("did you mean"));
        let meant = meant.map_or_else(String::new, |tip| format!("; {tip}"));
        match &self.place {
            Place::Nowhere => format!("{}{meant}", self.message),
            place => format!("{place}: {}{meant}", self.message),
        }
    }

    pub fn file(&self) -> Option<&Path> {
        match &self.place {
            Place::Line { file, .. } | Place::Path(file) => Some(file),
            Place::Environment(_) | Place::Flag(_) | Place::Nowhere => None,
        }
    }

    pub fn line(&self) -> Option<usize> {
        match &self.place {
            Place::Line { line, .. } => Some(*line),
            Place::Path(_) | Place::Environment(_) | Place::Flag(_) | Place::Nowhere => None,
        }
    }

    pub fn column(&self) -> Option<usize> {
        match &self.place {
            Place::Line { column, .. } => Some(*column),
            Place::Path(_) | Place::Environment(_) | Place::Flag(_) | Place::Nowhere => None,
        }
    }
}

impl fmt::Display for Place {
    /// One phrase: `settings/20-x.toml:4:1`, `environment variable GATEWAY__…`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line { file, line, column, .. } => write!(f, "{}:{line}:{column}", file.display()),
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::Flag(key) => write!(f, "command line ({key})"),
            Self::Nowhere => Ok(()),
        }
    }
}

impl fmt::Display for Problem {
    /// A block of lines, the last one without a line feed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.severity.label(), self.message)?;
        let gutter = self.line().map_or(1, |line| line.to_string().len()) + 2;
        if self.place != Place::Nowhere {
            write!(f, "\n{:>gutter$}> {}", "--", self.place, gutter = gutter + 1)?;
        }
        if let Place::Line { line, snippet, .. } = &self.place {
            write!(f, "\n{:gutter$}|\n {line} | {}", "", snippet.text)?;
            write!(f, "\n{:gutter$}| {:offset$}", "", "", offset = snippet.offset)?;
            write!(f, "{}", "^".repeat(snippet.width))?;
            if !snippet.label.is_empty() {
                write!(f, " {}", snippet.label)?;
            }
        }
        match &self.tip {
            Some(tip) => write!(f, "\n{:gutter$}= tip: {tip}", ""),
            None => Ok(()),
        }
    }
}

impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("severity", self.severity.label())?;
        map.serialize_entry("key", &self.key)?;
        map.serialize_entry("message", &self.message)?;
        map.serialize_entry("tip", &self.tip)?;
        map.serialize_entry("file", &self.file().map(|file| file.display().to_string()))?;
        map.serialize_entry("line", &self.line())?;
        map.serialize_entry("column", &self.column())?;
        let variable = match &self.place {
            Place::Environment(name) => Some(name),
            Place::Line { .. } | Place::Path(_) | Place::Flag(_) | Place::Nowhere => None,
        };
        map.serialize_entry("variable", &variable)?;
        map.end()
    }
}

/// The settings were refused: every mistake that one pass finds, errors first, then warnings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsErrors {
    pub problems: Vec<Problem>,
    /// Of the files and secret files that were read: the same content fails the same way.
    pub content_hash: ContentHash,
}

/// A mistake for an answer to whoever asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    pub key: String,
    /// What is wrong, with its place and what to do.
    pub told: String,
    pub file: Option<String>,
    pub line: Option<usize>,
}

impl SettingsErrors {
    pub fn mistakes(&self) -> Vec<Mistake> {
        let errors = self.problems.iter().filter(|problem| problem.severity == Severity::Error);
        let told = errors.map(|problem| {
            let line = problem.in_one_line();
            Mistake {
                key: problem.key.clone(),
                told: problem.tip.as_ref().map_or(line.clone(), |tip| format!("{line}; {tip}")),
                file: problem.file().map(|file| file.display().to_string()),
                line: problem.line(),
            }
        });
        told.collect()
    }
}

impl fmt::Display for SettingsErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            writeln!(f, "{problem}")?;
        }
        f.write_str(&tally(&self.problems))
    }
}

impl std::error::Error for SettingsErrors {}

/// "2 errors, 1 warning"; "no errors, no warnings".
pub fn tally(problems: &[Problem]) -> String {
    let errors = problems.iter().filter(|problem| problem.severity == Severity::Error).count();
    format!("{}, {}", counted(errors, "error"), counted(problems.len() - errors, "warning"))
}

/// "no errors", "1 error", "2 errors".
pub(super) fn counted(count: usize, noun: &str) -> String {
    match count {
        0 => format!("no {noun}s"),
        1 => format!("1 {noun}"),
        count => format!("{count} {noun}s"),
    }
}
