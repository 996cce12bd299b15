//! What happens, for those who watch: one line of news for everyone, kept for the slowest up to a bound.
//!
//! Nobody waits for a watcher. One who reads too slowly is told how much it missed; while nobody watches, nothing is
//! made. Where the news come from is not decided here.

use std::sync::{Arc, PoisonError, RwLock};

use serde_json::{Value, json};
use tokio::sync::broadcast;

use crate::domain::time::WallTime;
use crate::storage::page::rfc3339;

/// What a watcher may be behind.
const KEPT: usize = 256;
/// Watchers at once.
pub const MOST_WATCHERS: usize = 32;

/// One piece of news.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// `key.created`, `settings.reloaded`, `resource.state`, `quota.alarm`, …
    pub kind: String,
    pub at: WallTime,
    pub data: Value,
}

impl Event {
    /// As it goes over the wire; JSON has no line breaks of its own.
    pub fn frame(&self) -> String {
        let data = json!({ "type": self.kind, "at": rfc3339(self.at), "data": self.data });
        format!("event: {}\ndata: {data}\n\n", self.kind)
    }
}

#[derive(Debug)]
pub struct Events {
    /// None: the house is closing.
    news: RwLock<Option<broadcast::Sender<Arc<Event>>>>,
}

impl Default for Events {
    fn default() -> Self {
        Self { news: RwLock::new(Some(broadcast::Sender::new(KEPT))) }
    }
}

/// Why somebody cannot watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoWatching {
    TooMany,
    Closing,
}

impl Events {
    pub fn is_watched(&self) -> bool {
        let news = self.news.read().unwrap_or_else(PoisonError::into_inner);
        news.as_ref().is_some_and(|news| news.receiver_count() > 0)
    }

    /// `data` is asked for only while somebody watches.
    pub fn tell(&self, kind: &str, at: WallTime, data: impl FnOnce() -> Value) {
        let news = self.news.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(news) = news.as_ref().filter(|news| news.receiver_count() > 0) {
            // Without a receiver there is nobody to tell.
            let _ = news.send(Arc::new(Event { kind: kind.to_owned(), at, data: data() }));
        }
    }

    pub fn watch(&self) -> Result<broadcast::Receiver<Arc<Event>>, NoWatching> {
        let news = self.news.read().unwrap_or_else(PoisonError::into_inner);
        let news = news.as_ref().ok_or(NoWatching::Closing)?;
        if news.receiver_count() >= MOST_WATCHERS { Err(NoWatching::TooMany) } else { Ok(news.subscribe()) }
    }

    /// Watchers get what is told already, and their end.
    pub fn close(&self) {
        *self.news.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::broadcast::error::{RecvError, TryRecvError};

    fn tell(events: &Events, number: usize) {
        events.tell("test", WallTime(0), || json!({ "number": number }));
    }

    #[actix_rt::test]
    async fn a_slow_watcher_is_told_what_it_missed_and_holds_up_nobody() {
        let events = Events::default();
        let mut slow = events.watch().unwrap();
        (0..KEPT + 10).for_each(|number| tell(&events, number));
        assert_eq!(slow.recv().await, Err(RecvError::Lagged(10)));
        assert_eq!(slow.recv().await.unwrap().data["number"], 10);
    }

    #[actix_rt::test]
    async fn the_end_comes_after_the_last_word() {
        let events = Events::default();
        let mut watcher = events.watch().unwrap();
        tell(&events, 1);
        events.close();
        tell(&events, 2);
        assert_eq!(watcher.recv().await.unwrap().data["number"], 1);
        assert_eq!(watcher.recv().await, Err(RecvError::Closed));
        assert_eq!(events.watch().unwrap_err(), NoWatching::Closing);
    }

    #[test]
    fn nothing_is_made_for_nobody_and_the_watchers_are_counted() {
        let events = Events::default();
        events.tell("test", WallTime(0), || panic!("nobody watches"));
        let mut all: Vec<_> = (0..MOST_WATCHERS).map(|_| events.watch().unwrap()).collect();
        assert_eq!(events.watch().unwrap_err(), NoWatching::TooMany);
        assert_eq!(all.pop().unwrap().try_recv().unwrap_err(), TryRecvError::Empty);
        assert!(events.watch().is_ok());
    }

    #[test]
    fn a_text_cannot_end_its_frame() {
        let event = Event { kind: "test".into(), at: WallTime(0), data: json!({ "name": "a\n\nevent: b\r\n" }) };
        assert_eq!(event.frame().lines().count(), 3);
    }
}
