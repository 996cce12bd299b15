//! A dead actor ends the process.
//!
//! actix does not restart an actor that panicked, and messages to a dead one are lost silently. So each long-lived
//! actor holds a [`Tripwire`]; dropped while armed, it tells the [`Watch`] of the composition root, which drains, logs
//! and exits. The container restarts the process, and the journal recovers.

use tokio::sync::mpsc;

/// Hands out tripwires; cheap to clone.
#[derive(Clone, Debug)]
pub struct Alarm(mpsc::UnboundedSender<&'static str>);

/// The composition root's end.
#[derive(Debug)]
pub struct Watch(mpsc::UnboundedReceiver<&'static str>);

/// A guard field of an actor.
#[derive(Debug)]
pub struct Tripwire {
    actor: &'static str,
    alarm: Option<Alarm>,
}

pub fn alarm() -> (Alarm, Watch) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Alarm(sender), Watch(receiver))
}

impl Alarm {
    pub fn tripwire(&self, actor: &'static str) -> Tripwire {
        Tripwire { actor, alarm: Some(self.clone()) }
    }
}

impl Watch {
    /// The name of the first actor that died; never resolves while all are well.
    pub async fn tripped(&mut self) -> &'static str {
        match self.0.recv().await {
            Some(actor) => actor,
            None => std::future::pending().await,
        }
    }
}

impl Tripwire {
    /// For an orderly end.
    pub fn disarm(&mut self) {
        self.alarm = None;
    }
}

impl Drop for Tripwire {
    fn drop(&mut self) {
        if let Some(Alarm(sender)) = self.alarm.take() {
            // Without a listener the process is ending already.
            let _ = sender.send(self.actor);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix_rt::test]
    async fn a_drop_trips_unless_disarmed() {
        let (alarm, mut watch) = alarm();
        let mut orderly = alarm.tripwire("orderly");
        orderly.disarm();
        drop(orderly);
        drop(alarm.tripwire("broken"));
        assert_eq!(watch.tripped().await, "broken");
    }
}
