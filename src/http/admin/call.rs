//! One request to the admin plane, as its handlers get it: who asks, for what, with which parameters and body.

use actix_web::http::header::{HeaderValue, LINK};
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use serde::Serialize;

use super::problem::Problem;
use super::queries;
use crate::http::admins::Administrator;
use crate::http::client_address;
use crate::http::dispatch::RequestLabel;
use crate::http::state::{House, Worker};
use crate::storage::audit::By;
use crate::storage::page::Page;

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
            address: client_address::of(self.request, &self.house().settings().server.trusted_proxies)
                .map(|address| address.to_string()),
            request_id: Some(self.label.as_str().to_owned()),
        }
    }
}

/// 200 with a page.
pub(super) fn listed<T: Serialize>(page: &Page<T>) -> HttpResponse {
    let mut answer = HttpResponse::Ok().json(page);
    if let Some(cursor) = &page.next_cursor {
        answer.extensions_mut().insert(Next(cursor.clone()));
    }
    answer
}

/// Where a list goes on.
struct Next(String);

/// Adds the address of the next page (RFC 8288) to an answer that is one; relative, because nobody here knows under which
/// name the client reaches us.
pub(super) fn linked(mut answer: HttpResponse, request: &HttpRequest) -> HttpResponse {
    let Some(Next(cursor)) = answer.extensions_mut().remove::<Next>() else { return answer };
    let mut query = Query::parse(request.query_string());
    query.0.retain(|(name, _)| name != "cursor");
    query.0.push(("cursor".to_owned(), cursor));
    let encoded = |text: &str| percent_encoding::utf8_percent_encode(text, ESCAPED).to_string();
    let pairs: Vec<_> = query.0.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
    let link = format!("<{}?{}>; rel=\"next\"", request.path(), pairs.join("&"));
    if let Ok(link) = HeaderValue::from_str(&link) {
        answer.headers_mut().insert(LINK, link);
    }
    answer
}

const ESCAPED: &percent_encoding::AsciiSet =
    &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b',');

/// One page of a list by name.
pub(super) fn page_of_names<T>(
    mut names: Vec<T>,
    text: impl Fn(&T) -> &str,
    query: &Query,
) -> Result<Page<T>, Problem> {
    let size = queries::limit(query)?;
    if let Some(cursor) = query.get("cursor") {
        names.retain(|name| text(name) > cursor);
    }
    let more = names.len() > size;
    names.truncate(size);
    let next_cursor = names.last().filter(|_| more).map(|name| text(name).to_owned());
    Ok(Page { data: names, has_more: more, next_cursor })
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

    /// `Accept: text/csv` asks as `format=csv` does, where there is a choice and the query says nothing of it.
    pub(super) fn accepting(mut self, accept: Option<&HeaderValue>, allowed: &[&str]) -> Self {
        let first = accept.and_then(|accept| accept.to_str().ok()?.split([',', ';']).next());
        if allowed.contains(&"format")
            && self.get("format").is_none()
            && first.is_some_and(|first| first.trim().eq_ignore_ascii_case("text/csv"))
        {
            self.0.push(("format".to_owned(), "csv".to_owned()));
        }
        self
    }

    /// Refuses what would be ignored silently.
    pub(super) fn only(&self, allowed: &[&str]) -> Result<(), Problem> {
        match self.0.iter().find(|(name, _)| !allowed.contains(&name.as_str())) {
            None => Ok(()),
            Some((name, _)) => Err(Problem::unknown_parameter(name, allowed)),
        }
    }
}
