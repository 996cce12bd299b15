//! Who is ill when: phases in which two regions are ill, and between them the time that the gateway takes to trust all
//! three again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aoai_gateway::balance::health::State;
use aoai_gateway::domain::time;
use aoai_gateway::fleet::routes::RouteTable;
use aoai_gateway::simulator::{Cause, Control, Cut, Ending, Fault, FaultKind};

/// What a throttled region asks for.
pub const COOLDOWN: Duration = Duration::from_millis(350);
/// The breaker's first pause.
pub const BREAKER: Duration = Duration::from_millis(100);
/// A phase lasts for so many answers at least.
const ANSWERS: usize = 100;

pub struct Conductor<'a> {
    pub regions: Vec<Control>,
    pub table: Arc<RouteTable>,
    /// Answers so far.
    pub done: &'a AtomicUsize,
}

impl Conductor<'_> {
    /// Until so many answers are there; gives the number of phases that were played.
    pub fn run(&self, requests: usize) -> usize {
        for phase in 0.. {
            // Each region is healthy in every third phase, and has each illness in turn.
            let (throttled, other) = ((phase + 1 + phase / 3 % 2) % 3, (phase + 2 - phase / 3 % 2) % 3);
            self.regions[throttled].inject(throttle());
            for fault in second_illness(phase) {
                self.regions[other].inject(fault);
            }
            let until = self.done.load(Ordering::Relaxed) + ANSWERS;
            if !self.wait(requests, || self.done.load(Ordering::Relaxed) >= until) {
                return phase;
            }
            self.regions.iter().for_each(Control::heal);
            if !self.wait(requests, || self.all_are_trusted()) {
                return phase;
            }
        }
        unreachable!("the answers come to an end")
    }

    /// False: the requests came to an end before.
    fn wait(&self, requests: usize, until: impl Fn() -> bool) -> bool {
        loop {
            if until() {
                return true;
            }
            // The last ones may be those that somebody needs to be healed with.
            if self.done.load(Ordering::Relaxed) >= requests {
                return false;
            }
            std::thread::sleep(Duration::from_millis(2)); // bounded: between two looks, as long as answers come
        }
    }

    fn all_are_trusted(&self) -> bool {
        let now = time::now();
        self.table
            .models
            .iter()
            .flat_map(|route| route.deployments())
            .all(|deployment| deployment.gauges.state() == State::Closed && deployment.gauges.may_ask(now))
    }
}

fn throttle() -> Fault {
    let milliseconds = u64::try_from(COOLDOWN.as_millis()).unwrap();
    Fault::new(FaultKind::Throttle { cause: Cause::Call, retry_after_ms: Some(milliseconds) })
}

/// 500s, or cuts before the first content: of a stream after the filter's word, of others in their middle. One comes
/// first in this round of regions, the other in the next.
fn second_illness(phase: usize) -> [Fault; 2] {
    let endings = [Ending::Close, Ending::Reset, Ending::Clean, Ending::ErrorFrame];
    let cut = Fault::new(FaultKind::Cut { after: Cut::AfterChunks(1), ending: endings[phase % 4] });
    if (phase / 3).is_multiple_of(2) { [Fault::fail(500).times(6), cut] } else { [cut.times(6), Fault::fail(500)] }
}
