//! Three books of the same requests, compared: what the clients received, what the ledger says, what the regions
//! charged. The invariants are those every test here ends with; each test adds its own.

use std::collections::HashMap;
use std::fmt;

use aoai_gateway::simulator::Entry;
use aoai_gateway::storage::page::PageSize;
use aoai_gateway::storage::requests::{AttemptView, RequestFilter, RequestView};

use super::client::{Broken, Kind};
use super::load::Tried;
use crate::support::process::Estate;

/// The books of one run, the gateway being stopped.
pub struct Books {
    pub tried: Vec<Tried>,
    /// By `x-request-id`; a second row of one id has been refused.
    pub rows: HashMap<String, RequestView>,
    /// By `apim-request-id`.
    pub charged: HashMap<String, Entry>,
}

/// What a run amounts to.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub asked: usize,
    pub received: usize,
    pub refused: usize,
    pub broken: usize,
    pub states: HashMap<String, usize>,
    pub upstream: usize,
    pub exact: usize,
    pub exact_tokens: (i64, i64),
    /// Requests that a region saw and the ledger did not.
    pub unknown: usize,
}

impl Books {
    /// Reads everything and checks what must hold whatever was done to the gateway.
    pub fn close(estate: &Estate, tried: Vec<Tried>) -> Self {
        let charged: HashMap<_, _> =
            estate.journals().into_iter().map(|entry| (entry.apim_request_id.clone(), entry)).collect();
        let store = estate.store();
        let verdict = store.verify().unwrap();
        assert!(verdict.holds() && verdict.open == 0 && !verdict.gateway_running, "{verdict:?}");
        let mut rows = HashMap::new();
        let mut cursor = None;
        loop {
            let page = store.requests(&RequestFilter::default(), cursor, PageSize::new(200)).unwrap();
            for row in page.data {
                if let Some(twice) = rows.insert(row.request_id.clone(), row) {
                    panic!("the ledger has two rows of {twice:?}");
                }
            }
            let Some(next) = page.next_cursor else { break };
            cursor = Some(next.parse().unwrap());
        }
        assert_eq!(i64::try_from(rows.len()).unwrap(), verdict.requests);
        let books = Self { tried, rows, charged };
        books.what_was_received_is_settled();
        books.what_is_exact_is_what_was_charged();
        books.what_was_charged_is_known();
        books
    }

    /// Every answer that a client fully received has its row, settled, with the answer's own figures.
    fn what_was_received_is_settled(&self) {
        for tried in &self.tried {
            let Ok(answer) = &tried.end else { continue };
            assert_eq!(answer.request_id, tried.id, "an answer of another request");
            let row = self.rows.get(&tried.id).unwrap_or_else(|| panic!("received, but not in the ledger: {tried:?}"));
            if answer.status >= 500 || answer.status == 429 {
                assert_eq!((row.state.as_str(), row.status), ("failed", Some(answer.status.into())), "{row:?}");
                continue;
            }
            assert_eq!((row.state.as_str(), row.status), ("settled", Some(answer.status.into())), "{row:?}");
            let last = row.attempts.last().unwrap_or_else(|| panic!("served by nobody: {row:?}"));
            assert_eq!(last.upstream_id, answer.upstream_id, "{row:?}");
            if answer.status != 200 {
                continue;
            }
            let told = answer.told();
            if let Some((input, output)) = told.usage {
                assert_eq!((row.input_tokens, row.output_tokens), (input, output), "{row:?}");
            }
            if tried.kind != Kind::Embeddings {
                assert!(told.text.starts_with(&format!("nonce:{}", tried.id)), "{} got {:?}", tried.id, told.text);
            }
            if answer.is_stream {
                assert_eq!(row.output_tokens, told.pieces, "{row:?}");
            }
            assert_eq!(last.charged.as_deref(), Some("exact"), "{row:?}");
            assert!(!row.estimated, "{row:?}");
        }
    }

    /// What the ledger calls exact is what the region charged for that attempt, to the token.
    fn what_is_exact_is_what_was_charged(&self) {
        for (row, attempt) in self.attempts() {
            let entry = attempt.upstream_id.as_ref().map(|id| {
                self.charged.get(id).unwrap_or_else(|| panic!("no region knows the attempt {attempt:?} of {row:?}"))
            });
            match (attempt.charged.as_deref(), entry) {
                (Some("exact"), Some(entry)) => {
                    assert_eq!(ledger_tokens(attempt), region_tokens(entry), "{row:?}\n{entry:?}");
                }
                (Some("exact"), None) => panic!("exact, but whose? {row:?}"),
                (Some("none"), Some(entry)) => assert!(!entry.charged, "{row:?}\n{entry:?}"),
                (Some("none" | "estimated" | "ambiguous"), _) | (None, None) => {}
                (other, entry) => panic!("charged {other:?} for {entry:?}"),
            }
        }
    }

    /// What a region was asked for stands in the ledger, unless nobody was told of it.
    fn what_was_charged_is_known(&self) {
        for entry in self.charged.values() {
            let id = entry.x_ms_client_request_id.as_ref().unwrap();
            assert_eq!(entry.x_request_id, None);
            let Some(row) = self.rows.get(id) else {
                let received = self.tried.iter().find(|tried| tried.id == *id && tried.end.is_ok());
                assert!(received.is_none(), "{received:?} was charged and is not in the ledger");
                continue;
            };
            if row.state == "recovered" || !entry.charged {
                continue;
            }
            // An attempt whose head never came has no id to be found by.
            let known = row.attempts.iter().any(|attempt| {
                let same = attempt.upstream_id.as_ref() == Some(&entry.apim_request_id);
                same || (attempt.upstream_id.is_none() && attempt.charged.as_deref() == Some("ambiguous"))
            });
            assert!(known, "charged, but no attempt of it is known: {entry:?}\n{row:?}");
        }
    }

    pub fn attempts(&self) -> impl Iterator<Item = (&RequestView, &AttemptView)> {
        self.rows.values().flat_map(|row| row.attempts.iter().map(move |attempt| (row, attempt)))
    }

    pub fn figures(&self) -> Figures {
        let mut figures = Figures { asked: self.tried.len(), upstream: self.charged.len(), ..Figures::default() };
        for tried in &self.tried {
            match &tried.end {
                Ok(answer) if answer.status < 400 => figures.received += 1,
                Ok(_) => figures.refused += 1,
                Err(Broken::BeforeHead | Broken::AfterHead) => figures.broken += 1,
            }
        }
        for row in self.rows.values() {
            *figures.states.entry(row.state.clone()).or_default() += 1;
        }
        let mut charged = 0;
        for (_, attempt) in self.attempts().filter(|(_, attempt)| attempt.charged.as_deref() == Some("exact")) {
            let entry = &self.charged[attempt.upstream_id.as_ref().unwrap()];
            figures.exact += 1;
            figures.exact_tokens.0 += attempt.input_tokens + attempt.output_tokens;
            charged += i64::try_from(entry.prompt_tokens + entry.completion_tokens).unwrap();
        }
        figures.exact_tokens.1 = charged;
        let unknown = |entry: &&Entry| !self.rows.contains_key(entry.x_ms_client_request_id.as_ref().unwrap());
        figures.unknown = self.charged.values().filter(unknown).count();
        assert_eq!(figures.exact_tokens.0, figures.exact_tokens.1);
        figures
    }
}

impl Figures {
    pub fn state(&self, state: &str) -> usize {
        self.states.get(state).copied().unwrap_or_default()
    }
}

fn ledger_tokens(attempt: &AttemptView) -> [u64; 4] {
    [attempt.input_tokens, attempt.cached_input_tokens, attempt.output_tokens, attempt.reasoning_tokens]
        .map(|tokens| u64::try_from(tokens).unwrap())
}

fn region_tokens(entry: &Entry) -> [u64; 4] {
    [entry.prompt_tokens, entry.cached_tokens, entry.completion_tokens, entry.reasoning_tokens]
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut states: Vec<_> = self.states.iter().map(|(state, rows)| format!("{rows} {state}")).collect();
        states.sort();
        writeln!(f, "requests     {} asked, {} received whole", self.asked, self.received)?;
        writeln!(f, "             {} refused, {} broken off", self.refused, self.broken)?;
        writeln!(f, "ledger       {}", states.join(", "))?;
        writeln!(f, "regions      {} asked, {} of them unknown to the ledger", self.upstream, self.unknown)?;
        let (ledger, regions) = self.exact_tokens;
        write!(
            f,
            "exact        {} attempts, {ledger} tokens, the regions say {regions}: difference {}",
            self.exact,
            ledger - regions
        )
    }
}

/// The median and the largest.
pub fn spread<T: Copy + Ord>(values: &[T]) -> (T, T) {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    (sorted[sorted.len() / 2], sorted[sorted.len() - 1])
}
