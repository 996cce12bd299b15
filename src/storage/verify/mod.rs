//! Checks of the books against themselves, in one snapshot, also beside a running gateway.
//!
//! What other books say (Azure's bill, a client's log, the head of the chain that the metrics told) is looked at only as
//! far as it is given. Open requests are no mistake: beside a running gateway they are in flight, and without one the
//! next start closes them.

mod chain;
mod rules;

use std::fmt;
use std::str::FromStr;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use serde::Serialize;

use super::chain::Head;
use super::connection::StoreConnection;
use super::lock::Served;
use super::{StorageError, Store, meta};
use rules::CHECKS;

/// Examples named per broken rule.
const EXAMPLES: usize = 5;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    pub rules: Vec<Rule>,
    /// Requests looked at.
    pub requests: i64,
    /// Of them still open.
    pub open: i64,
    /// Of them closed by a version that linked none: changes of these are not noticed.
    pub unchained: i64,
    /// How far the newest chain goes, as the metrics tell it and `verify --head` takes it.
    pub head: Option<String>,
    /// Whether a gateway serves the file at the moment.
    pub gateway_running: bool,
}

/// One thing that must be true.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rule {
    pub name: &'static str,
    /// In words, for people.
    pub says: &'static str,
    /// Where it is not so, and what was expected; empty: it holds.
    pub broken: Vec<String>,
    /// What to do when it is broken.
    pub next_step: &'static str,
}

/// A place in a chain and what its hash begins with: `CHAIN:ROWS:HEAD`, three numbers as the metrics
/// `ledger_chain_number`, `_rows` and `_head` tell them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    chain: i64,
    row: i64,
    mark: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a head is CHAIN:ROWS:HEAD, three numbers, such as 3:1042:193846712304981")]
pub struct InvalidAnchor;

impl FromStr for Anchor {
    type Err = InvalidAnchor;

    fn from_str(text: &str) -> Result<Self, InvalidAnchor> {
        let numbers: Result<Vec<i64>, _> = text.split(':').map(str::parse).collect();
        match numbers.as_deref() {
            Ok([chain, row, mark]) if *chain > 0 && *row >= 0 && *mark >= 0 => {
                Ok(Self { chain: *chain, row: *row, mark: mark.unsigned_abs() })
            }
            Ok(_) | Err(_) => Err(InvalidAnchor),
        }
    }
}

impl From<Head> for Anchor {
    fn from(head: Head) -> Self {
        Self { chain: head.chain(), row: head.row(), mark: head.mark() }
    }
}

impl fmt::Display for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.chain, self.row, self.mark)
    }
}

#[derive(QueryableByName)]
struct Example {
    #[diesel(sql_type = Text)]
    example: String,
}

#[derive(QueryableByName)]
struct Counts {
    #[diesel(sql_type = BigInt)]
    requests: i64,
    #[diesel(sql_type = BigInt)]
    open: i64,
}

impl Verdict {
    pub fn holds(&self) -> bool {
        self.rules.iter().all(|rule| rule.broken.is_empty())
    }
}

impl Store {
    /// Reads everything: seconds for a large file. Writers are not held up.
    pub fn verify(&self) -> Result<Verdict, StorageError> {
        self.verify_against(None)
    }

    /// As `verify`; `head` is what the chain must contain, as someone else remembers it.
    pub fn verify_against(&self, head: Option<Anchor>) -> Result<Verdict, StorageError> {
        if !self.path().exists() {
            return Err(StorageError::Missing { path: self.path().to_owned() });
        }
        self.show_open_if_possible();
        let gateway_running = self.served() == Served::ByAGateway;
        let shared = self.verify_shared()?;
        self.file_reader()?.transaction(|connection| {
            let mut rules = CHECKS
                .into_iter()
                .map(|check| {
                    let examples: Vec<Example> = diesel::sql_query(check.statement).load(connection)?;
                    let broken = shorten(examples.into_iter().map(|row| row.example).collect());
                    Ok(Rule { name: check.name, says: check.says, broken, next_step: check.next_step })
                })
                .collect::<Result<Vec<_>, StorageError>>()?;
            rules.push(left_open(connection, gateway_running)?);
            rules.extend(shared);
            let found = chain::check(connection, head)?;
            rules.push(Rule {
                name: "chain",
                says: "closed requests are what was written, all of them, in the order in which they were written",
                broken: shorten(found.broken),
                next_step: "somebody changed the file, or restored an older copy of it: compare it with a backup, and the \
                            end of the chain with what the metrics told",
            });
            rules.push(Rule {
                name: "chain formats",
                says: "every chain is of a format that this version can check",
                broken: shorten(found.unreadable),
                next_step: "run `verify` of the version that wrote them, or of a later one: nothing is said against them",
            });
            let Counts { requests, open } = diesel::sql_query(
                "SELECT COUNT(*) AS requests, COUNT(*) FILTER (WHERE state = 'open') AS open FROM requests",
            )
            .get_result(connection)?;
            let head = found.end.map(|end| end.to_string());
            Ok(Verdict { rules, requests, open, unchained: found.unchained, head, gateway_running })
        })
    }
}

/// A running gateway closed everything older than itself before it took its first request.
fn left_open(connection: &mut StoreConnection, gateway_running: bool) -> Result<Rule, StorageError> {
    let started_at: i64 = if gateway_running {
        meta::get(connection, meta::STARTED_AT)?.and_then(|text| text.parse().ok()).unwrap_or(i64::MIN)
    } else {
        i64::MIN
    };
    let examples: Vec<Example> = diesel::sql_query(
        "SELECT 'req_' || lower(hex(id)) AS example FROM requests WHERE state = 'open' AND started_at < ?",
    )
    .bind::<BigInt, _>(started_at)
    .load(connection)?;
    Ok(Rule {
        name: "recovered",
        says: "no request is open from before the running gateway's start",
        broken: shorten(examples.into_iter().map(|row| row.example).collect()),
        next_step: "restart the gateway, which closes them; if they come back, report it as a bug",
    })
}

pub(super) fn shorten(mut examples: Vec<String>) -> Vec<String> {
    let more = examples.len().saturating_sub(EXAMPLES);
    if more > 0 {
        examples.truncate(EXAMPLES);
        examples.push(format!("and {more} more"));
    }
    examples
}

#[cfg(test)]
mod tests;
