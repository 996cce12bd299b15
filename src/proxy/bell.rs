//! One word for many tasks of a thread, which they hear when they are next polled.
//!
//! A connection that streams asks with every chunk whether the gateway is shutting down. Asked of a channel, that walks a
//! list in memory that is long out of the processor's caches; a listener looks at what all of them share, and at itself.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

/// Rung once, for those who listen and those who will.
#[derive(Clone, Debug, Default)]
pub struct Bell(Rc<State>);

#[derive(Debug, Default)]
struct State {
    is_rung: Cell<bool>,
    listening: RefCell<Vec<Weak<Slot>>>,
}

/// Whom a bell wakes.
type Slot = RefCell<Option<Waker>>;

/// Resolves when the bell is rung.
#[derive(Debug)]
pub struct Listener {
    bell: Rc<State>,
    /// The waker in the slot.
    waker: Option<Waker>,
    slot: Option<Rc<Slot>>,
}

impl Bell {
    pub fn ring(&self) {
        self.0.is_rung.set(true);
        let listening = self.0.listening.take();
        for waker in listening.into_iter().filter_map(|slot| slot.upgrade()?.take()) {
            waker.wake();
        }
    }

    pub fn listen(&self) -> Listener {
        Listener { bell: self.0.clone(), waker: None, slot: None }
    }
}

impl Listener {
    pub fn poll_rung(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.bell.is_rung.get() {
            return Poll::Ready(());
        }
        if !self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.wake_next_time(cx.waker());
        }
        Poll::Pending
    }

    fn wake_next_time(&mut self, waker: &Waker) {
        let slot = self.slot.get_or_insert_with(|| self.bell.slot());
        slot.replace(Some(waker.clone()));
        self.waker = Some(waker.clone());
    }
}

impl State {
    fn slot(&self) -> Rc<Slot> {
        let slot = Rc::<Slot>::default();
        let mut listening = self.listening.borrow_mut();
        if listening.len() == listening.capacity() {
            listening.retain(|slot| slot.strong_count() > 0);
        }
        listening.push(Rc::downgrade(&slot));
        slot
    }
}

impl Future for Listener {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.get_mut().poll_rung(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[actix_rt::test]
    async fn all_who_listen_hear_it_and_those_who_come_later_too() {
        let bell = Bell::default();
        let (mut early, mut other) = (bell.listen(), bell.listen());
        assert!((&mut early).now_or_never().is_none() && (&mut other).now_or_never().is_none());
        let waiting = actix_rt::spawn(async move {
            early.await;
            other.await;
        });
        // It waits before it is rung.
        tokio::task::yield_now().await;
        bell.ring();
        waiting.await.unwrap();
        bell.listen().await;
    }

    #[actix_rt::test]
    async fn whoever_polls_last_is_woken_and_who_has_left_takes_no_room() {
        let bell = Bell::default();
        for _ in 0..1000 {
            assert!(bell.listen().now_or_never().is_none());
        }
        assert!(bell.0.listening.borrow().len() <= 8);
        let mut listener = bell.listen();
        assert!((&mut listener).now_or_never().is_none());
        let moved = actix_rt::spawn(listener);
        tokio::task::yield_now().await;
        bell.ring();
        moved.await.unwrap();
    }
}
