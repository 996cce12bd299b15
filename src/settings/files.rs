//! The directory: which files are read, in which order, and where in them a setting stands.
//!
//! It reads and parses; what the settings mean is decided elsewhere.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use toml_edit::{Document, Item, TableLike};

use super::key_path::KeyPath;
use super::problem::{Place, Problem, Snippet};

/// Of everything that was read from disk; equal means that nothing changed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ContentHash(pub [u8; 32]);

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The files of the directory in the order in which they count, later ones over earlier ones.
#[derive(Default)]
pub(super) struct Files {
    pub(super) files: Vec<File>,
    /// Of these and of those that could not be read, in the same order.
    paths: Vec<PathBuf>,
    /// Unreadable or unparsable files, a missing directory, arrays of tables.
    pub(super) problems: Vec<Problem>,
    /// A file's content is unknown, so that nothing can be called missing.
    pub(super) incomplete: bool,
    hasher: Sha256,
}

pub(super) struct File {
    pub(super) path: PathBuf,
    pub(super) document: Document<String>,
}

/// Which part of a setting is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Key,
    Value,
}

impl Files {
    pub(super) fn read(directory: &Path) -> Self {
        let mut files = Self::default();
        match names(directory) {
            Ok(names) => {
                if names.is_empty() {
                    files.note_nothing_there(directory, "has no .toml file");
                }
                for name in names {
                    files.read_one(directory.join(name));
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                files.note_nothing_there(directory, "does not exist");
            }
            Err(error) => {
                files.incomplete = true;
                files.problems.push(
                    Problem::error("", Place::Path(directory.into()), format!("the settings cannot be read: {error}"))
                        .tip("`--settings` names a directory of .toml files"),
                );
                files.hash_part(directory, error.to_string().as_bytes());
            }
        }
        files
    }

    /// Of the files read so far and of these secrets' files.
    pub(super) fn content_hash<'a>(&self, secrets: impl Iterator<Item = (&'a Path, &'a [u8])>) -> ContentHash {
        let mut hasher = self.hasher.clone();
        for (path, content) in secrets {
            hash_part(&mut hasher, path, content);
        }
        ContentHash(hasher.finalize().into())
    }

    /// Where the file stands in the order; what is no file comes after them.
    pub(super) fn position(&self, path: Option<&Path>) -> usize {
        path.and_then(|path| self.paths.iter().position(|own| own == path)).unwrap_or(self.paths.len())
    }

    /// The place of a setting in the last file that has it.
    pub(super) fn place(&self, path: &KeyPath, target: Target) -> Option<Place> {
        self.files.iter().rev().find_map(|file| file.place(path, target))
    }

    fn note_nothing_there(&mut self, directory: &Path, what: &str) {
        let message = format!("the settings directory {what}: the built-in defaults are in effect");
        self.problems.push(
            Problem::warning("", Place::Path(directory.into()), message)
                .tip("`--settings DIR` names another one; a file like 20-region.toml adds an Azure resource"),
        );
        self.hash_part(directory, what.as_bytes());
    }

    fn read_one(&mut self, path: PathBuf) {
        self.paths.push(path.clone());
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) => {
                self.hash_part(&path, error.to_string().as_bytes());
                return self.refuse(Problem::error("", Place::Path(path), format!("the file cannot be read: {error}")));
            }
        };
        self.hash_part(&path, &bytes);
        let text = match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                let good = error.utf8_error().valid_up_to();
                let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
                let place = place_of(&path, &text, good..good);
                return self.refuse(Problem::error("", place, "the file is not UTF-8 text"));
            }
        };
        match Document::parse(text.clone()) {
            Ok(document) => {
                let file = File { path, document };
                self.problems.extend(file.arrays_of_tables());
                self.files.push(file);
            }
            Err(error) => {
                let place = place_of(&path, &text, error.span().unwrap_or(0..0));
                self.refuse(Problem::error("", place, format!("not valid TOML: {}", one_line(error.message()))));
            }
        }
    }

    fn refuse(&mut self, problem: Problem) {
        self.incomplete = true;
        self.problems.push(problem);
    }

    fn hash_part(&mut self, path: &Path, content: &[u8]) {
        hash_part(&mut self.hasher, path, content);
    }
}

/// Lengths go in too, so that moving a byte from one file to the next is a change.
fn hash_part(hasher: &mut Sha256, path: &Path, content: &[u8]) {
    for part in [path.as_os_str().as_encoded_bytes(), content] {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
}

/// `*.toml` in name order, `*.local.toml` after the others; hidden files (editors, `..data`) are not settings.
fn names(directory: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        // Follows links: a ConfigMap's files are links.
        if name.ends_with(".toml") && !name.starts_with('.') && entry.path().is_file() {
            names.push(name);
        }
    }
    names.sort_by_key(|name| (name.ends_with(".local.toml"), name.clone()));
    Ok(names)
}

impl File {
    fn place(&self, path: &KeyPath, target: Target) -> Option<Place> {
        let mut table: &dyn TableLike = self.document.as_table();
        let (name, parents) = path.segments().split_last()?;
        for parent in parents {
            let (key, item) = table.get_key_value(parent)?;
            if let Some(list) = item.as_array() {
                let span = name.parse().ok().and_then(|at: usize| list.get(at)).and_then(|value| value.span());
                return Some(self.place_at(span.or_else(|| key.span())?));
            }
            table = item.as_table_like()?;
        }
        let (key, item) = table.get_key_value(name)?;
        let value = if item.is_value() { item.span() } else { None };
        let span = match target {
            Target::Key => key.span().or(value),
            Target::Value => value.or_else(|| key.span()),
        };
        Some(self.place_at(span?))
    }

    fn place_at(&self, span: Range<usize>) -> Place {
        place_of(&self.path, self.document.raw(), span)
    }

    /// `config` replaces arrays whole, so `[[resources]]` in one file would delete another file's regions.
    fn arrays_of_tables(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        self.find_arrays_of_tables(self.document.as_table(), &KeyPath::default(), &mut problems);
        problems
    }

    fn find_arrays_of_tables(&self, table: &dyn TableLike, path: &KeyPath, problems: &mut Vec<Problem>) {
        for (name, item) in table.iter() {
            let path = path.child(name);
            if let Item::ArrayOfTables(_) = item {
                let place = self.place(&path, Target::Key).unwrap_or_else(|| Place::Path(self.path.clone()));
                problems.push(
                    Problem::error(path.to_string(), place, format!("`[[{path}]]` is an array of tables"))
                        .label("settings are keyed tables, so that each file can add its own")
                        .tip(match path.segments().len() {
                            1 => format!("give each entry a name: `[{path}.NAME]`"),
                            _ => format!("write `[{path}]` with a key for each entry"),
                        }),
                );
            } else if let Some(inner) = item.as_table_like() {
                self.find_arrays_of_tables(inner, &path, problems);
            }
        }
    }
}

/// The line and column of a byte range; of a range over several lines, the first one.
fn place_of(path: &Path, text: &str, span: Range<usize>) -> Place {
    let start = floor_boundary(text, span.start);
    let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
    let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
    let end = floor_boundary(text, span.end).clamp(start, line_end);
    let line = text[line_start..line_end].trim_end_matches('\r');
    let offset = text[line_start..start].chars().count();
    let width = text[start..end].trim_end().chars().count();
    Place::Line {
        file: path.to_owned(),
        line: text[..line_start].matches('\n').count() + 1,
        column: offset + 1,
        snippet: Snippet::new(line.trim_start_matches('\u{feff}'), offset, width),
    }
}

fn floor_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}
