//! Named places at which a test may have the process killed, to see that nothing is lost there.
//!
//! Without the feature `kill-points`, which no release is built with, [`reached`] is nothing. With it, `serve --kill-at
//! NAME:N` kills the process by SIGKILL when it comes to that place for the Nth time.

/// Where a request, or the ledger, may be when the process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// The key is known and its limits admit the request.
    CallerAdmitted,
    /// The ledger has the intent in memory.
    IntentFiled,
    /// The request is about to be sent upstream.
    Connecting,
    /// The upstream's head is there.
    HeadReceived,
    /// The intents' log has what began, and nobody was told.
    IntentsNoted,
    /// A transaction has given rows to requests that are open, and is not committed.
    IntentsWritten,
    /// A transaction is committed, and nobody was told.
    Committed,
    /// The first content is about to go to the client.
    FirstByte,
    /// A chunk in the middle of a stream is about to go to the client.
    MidStream,
    /// The figures of a stream are known.
    UsageSeen,
    /// The settlement is filed.
    SettlementFiled,
    /// A transaction has written what ended, and is not committed.
    SettlementsWritten,
    /// The settlement is confirmed, and the last byte is not sent.
    SettlementConfirmed,
    /// The last byte is on its way to the client.
    LastByte,
    /// The write-ahead log is being moved into the database file.
    Checkpoint,
    /// Recovery has closed requests, and is not committed.
    Recovering,
    /// The shared database has a batch of rows, and has not committed it.
    Projecting,
    /// It has committed the batch, and the journal does not know.
    Projected,
    /// The journal has forgotten what it brought over.
    ProjectionNoted,
}

#[cfg(not(feature = "kill-points"))]
#[inline(always)]
pub const fn reached(_: Point) {}

#[cfg(feature = "kill-points")]
pub use armed::{KillAt, arm, reached};

#[cfg(feature = "kill-points")]
mod armed {
    use std::str::FromStr;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::Point;

    static PLAN: OnceLock<(KillAt, AtomicU32)> = OnceLock::new();

    /// `NAME:N`; the name as in [`Point`], in kebab case.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct KillAt {
        point: Point,
        time: u32,
    }

    impl Point {
        /// Those of a gateway with a file of its own.
        pub const ALL: [(&'static str, Self); 16] = [
            ("caller-admitted", Self::CallerAdmitted),
            ("intent-filed", Self::IntentFiled),
            ("connecting", Self::Connecting),
            ("head-received", Self::HeadReceived),
            ("intents-noted", Self::IntentsNoted),
            ("intents-written", Self::IntentsWritten),
            ("committed", Self::Committed),
            ("first-byte", Self::FirstByte),
            ("mid-stream", Self::MidStream),
            ("usage-seen", Self::UsageSeen),
            ("settlement-filed", Self::SettlementFiled),
            ("settlements-written", Self::SettlementsWritten),
            ("settlement-confirmed", Self::SettlementConfirmed),
            ("last-byte", Self::LastByte),
            ("checkpoint", Self::Checkpoint),
            ("recovering", Self::Recovering),
        ];
        /// Those of one that shares a database.
        pub const OF_THE_PROJECTION: [(&'static str, Self); 3] = [
            ("projecting", Self::Projecting),
            ("projected", Self::Projected),
            ("projection-noted", Self::ProjectionNoted),
        ];
    }

    impl FromStr for KillAt {
        type Err = String;

        fn from_str(text: &str) -> Result<Self, String> {
            let (name, time) = text.split_once(':').unwrap_or((text, "1"));
            let point = Point::ALL
                .iter()
                .chain(&Point::OF_THE_PROJECTION)
                .find(|(known, _)| *known == name)
                .map(|(_, point)| *point);
            match (point, time.parse()) {
                (Some(point), Ok(time)) if time > 0 => Ok(Self { point, time }),
                (Some(_), _) => Err(format!("`{time}` is no count")),
                (None, _) => Err(format!("`{name}` is no kill point")),
            }
        }
    }

    /// Before anything is served; once.
    pub fn arm(kill_at: KillAt) {
        let _ = PLAN.set((kill_at, AtomicU32::new(kill_at.time)));
    }

    pub fn reached(point: Point) {
        let Some((KillAt { point: planned, .. }, left)) = PLAN.get() else { return };
        if point == *planned && left.fetch_sub(1, Ordering::Relaxed) == 1 {
            // It returns only where the signal cannot be sent, and then the test fails for want of a kill.
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
    }
}
