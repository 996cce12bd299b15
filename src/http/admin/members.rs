//! Reading a JSON body member by member, so that every mistake is named in one answer, with its JSON pointer.

use serde_json::{Map, Value};

use super::call::printable;
use super::problem::{FieldError, Problem, did_you_mean};
use crate::domain::time::WallTime;

/// Why a body was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// It is not a JSON object.
    Body(String),
    Members(Vec<FieldError>),
}

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Body(why) => f.write_str(why),
            Self::Members(errors) => {
                let lines: Vec<_> = errors.iter().map(FieldError::to_string).collect();
                f.write_str(&lines.join("; "))
            }
        }
    }
}

impl From<Unreadable> for Problem {
    fn from(unreadable: Unreadable) -> Self {
        match unreadable {
            Unreadable::Body(why) => Self::bad_request(why),
            Unreadable::Members(errors) => Self::invalid(errors),
        }
    }
}

/// The members of a body; none where an empty body is as good as `{}`.
pub(super) fn object(body: &[u8]) -> Result<Map<String, Value>, Unreadable> {
    let value: Value =
        serde_json::from_slice(body).map_err(|error| Unreadable::Body(format!("the body is not JSON: {error}")))?;
    match value {
        Value::Object(members) => Ok(members),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err(Unreadable::Body("the body must be a JSON object".to_owned()))
        }
    }
}

/// Collects what is wrong.
#[derive(Default)]
pub(super) struct Reader {
    pub errors: Vec<FieldError>,
    pub warnings: Vec<String>,
}

impl Reader {
    pub(super) fn wrong(&mut self, pointer: &str, detail: &str) {
        self.errors.push(FieldError { pointer: pointer.to_owned(), detail: detail.to_owned() });
    }

    /// What was read, unless something is wrong.
    pub(super) fn done<T>(self, value: T) -> Result<(T, Vec<String>), Unreadable> {
        if self.errors.is_empty() { Ok((value, self.warnings)) } else { Err(Unreadable::Members(self.errors)) }
    }

    pub(super) fn only(&mut self, members: &Map<String, Value>, at: &str, allowed: &[&str]) {
        for name in members.keys().filter(|name| !allowed.contains(&name.as_str())) {
            let pointer = format!("{at}/{}", printable(name).replace('~', "~0").replace('/', "~1"));
            self.wrong(&pointer, &format!("unknown field; {}", did_you_mean(name, allowed)));
        }
    }

    pub(super) fn text(&mut self, members: &Map<String, Value>, name: &str) -> Option<String> {
        match members.get(name)? {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                self.wrong(&format!("/{name}"), "expected a string");
                None
            }
        }
    }

    /// A text that people read: it ends no line of a log, a table or a header.
    pub(super) fn label(&mut self, members: &Map<String, Value>, name: &str) -> Option<String> {
        let text = self.text(members, name)?;
        if text.trim().is_empty() || text.chars().count() > 200 || text.chars().any(char::is_control) {
            self.wrong(&format!("/{name}"), "expected 1 to 200 characters without control characters");
            return None;
        }
        Some(text)
    }

    /// A label that must be there.
    pub(super) fn name(&mut self, members: &Map<String, Value>) -> String {
        if members.get("name").is_none_or(Value::is_null) {
            self.wrong("/name", "expected a name of 1 to 200 characters");
        }
        self.label(members, "name").unwrap_or_default()
    }

    pub(super) fn time(&mut self, members: &Map<String, Value>, name: &str) -> Option<WallTime> {
        let text = self.text(members, name)?;
        match text.parse::<jiff::Timestamp>() {
            Ok(at) => Some(WallTime(at.as_microsecond())),
            Err(_) => {
                self.wrong(&format!("/{name}"), "expected a time such as 2027-06-30T00:00:00Z");
                None
            }
        }
    }
}
