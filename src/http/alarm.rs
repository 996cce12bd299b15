//! A timer for deadlines that hardly ever come: moving the deadline later costs nothing.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::Sleep;

use crate::domain::time::{self, Timestamp};

/// Keeps one timer of the runtime, set when first needed. A deadline that moves away leaves that timer alone: it goes
/// off at the old moment, finds the new one, and is set again. A connection that is busy touches the runtime's timers
/// once a deadline's length, not once a read.
#[derive(Default)]
pub struct Alarm {
    timer: Option<Pin<Box<Sleep>>>,
    /// When the timer goes off; `None`: it is not running.
    due: Option<Timestamp>,
}

impl Alarm {
    /// Ready when `deadline` has passed; otherwise the task is woken no later than then.
    pub fn poll(&mut self, deadline: Timestamp, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.due.is_none_or(|due| deadline < due) {
                let left = deadline.since(time::now());
                if left.is_zero() {
                    return Poll::Ready(());
                }
                let sleep = tokio::time::sleep(left);
                match &mut self.timer {
                    Some(timer) => timer.set(sleep),
                    None => self.timer = Some(Box::pin(sleep)),
                }
                self.due = Some(deadline);
            }
            if let Some(timer) = &mut self.timer {
                ready!(timer.as_mut().poll(cx));
            }
            self.due = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    const STEP: Duration = Duration::from_millis(40);

    fn pending(alarm: &mut Alarm, deadline: Timestamp) -> bool {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        alarm.poll(deadline, &mut cx).is_pending()
    }

    #[actix_rt::test]
    async fn a_deadline_that_moved_away_is_kept_at_its_new_place() {
        let mut alarm = Alarm::default();
        let began = time::now();
        assert!(pending(&mut alarm, began.after(STEP)));
        poll_fn(|cx| alarm.poll(began.after(STEP * 3), cx)).await;
        assert!(time::now().since(began) >= STEP * 3);
    }

    #[actix_rt::test]
    async fn a_deadline_that_moved_closer_is_not_missed() {
        let mut alarm = Alarm::default();
        let began = time::now();
        assert!(pending(&mut alarm, began.after(Duration::from_secs(60))));
        poll_fn(|cx| alarm.poll(began.after(STEP), cx)).await;
        assert!(time::now().since(began) < Duration::from_secs(30));
    }

    #[actix_rt::test]
    async fn a_deadline_in_the_past_needs_no_timer() {
        let mut alarm = Alarm::default();
        assert!(!pending(&mut alarm, Timestamp::ZERO));
        assert!(alarm.timer.is_none());
    }
}
