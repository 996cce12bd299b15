//! The oracle: one entry per request that reached an inference route, with what Azure would have billed for it.
//!
//! The rule: nothing is billed for 401, 404, 429, 5xx and plain 400s; a filtered prompt (400), a timeout (408) and a
//! request that was admitted and then left unanswered are billed for the prompt; an answer that is not streamed is
//! billed whole, whether or not it was delivered; a stream is billed for what was generated until it ended or was cut.
//! What the gateway booked is not its business.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::sync::watch;

use crate::domain::time;

/// What is known of one request.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Entry {
    /// From 1, in order of arrival; never used twice, also when the journal is emptied.
    pub sequence: u64,
    /// Wall-clock microseconds since the Unix epoch.
    pub arrived_us: i64,
    pub duration_us: u64,
    pub method: String,
    pub path: String,
    pub api_version: Option<String>,
    /// As asked for, also when there is none of that name.
    pub deployment: String,
    /// The base model; empty when no deployment was found.
    pub model: String,
    pub stream: bool,
    /// 0 when no head was sent.
    pub status: u16,
    pub charged: bool,
    pub prompt_tokens: u64,
    /// Generated, with the reasoning tokens; also those whose delivery broke off.
    pub completion_tokens: u64,
    pub cached_tokens: u64,
    pub reasoning_tokens: u64,
    /// Whether the whole answer was written to the socket.
    pub completed: bool,
    /// Visible tokens whose chunk (or body) was written whole.
    pub tokens_sent: u64,
    /// False while the request is being answered.
    pub finished: bool,
    /// The injected fault that hit it.
    pub fault: Option<&'static str>,
    pub apim_request_id: String,
    /// `chatcmpl-…`, `cmpl-…`, `resp_…`
    pub completion_id: Option<String>,
    /// Names of the headers that arrived, in order, as they were spelt.
    pub headers: Arc<[String]>,
    pub x_ms_client_request_id: Option<String>,
    pub x_request_id: Option<String>,
}

/// What a deployment has been billed for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sums {
    pub requests: u64,
    pub charged: u64,
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    pub cached_tokens: u64,
    pub reasoning_tokens: u64,
}

/// All entries since the last clearing, in memory, and in a file if one was given.
#[derive(Debug)]
pub(super) struct Journal {
    book: Mutex<Book>,
    file: Option<Mutex<File>>,
    open: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Book {
    entries: VecDeque<Entry>,
    last: u64,
    /// Most requests have the same headers as the one before; they share the list.
    headers: Arc<[String]>,
}

impl Journal {
    pub(super) fn new(file: Option<File>) -> Arc<Self> {
        let open = watch::Sender::new(0);
        Arc::new(Self { book: Mutex::default(), file: file.map(Mutex::new), open })
    }

    /// Enters a request; the ticket keeps the entry until the answer has ended.
    pub(super) fn enter(self: &Arc<Self>, mut entry: Entry, headers: &[(String, String)]) -> Ticket {
        entry.arrived_us = time::wall_now().0;
        let mut book = self.book();
        if !book.headers.iter().eq(headers.iter().map(|(name, _)| name)) {
            book.headers = headers.iter().map(|(name, _)| name.clone()).collect();
        }
        entry.headers = book.headers.clone();
        book.last += 1;
        entry.sequence = book.last;
        book.entries.push_back(entry.clone());
        drop(book);
        self.open.send_modify(|open| *open += 1);
        Ticket { journal: self.clone(), entered: time::now(), entry, then: None }
    }

    /// Entries with a higher sequence than `sequence`.
    pub(super) fn since(&self, sequence: u64) -> Vec<Entry> {
        let book = self.book();
        let start = book.entries.partition_point(|entry| entry.sequence <= sequence);
        book.entries.range(start..).cloned().collect()
    }

    pub(super) fn sums(&self) -> BTreeMap<String, Sums> {
        let mut sums = BTreeMap::<String, Sums>::new();
        for entry in &self.book().entries {
            if !sums.contains_key(&entry.deployment) {
                sums.insert(entry.deployment.clone(), Sums::default());
            }
            if let Some(sum) = sums.get_mut(&entry.deployment) {
                sum.requests += 1;
                sum.charged += u64::from(entry.charged);
                sum.prompt_tokens += entry.prompt_tokens;
                sum.completion_tokens += entry.completion_tokens;
                sum.cached_tokens += entry.cached_tokens;
                sum.reasoning_tokens += entry.reasoning_tokens;
            }
        }
        sums
    }

    pub(super) fn clear(&self) {
        self.book().entries.clear();
    }

    /// The highest sequence so far.
    pub(super) fn last(&self) -> u64 {
        self.book().last
    }

    pub(super) fn open(&self) -> usize {
        *self.open.borrow()
    }

    /// Waits until no request is being answered.
    pub(super) async fn idle(&self) {
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ = self.open.subscribe().wait_for(|open| *open == 0).await;
    }

    fn finish(&self, entry: &Entry) {
        let mut book = self.book();
        let place = book.entries.binary_search_by_key(&entry.sequence, |entry| entry.sequence);
        if let Some(kept) = place.ok().and_then(|place| book.entries.get_mut(place)) {
            kept.clone_from(entry);
        }
        drop(book);
        if let Some(file) = &self.file
            && let Ok(mut line) = serde_json::to_vec(entry)
        {
            line.push(b'\n');
            let written = file.lock().unwrap_or_else(PoisonError::into_inner).write_all(&line);
            if let Err(error) = written {
                tracing::error!(%error, sequence = entry.sequence, "the simulator's journal file lost an entry");
            }
        }
        self.open.send_modify(|open| *open -= 1);
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Afterwards = Box<dyn FnOnce(&Entry) + Send>;

/// Keeps one entry while its request is answered; dropping it, for whatever reason, finishes the entry as it stands.
pub(super) struct Ticket {
    journal: Arc<Journal>,
    entered: time::Timestamp,
    pub(super) entry: Entry,
    then: Option<Afterwards>,
}

impl Ticket {
    /// The request was admitted: its prompt is billed.
    pub(super) fn charge_prompt(&mut self, tokens: u64, cached: u64) {
        self.entry.charged = true;
        self.entry.prompt_tokens = tokens;
        self.entry.cached_tokens = cached;
    }

    /// Hidden tokens were generated.
    pub(super) fn reasoned(&mut self, tokens: u64) {
        self.entry.reasoning_tokens += tokens;
        self.entry.completion_tokens += tokens;
    }

    /// Visible tokens of a stream were generated and are about to be written.
    pub(super) fn generated(&mut self, tokens: u64) {
        self.entry.completion_tokens += tokens;
    }

    /// Visible tokens were written.
    pub(super) fn sent(&mut self, tokens: u64) {
        self.entry.tokens_sent += tokens;
    }

    /// What else is to happen with the finished entry.
    pub(super) fn when_finished(&mut self, then: impl FnOnce(&Entry) + Send + 'static) {
        self.then = Some(Box::new(then));
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.entry.finished = true;
        let took = time::now().since(self.entered).as_micros();
        self.entry.duration_us = u64::try_from(took).unwrap_or(u64::MAX);
        if let Some(then) = self.then.take() {
            then(&self.entry);
        }
        self.journal.finish(&self.entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(deployment: &str) -> Entry {
        Entry { deployment: deployment.to_owned(), ..Entry::default() }
    }

    #[test]
    fn entries_keep_the_order_of_arrival_and_finish_on_drop() {
        let journal = Journal::new(None);
        let mut first = journal.enter(entry("a"), &[("Host".to_owned(), String::new())]);
        let second = journal.enter(entry("b"), &[("Host".to_owned(), String::new())]);
        first.charge_prompt(10, 0);
        first.reasoned(3);
        drop(second);
        let seen: Vec<_> = journal.since(0).iter().map(|entry| (entry.sequence, entry.finished)).collect();
        assert_eq!((seen, journal.open()), (vec![(1, false), (2, true)], 1));
        drop(first);
        assert_eq!(journal.open(), 0);
        let sum = journal.sums()["a"];
        assert_eq!((sum.requests, sum.charged, sum.prompt_tokens, sum.completion_tokens), (1, 1, 10, 3));
        assert_eq!(journal.since(1).len(), 1);
        assert!(Arc::ptr_eq(&journal.since(0)[0].headers, &journal.since(0)[1].headers));
    }

    #[test]
    fn clearing_forgets_entries_but_not_the_count() {
        let journal = Journal::new(None);
        let open = journal.enter(entry("a"), &[]);
        journal.clear();
        drop(open);
        assert!(journal.since(0).is_empty());
        drop(journal.enter(entry("a"), &[]));
        assert_eq!(journal.since(0)[0].sequence, 2);
    }

    #[test]
    fn the_file_has_a_line_per_finished_entry() {
        let path = tempfile::NamedTempFile::new().unwrap();
        let journal = Journal::new(Some(path.reopen().unwrap()));
        let open = journal.enter(entry("a"), &[]);
        drop(journal.enter(entry("b"), &[]));
        let lines = || std::fs::read_to_string(path.path()).unwrap();
        assert_eq!(lines().lines().count(), 1);
        drop(open);
        let last: serde_json::Value = serde_json::from_str(lines().lines().last().unwrap()).unwrap();
        assert_eq!((&last["sequence"], &last["finished"]), (&1.into(), &true.into()));
    }
}
