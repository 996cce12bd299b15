//! A dead actor ends the process: actix neither restarts an actor that panicked nor tells anyone.
//!
//! Each long-lived actor holds a [`Tripwire`]; if it is dropped without having been disarmed, the [`Alarm`] is raised
//! with the actor's name. What happens then (drain, log, exit) is decided by whoever waits for the alarm.

pub mod kill_points;

use tokio::sync::watch;

/// Where all tripwires end; cheap to clone. The first one that fires is the one that is named.
#[derive(Clone, Debug)]
pub struct Alarm {
    raised: watch::Sender<Option<&'static str>>,
}

impl Default for Alarm {
    fn default() -> Self {
        Self { raised: watch::Sender::new(None) }
    }
}

impl Alarm {
    pub fn tripwire(&self, actor: &'static str) -> Tripwire {
        Tripwire { actor, alarm: Some(self.clone()) }
    }

    /// Resolves with the name of the first actor that died; never, while all live.
    pub async fn raised(&self) -> &'static str {
        let mut receiver = self.raised.subscribe();
        match receiver.wait_for(Option::is_some).await.map(|name| *name) {
            Ok(Some(name)) => name,
            // The sender lives in `self`, so the channel cannot close, and `wait_for` lets only `Some` through.
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }

    fn raise(&self, actor: &'static str) {
        self.raised.send_if_modified(|raised| {
            let first = raised.is_none();
            raised.get_or_insert(actor);
            first
        });
    }
}

/// A field of an actor; its drop is the actor's death. Works on any thread, with or without a runtime.
#[derive(Debug)]
pub struct Tripwire {
    actor: &'static str,
    alarm: Option<Alarm>,
}

impl Tripwire {
    /// Before an orderly end. Not in `Actor::stopped`: actix calls that after a panic, too.
    pub fn disarm(&mut self) {
        self.alarm = None;
    }
}

impl Drop for Tripwire {
    fn drop(&mut self) {
        if let Some(alarm) = &self.alarm {
            alarm.raise(self.actor);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn the_first_dead_actor_is_named() {
        let alarm = Alarm::default();
        let (first, second) = (alarm.tripwire("first"), alarm.tripwire("second"));
        assert_eq!(alarm.raised().now_or_never(), None);
        drop(second);
        drop(first);
        assert_eq!(alarm.raised().now_or_never(), Some("second"));
    }

    #[test]
    fn an_orderly_end_raises_nothing() {
        let alarm = Alarm::default();
        alarm.tripwire("ledger").disarm();
        assert_eq!(alarm.raised().now_or_never(), None);
    }

    #[test]
    fn a_panicking_thread_raises_it() {
        let alarm = Alarm::default();
        let wire = alarm.tripwire("writer");
        let thread = std::thread::spawn(move || {
            let _wire = wire;
            panic!("on purpose");
        });
        assert!(thread.join().is_err());
        assert_eq!(alarm.raised().now_or_never(), Some("writer"));
    }
}
