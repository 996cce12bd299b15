//! Where a secret comes from: `env:NAME`, `file:/path` (read again at each load), or clear text.

use std::path::{Path, PathBuf};

use super::files::Target;
use super::reader::Section;
use crate::domain::secret::Secret;

/// What it means that a secret cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    Refused,
    /// For what is switched off: it is left out.
    Tolerated,
}

/// The secret of a key; None when it is not set or was refused, which then has been noted.
pub(super) fn read(section: &Section<'_>, key: &'static str, missing: Missing) -> Option<Secret> {
    let text = section.text(key, "text such as \"env:NAME\" or \"file:/path\"")?;
    resolve(section, key, text, missing)
}

/// The same for a text that is not in the settings, but as good as.
pub(super) fn resolve(section: &Section<'_>, key: &str, text: &str, missing: Missing) -> Option<Secret> {
    let path = section.path.child(key);
    let refuse = |message: String, tip: &str| {
        let problem = match missing {
            Missing::Refused => section.reader.error(&path, Target::Value, message),
            Missing::Tolerated => section.reader.warning(&path, Target::Value, message),
        };
        section.reader.note(problem.tip(tip));
        None
    };
    let (secret, source) = if let Some(name) = text.strip_prefix("env:") {
        match section.reader.variables.get(name) {
            Some(value) => (value, format!("environment variable {name}")),
            None => {
                return refuse(
                    format!("`{path}`: {name} is not set in this process"),
                    "containers need a restart for new environment; \"file:\" secrets are re-read live",
                );
            }
        }
    } else if let Some(file) = text.strip_prefix("file:") {
        match read_file(section, Path::new(file)) {
            Ok(value) => (value, format!("file {file}")),
            Err(error) => {
                return refuse(
                    format!("`{path}`: the file {file} cannot be read: {error}"),
                    "the path is seen from inside the container, and relative to the working directory",
                );
            }
        }
    } else {
        (text.to_owned(), "value".to_owned())
    };
    let secret = secret.trim();
    if secret.is_empty() {
        return refuse(format!("`{path}`: the {source} is empty"), "write \"env:NAME\" or \"file:/path\"");
    }
    // It is sent in a header: anything else could not be, or would end the header.
    if !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
        return refuse(
            format!("`{path}`: the {source} holds a character that cannot be part of a key"),
            "a secret is one word; look for a space, a quote or a second line",
        );
    }
    // From the environment or a flag, clear text is in no file that could be committed.
    if source == "value" && !section.is_text_only(&path) && !section.reader.is_foreign(&path) {
        let message = format!("`{path}` is written in clear");
        section.reader.note(
            section
                .reader
                .warning(&path, Target::Value, message)
                .tip("prefer \"env:NAME\" or \"file:/run/secrets/NAME\""),
        );
    }
    Some(Secret::new(secret))
}

fn read_file(section: &Section<'_>, path: &Path) -> Result<String, String> {
    let mut seen = section.reader.secret_files.borrow_mut();
    let content = std::fs::read(path);
    let remembered = match &content {
        Ok(bytes) => bytes.clone(),
        Err(error) => error.to_string().into_bytes(),
    };
    seen.push((PathBuf::from(path), remembered));
    let bytes = content.map_err(|error| error.to_string())?;
    String::from_utf8(bytes).map_err(|_| "it is not text".to_owned())
}
