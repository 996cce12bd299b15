//! One request to the admin plane, as its handlers get it: who asks, for what, with which parameters and body.

use actix_web::HttpRequest;
use bytes::Bytes;

use super::problem::Problem;
use super::queries;
use crate::http::admins::Administrator;
use crate::http::dispatch::RequestLabel;
use crate::http::state::{House, Worker};
use crate::storage::audit::By;

pub(super) struct Call<'a> {
    pub request: &'a HttpRequest,
    pub worker: &'a Worker,
    pub label: &'a RequestLabel,
    pub who: Administrator,
    pub query: Query,
    /// What stands in the path for `{…}`; empty where there is none.
    pub id: &'a str,
    /// For the second `{…}`.
    pub below: &'a str,
    pub body: Bytes,
}

impl Call<'_> {
    pub(super) fn house(&self) -> &House {
        &self.worker.house
    }

    /// For the audit.
    pub(super) fn by(&self) -> By {
        By {
            actor: self.who.label(),
            name: self.who.name.clone(),
            address: self.request.peer_addr().map(|address| address.ip().to_canonical().to_string()),
            request_id: Some(self.label.as_str().to_owned()),
        }
    }
}

/// One page of a list by name, and the cursor to the next.
pub(super) fn page_of_names<T>(
    mut names: Vec<T>,
    text: impl Fn(&T) -> &str,
    query: &Query,
) -> Result<(Vec<T>, Option<String>), Problem> {
    let size = queries::limit(query)?;
    if let Some(cursor) = query.get("cursor") {
        names.retain(|name| text(name) > cursor);
    }
    let more = names.len() > size;
    names.truncate(size);
    let next = names.last().filter(|_| more).map(|name| text(name).to_owned());
    Ok((names, next))
}

/// A stranger's text inside a message.
pub(super) fn printable(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(100).collect()
}

/// The query string's pairs, decoded.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn parse(text: &str) -> Self {
        let decode = |part: &str| {
            let spaced = part.replace('+', " ");
            percent_encoding::percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
        };
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        });
        Self(pairs.collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Refuses what would be ignored silently.
    pub(super) fn only(&self, allowed: &[&str]) -> Result<(), Problem> {
        match self.0.iter().find(|(name, _)| !allowed.contains(&name.as_str())) {
            None => Ok(()),
            Some((name, _)) => Err(Problem::unknown_parameter(name, allowed)),
        }
    }
}
