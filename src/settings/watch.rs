//! Notices that the settings changed, on a thread of its own, and loads them.
//!
//! Events of the directory are only a hint: they are waited out until it is quiet, and what counts is whether the
//! content is another. Mounted single files and some network file systems send no events at all, so the content is
//! looked at every few seconds too. What to do with the result is the callback's business; a broken state is handed
//! over once, not at every look.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use super::{ContentHash, Loaded, SettingsErrors, Source, load};
use crate::domain::time::{Timestamp, now};

/// How long the directory must be quiet: editors write in several steps.
const QUIET: Duration = Duration::from_millis(300);
/// However busy it is, a load is not put off longer.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_secs(5);
/// While there is no directory to watch.
const POLL_UNWATCHED: Duration = Duration::from_millis(500);

/// Watches until it is dropped.
pub struct Watcher {
    signals: Sender<Signal>,
    thread: Option<JoinHandle<()>>,
}

enum Signal {
    /// Something happened in the directory.
    Event,
    /// The directory itself is gone or replaced.
    Lost,
    Poke,
    Stop,
}

impl Watcher {
    /// Loads now, for SIGHUP: the callback is called even if nothing changed, since someone asked.
    pub fn poke(&self) {
        // The thread ends only with the watcher.
        let _ = self.signals.send(Signal::Poke);
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.signals.send(Signal::Stop);
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
        {
            // A panic in the callback has been reported by then.
            let _ = thread.join();
        }
    }
}

/// Calls back for every change from now on.
pub fn watch(source: Source, on_change: impl FnMut(Result<Loaded, SettingsErrors>) + Send + 'static) -> Watcher {
    let known = hash_of(&load(&source));
    watch_since(source, known, on_change)
}

/// Calls back for every change since the content was `known`: nothing between a load and its watcher is missed.
pub fn watch_since(
    source: Source,
    known: ContentHash,
    on_change: impl FnMut(Result<Loaded, SettingsErrors>) + Send + 'static,
) -> Watcher {
    let (signals, received) = mpsc::channel();
    let attached = Attached::new(&source.directory, signals.clone());
    let mut state = State { source, known, attached, next_poll: now(), pending: None, on_change };
    let spawned = std::thread::Builder::new().name("settings".to_owned()).spawn(move || {
        loop {
            match received.recv_timeout(state.next_look().since(now())) {
                Ok(Signal::Event) => state.expect_change(),
                Ok(Signal::Lost) => {
                    state.attached.detach();
                    state.next_poll = now();
                    state.expect_change();
                }
                Ok(Signal::Poke) => state.deliver(load(&state.source)),
                Err(RecvTimeoutError::Timeout) => state.look(),
                Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    });
    let thread = match spawned {
        Ok(thread) => Some(thread),
        Err(error) => {
            tracing::error!(%error, "settings are not watched: no thread could be started; a restart applies changes");
            None
        }
    };
    Watcher { signals, thread }
}

struct State<F> {
    source: Source,
    known: ContentHash,
    attached: Attached,
    next_poll: Timestamp,
    /// A change was seen and may not be complete yet.
    pending: Option<Pending>,
    on_change: F,
}

struct Pending {
    quiet_at: Timestamp,
    latest: Timestamp,
}

impl<F: FnMut(Result<Loaded, SettingsErrors>)> State<F> {
    fn next_look(&self) -> Timestamp {
        match &self.pending {
            Some(pending) => pending.quiet_at.min(pending.latest).min(self.next_poll),
            None => self.next_poll,
        }
    }

    fn expect_change(&mut self) {
        let quiet_at = now().after(QUIET);
        match &mut self.pending {
            Some(pending) => pending.quiet_at = quiet_at,
            None => self.pending = Some(Pending { quiet_at, latest: now().after(LONGEST_WAIT) }),
        }
    }

    fn look(&mut self) {
        if self.pending.as_ref().is_some_and(|pending| now() >= pending.quiet_at.min(pending.latest)) {
            self.pending = None;
            let loaded = load(&self.source);
            if hash_of(&loaded) != self.known {
                self.deliver(loaded);
            }
        }
        if now() >= self.next_poll {
            // Attached first, so that what is written after the load is an event.
            self.attached.ensure();
            if self.pending.is_none() && hash_of(&load(&self.source)) != self.known {
                // No event told: perhaps the directory is another one by now.
                self.attached.detach();
                self.attached.ensure();
                self.expect_change();
            }
            self.next_poll = now().after(if self.attached.is_watching() { POLL } else { POLL_UNWATCHED });
        }
    }

    fn deliver(&mut self, loaded: Result<Loaded, SettingsErrors>) {
        self.known = hash_of(&loaded);
        self.pending = None;
        (self.on_change)(loaded);
    }
}

fn hash_of(loaded: &Result<Loaded, SettingsErrors>) -> ContentHash {
    match loaded {
        Ok(loaded) => loaded.content_hash,
        Err(errors) => errors.content_hash,
    }
}

/// The operating system's watch on the directory, while there is a directory.
struct Attached {
    directory: PathBuf,
    signals: Sender<Signal>,
    watch: Option<RecommendedWatcher>,
    warned: bool,
}

impl Attached {
    fn new(directory: &Path, signals: Sender<Signal>) -> Self {
        // Events carry absolute paths.
        let directory = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
        Self { directory, signals, watch: None, warned: false }
    }

    fn is_watching(&self) -> bool {
        self.watch.is_some()
    }

    fn detach(&mut self) {
        self.watch = None;
    }

    fn ensure(&mut self) {
        if self.watch.is_some() || !self.directory.is_dir() {
            return;
        }
        match self.attach() {
            Ok(watch) => self.watch = Some(watch),
            Err(error) if !self.warned => {
                self.warned = true;
                tracing::warn!(%error, "the settings directory sends no events, so it is read twice a second");
            }
            Err(_) => {}
        }
    }

    fn attach(&self) -> notify::Result<RecommendedWatcher> {
        let (signals, directory) = (self.signals.clone(), self.directory.clone());
        let mut watch = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if let Some(signal) = signal_of(event, &directory) {
                // Nobody listens when the watcher is being dropped.
                let _ = signals.send(signal);
            }
        })?;
        watch.watch(&self.directory, RecursiveMode::NonRecursive)?;
        Ok(watch)
    }
}

fn signal_of(event: notify::Result<notify::Event>, directory: &Path) -> Option<Signal> {
    let Ok(event) = event else { return Some(Signal::Event) };
    // Our own reading is an event too.
    if event.kind.is_access() && event.kind != EventKind::Access(AccessKind::Close(AccessMode::Write)) {
        return None;
    }
    let is_gone = event.kind.is_remove() || matches!(event.kind, EventKind::Modify(ModifyKind::Name(_)));
    let is_itself = event.paths.iter().any(|path| path == directory);
    Some(if is_gone && is_itself { Signal::Lost } else { Signal::Event })
}
