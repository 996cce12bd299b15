//! Lists of requests, and what the database looks at for one.
//!
//! By key, `x-request-id`, time and for what is open it goes straight to the rows. For what only the rows themselves can
//! tell (user, model, another state) a page looks at a bounded number of them: it may then be short, or empty, and still
//! have more after it. An index for each would cost every request of every gateway more than the list is worth.

use std::time::Duration;

use diesel::dsl::sql;
use diesel::expression::SqlLiteral;
use diesel::prelude::*;
use diesel::sql_types::Bool;

use super::cells::NAMED_BEFORE;
use super::connection::StoreConnection;
use super::keys::read_id;
use super::ledger::RequestState;
use super::page::{Cursor, Page, PageSize};
use super::requests::{RequestView, Row, with_attempts};
use super::schema::requests;
use super::{StorageError, Store};
use crate::domain::ids::{KeyId, RequestId, UserId};
use crate::domain::time::WallTime;

/// Which requests; what is None does not matter.
#[derive(Clone, Debug, Default)]
pub struct RequestFilter {
    pub key: Option<KeyId>,
    pub user: Option<UserId>,
    /// The `x-request-id`, or a request's own id.
    pub request_id: Option<String>,
    pub model: Option<String>,
    pub state: Option<RequestState>,
    /// Began at or after.
    pub from: Option<WallTime>,
    /// Began before.
    pub to: Option<WallTime>,
}

/// Rows that a page looks at, where no index says which ones it wants.
const LOOKED_AT: i64 = 20_000;
/// Requests of one `x-request-id` that a page looks at.
const NAMESAKES: usize = 500;

impl Store {
    /// Newest first.
    pub fn requests(
        &self,
        filter: &RequestFilter,
        cursor: Option<Cursor>,
        size: PageSize,
    ) -> Result<Page<RequestView>, StorageError> {
        // What is open is in the journal of the gateway that admitted it, and nowhere else.
        let open = filter.state == Some(RequestState::Open);
        // Whoever reads on is not shown what began since.
        if cursor.is_none() && (open || filter.state.is_none()) {
            self.show_open_if_possible();
        }
        let connection = &mut *if open { self.file_reader()? } else { self.reader()? };
        let named = match &filter.request_id {
            Some(text) => Some(RequestFilter::named(text, cursor, connection)?),
            None => None,
        };
        let end = filter.end_of_page(named.as_deref(), cursor, connection)?;
        let mut query = filter.found(cursor).select(Row::as_select()).limit(size.with_one_more());
        if let Some(ids) = named {
            if ids.is_empty() {
                return Ok(Page { data: Vec::new(), has_more: false, next_cursor: None });
            }
            query = query.filter(requests::id.eq_any(ids));
        }
        if let Some(end) = &end {
            query = query.filter(requests::id.ge(end.as_slice()));
        }
        if let Some(user) = filter.user {
            query = query.filter(requests::user_id.eq(user.0.as_bytes().to_vec()));
        }
        if let Some(model) = &filter.model {
            query = query.filter(requests::model.eq(model));
        }
        if let Some(state) = filter.state.filter(|_| !open) {
            query = query.filter(requests::state.eq(state.label()));
        }
        let rows: Vec<Row> = query.load(connection)?;
        let views = with_attempts(connection, rows)?;
        let page = Page::cut(views, size, |view| Cursor::after(view.id.0));
        match end {
            Some(end) if !page.has_more => {
                let next = Cursor::after(read_id(&end, "requests.id")?).to_string();
                Ok(Page { has_more: true, next_cursor: Some(next), ..page })
            }
            Some(_) | None => Ok(page),
        }
    }
}

/// What is open, in the words of the index that has it.
pub(super) fn is_open() -> SqlLiteral<Bool> {
    sql("state = 'open'")
}

type Rows<'a> = requests::BoxedQuery<'a, <StoreConnection as diesel::Connection>::Backend>;

impl RequestFilter {
    /// What an index leads to, in the order of the pages.
    fn found<'a>(&self, cursor: Option<Cursor>) -> Rows<'a> {
        use requests as t;
        let mut query = t::table.order(t::id.desc()).into_boxed();
        if let Some(cursor) = &cursor {
            query = query.filter(t::id.lt(cursor.bytes()));
        }
        if let Some(key) = self.key {
            query = query.filter(t::key_id.eq(key.0.as_bytes().to_vec()));
        }
        if self.state == Some(RequestState::Open) {
            query = query.filter(is_open());
        }
        // Ids tell the time: what lies outside is not even looked at.
        if let Some(from) = self.from {
            let first = RequestId::first_of(from.before(NAMED_BEFORE));
            query = query.filter(t::id.ge(first.0.as_bytes().to_vec())).filter(t::started_at.ge(from.0));
        }
        if let Some(to) = self.to {
            let end = RequestId::first_of(to.after(Duration::from_millis(1)));
            query = query.filter(t::id.lt(end.0.as_bytes().to_vec())).filter(t::started_at.lt(to.0));
        }
        query
    }

    /// The newest requests with the text as their `x-request-id`, and the one whose own id it is.
    fn named(text: &str, cursor: Option<Cursor>, connection: &mut StoreConnection) -> QueryResult<Vec<Vec<u8>>> {
        let mut query = requests::table.filter(requests::request_id.eq(text)).order(requests::id.desc()).into_boxed();
        if let Some(cursor) = &cursor {
            query = query.filter(requests::id.lt(cursor.bytes()));
        }
        let mut ids: Vec<Vec<u8>> = query.select(requests::id).limit(NAMESAKES as i64).load(connection)?;
        ids.extend(text.parse::<RequestId>().ok().map(|id| id.0.as_bytes().to_vec()));
        Ok(ids)
    }

    /// Where the page ends at the latest; none where it cannot be long, or few rows are left.
    fn end_of_page(
        &self,
        named: Option<&[Vec<u8>]>,
        cursor: Option<Cursor>,
        connection: &mut StoreConnection,
    ) -> QueryResult<Option<Vec<u8>>> {
        match named {
            Some(ids) => Ok(ids.get(NAMESAKES - 1).cloned()),
            None => {
                let closed = self.state.is_some_and(|state| state != RequestState::Open);
                if self.user.is_none() && self.model.is_none() && !closed {
                    return Ok(None);
                }
                self.found(cursor).select(requests::id).offset(LOOKED_AT).first(connection).optional()
            }
        }
    }
}

#[cfg(test)]
mod tests;
