//! Faults on command: which ones are in force, for how long or how many requests, and which one hits a request. What
//! a fault does to an answer is done where answers are made and written.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::time::Timestamp;

/// A fault and whom it hits: everyone for ever, unless narrowed.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    pub kind: FaultKind,
    pub deployment: Option<String>,
    /// Ends by itself after this long.
    pub lasting: Option<Duration>,
    /// Ends by itself after hitting this many requests.
    pub count: Option<u64>,
    /// The share of requests it hits, 0 to 1.
    pub probability: f64,
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FaultKind {
    /// A 429 whose retry headers say when the fault ends (or `retry_after_ms`, or a second).
    Throttle { cause: Cause, retry_after_ms: Option<u64> },
    /// The same inside a stream of the Responses API whose head said 200; a 429 for everything else.
    ThrottleInBand { retry_after_ms: Option<u64> },
    /// A complete answer with this status.
    Fail { status: u16, body: FailBody },
    /// The answer breaks off.
    Cut {
        #[serde(flatten)]
        after: Cut,
        ending: Ending,
    },
    /// The request is read, admitted, and never answered.
    Hang,
    /// A stream falls silent after so many events.
    HangMidStream { after_chunks: usize },
    /// Connections are closed as soon as they are accepted, open ones at their next request.
    Refuse,
    /// The request is read, then the connection is reset.
    Reset,
    /// The answer is whole, and slow: so long to its first byte, and so long for each token.
    Slow { ttft_ms: u64, token_ms: u64 },
    /// Deployments admit only this share of their limits, and say so in their headers.
    Shrink { factor: f64 },
}

/// The cause a 429 names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Requests per minute.
    Call,
    /// Tokens per minute.
    Token,
    /// The region has no room for anyone.
    Capacity,
}

/// What a failed answer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailBody {
    /// Azure's own error for the status.
    Json,
    /// A page of the edge in front of Azure.
    Html,
    Empty,
}

/// Where an answer breaks off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cut {
    /// After this many whole events; an answer that is not streamed breaks off in its middle.
    AfterChunks(usize),
    /// After this many bytes of the body (without the transfer framing), also in the middle of an event.
    AfterBytes(usize),
}

/// How it breaks off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// The connection is closed (FIN).
    Close,
    /// The connection is reset (RST).
    Reset,
    /// The transfer ends as if all were well, but `[DONE]` is missing. Streams only; else as `Close`.
    Clean,
    /// A frame with an error, then a proper end without `[DONE]`. Streams only; else as `Close`.
    ErrorFrame,
}

impl FaultKind {
    /// For the journal.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Throttle { .. } => "throttle",
            Self::ThrottleInBand { .. } => "throttle_in_band",
            Self::Fail { .. } => "fail",
            Self::Cut { .. } => "cut",
            Self::Hang => "hang",
            Self::HangMidStream { .. } => "hang_mid_stream",
            Self::Refuse => "refuse",
            Self::Reset => "reset",
            Self::Slow { .. } => "slow",
            Self::Shrink { .. } => "shrink",
        }
    }
}

impl Fault {
    pub fn new(kind: FaultKind) -> Self {
        Self { kind, deployment: None, lasting: None, count: None, probability: 1.0 }
    }

    pub fn throttle(cause: Cause) -> Self {
        Self::new(FaultKind::Throttle { cause, retry_after_ms: None })
    }

    pub fn fail(status: u16) -> Self {
        Self::new(FaultKind::Fail { status, body: FailBody::Json })
    }

    pub fn cut(after: Cut) -> Self {
        Self::new(FaultKind::Cut { after, ending: Ending::Close })
    }

    /// Kinds that hit a request of an inference route.
    pub(super) fn hits_requests(kind: &FaultKind) -> bool {
        !matches!(kind, FaultKind::Shrink { .. })
    }

    /// Kinds that hit a request to the resource itself, such as its list of models.
    pub(super) fn hits_resource(kind: &FaultKind) -> bool {
        matches!(kind, FaultKind::Fail { .. } | FaultKind::Hang | FaultKind::Reset | FaultKind::Refuse)
    }

    pub fn lasting(mut self, duration: Duration) -> Self {
        self.lasting = Some(duration);
        self
    }

    pub fn times(mut self, count: u64) -> Self {
        self.count = Some(count);
        self
    }

    pub fn on(mut self, deployment: &str) -> Self {
        self.deployment = Some(deployment.to_owned());
        self
    }

    pub fn with_probability(mut self, probability: f64) -> Self {
        self.probability = probability;
        self
    }
}

/// A fault that hit a request.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Hit {
    pub(super) kind: FaultKind,
    /// How long the fault itself goes on, if that is known.
    pub(super) left: Option<Duration>,
}

/// A fault in force, for the control plane.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Active {
    pub(super) id: u64,
    #[serde(flatten)]
    pub(super) kind: FaultKind,
    pub(super) deployment: Option<String>,
    pub(super) requests_left: Option<u64>,
    pub(super) ms_left: Option<u64>,
    pub(super) probability: f64,
}

/// The faults in force, oldest first; the first that applies hits.
#[derive(Debug)]
pub(super) struct Faults {
    active: Vec<(u64, Fault, Option<Timestamp>)>,
    last: u64,
    random: fastrand::Rng,
}

impl Faults {
    pub(super) fn new(seed: u64) -> Self {
        Self { active: Vec::new(), last: 0, random: fastrand::Rng::with_seed(seed) }
    }

    pub(super) fn inject(&mut self, fault: Fault, now: Timestamp) -> u64 {
        self.last += 1;
        let until = fault.lasting.map(|lasting| now.after(lasting));
        self.active.push((self.last, fault, until));
        self.last
    }

    /// Ends all faults, or those that name this deployment.
    pub(super) fn heal(&mut self, deployment: Option<&str>) {
        self.active.retain(|(_, fault, _)| deployment.is_some() && fault.deployment.as_deref() != deployment);
    }

    /// Ends one fault; false when it is not in force.
    pub(super) fn remove(&mut self, id: u64) -> bool {
        let before = self.active.len();
        self.active.retain(|(active, ..)| *active != id);
        self.active.len() < before
    }

    /// The fault that hits a request to this deployment, if any; it is used up by one. `None` stands for what is asked
    /// of the resource itself, which only faults without a deployment hit.
    pub(super) fn hit(
        &mut self,
        deployment: Option<&str>,
        now: Timestamp,
        wanted: fn(&FaultKind) -> bool,
    ) -> Option<Hit> {
        if self.active.is_empty() {
            return None;
        }
        self.expire(now);
        let (random, active) = (&mut self.random, &mut self.active);
        let place = active.iter().position(|(_, fault, _)| {
            let here = fault.deployment.is_none() || fault.deployment.as_deref() == deployment;
            here && wanted(&fault.kind) && (fault.probability >= 1.0 || random.f64() < fault.probability)
        })?;
        let (_, fault, until) = &mut active[place];
        let hit = Hit { kind: fault.kind.clone(), left: until.map(|until| until.since(now)) };
        if let Some(count) = &mut fault.count {
            *count = count.saturating_sub(1);
            if *count == 0 {
                active.remove(place);
            }
        }
        Some(hit)
    }

    /// The share of its limits that a deployment admits now.
    pub(super) fn factor(&mut self, deployment: &str, now: Timestamp) -> f64 {
        if self.active.is_empty() {
            return 1.0;
        }
        self.expire(now);
        let of = |fault: &Fault| match fault.kind {
            FaultKind::Shrink { factor } if fault.deployment.as_deref().is_none_or(|name| name == deployment) => {
                Some(factor)
            }
            FaultKind::Shrink { .. }
            | FaultKind::Throttle { .. }
            | FaultKind::ThrottleInBand { .. }
            | FaultKind::Fail { .. }
            | FaultKind::Cut { .. }
            | FaultKind::Hang
            | FaultKind::HangMidStream { .. }
            | FaultKind::Refuse
            | FaultKind::Slow { .. }
            | FaultKind::Reset => None,
        };
        self.active.iter().filter_map(|(_, fault, _)| of(fault)).fold(1.0, f64::min)
    }

    pub(super) fn list(&mut self, now: Timestamp) -> Vec<Active> {
        self.expire(now);
        let left = |until: &Option<Timestamp>| until.and_then(|until| u64::try_from(until.since(now).as_millis()).ok());
        let show = |(id, fault, until): &(u64, Fault, Option<Timestamp>)| Active {
            id: *id,
            kind: fault.kind.clone(),
            deployment: fault.deployment.clone(),
            requests_left: fault.count,
            ms_left: left(until),
            probability: fault.probability,
        };
        self.active.iter().map(show).collect()
    }

    fn expire(&mut self, now: Timestamp) {
        self.active.retain(|(_, fault, until)| until.is_none_or(|until| until > now) && fault.count != Some(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: fn(&FaultKind) -> bool = |_| true;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::ZERO.after(Duration::from_secs(seconds))
    }

    #[test]
    fn a_fault_ends_by_count_by_time_and_on_command() {
        let mut faults = Faults::new(1);
        faults.inject(Fault::fail(500).times(2), at(0));
        assert!(faults.hit(Some("a"), at(0), ANY).is_some());
        assert!(faults.hit(None, at(0), ANY).is_some());
        assert!(faults.hit(Some("a"), at(0), ANY).is_none());
        faults.inject(Fault::throttle(Cause::Token).lasting(Duration::from_secs(30)), at(0));
        assert_eq!(faults.hit(Some("a"), at(10), ANY).unwrap().left, Some(Duration::from_secs(20)));
        assert!(faults.hit(Some("a"), at(30), ANY).is_none());
        let id = faults.inject(Fault::fail(500), at(0));
        assert!(faults.remove(id) && !faults.remove(id));
        faults.inject(Fault::fail(500).on("a"), at(0));
        faults.heal(Some("b"));
        assert!(faults.hit(Some("b"), at(0), ANY).is_none() && faults.hit(Some("a"), at(0), ANY).is_some());
        faults.heal(None);
        assert!(faults.list(at(0)).is_empty());
    }

    #[test]
    fn probability_hits_about_its_share() {
        let mut faults = Faults::new(7);
        faults.inject(Fault::fail(500).with_probability(0.25), at(0));
        let hits = (0..1_000).filter(|_| faults.hit(None, at(0), ANY).is_some()).count();
        assert!((200..300).contains(&hits), "{hits}");
    }

    #[test]
    fn the_smallest_share_counts_and_only_where_it_was_said() {
        let mut faults = Faults::new(1);
        faults.inject(Fault::new(FaultKind::Shrink { factor: 0.5 }), at(0));
        faults.inject(Fault::new(FaultKind::Shrink { factor: 0.1 }).on("a"), at(0));
        assert_eq!((faults.factor("a", at(0)), faults.factor("b", at(0))), (0.1, 0.5));
    }
}
