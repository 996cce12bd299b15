//! Gray failures: three simulated regions, one of which answers badly without failing. It gets less while it does, and
//! its share back when it has healed; no client sees more than slowness.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use aoai_gateway::balance::share::FULL;
use aoai_gateway::fleet::deployment::Deployment;
use aoai_gateway::simulator::{
    Control, Cut, Fault, FaultKind, Knobs, SimulatedDeployment, SimulatedResource, Simulator,
};

use super::deployment;
use crate::support::client::BodyEnd;
use crate::support::gateway::{AZURE_KEY, DEPLOYMENT, MODEL, TestGateway, eventually_within, simulate};

const REGIONS: [&str; 3] = ["r0", "r1", "r2"];
const CLIENTS: usize = 4;

struct Scene {
    simulators: Vec<Simulator>,
    gateway: TestGateway,
}

impl Scene {
    fn new() -> Self {
        let knobs = Knobs { ttft_ms: 30, token_ms: 1, output_tokens: 24, ..Knobs::default() };
        let simulators: Vec<_> = REGIONS
            .iter()
            .map(|name| {
                let deployment = SimulatedDeployment::new(DEPLOYMENT, MODEL).with_limits(600_000_000, 6_000_000);
                let resource = SimulatedResource::new(name).with_deployment(deployment);
                simulate(SimulatedResource { api_key: AZURE_KEY.to_owned(), knobs: knobs.clone(), ..resource })
            })
            .collect();
        let gateway = TestGateway::with(|estate| {
            for (name, simulator) in REGIONS.iter().zip(&simulators) {
                estate.azure(name, simulator.addr());
            }
        });
        Self { simulators, gateway }
    }

    fn ill(&self) -> (Control, Arc<Deployment>) {
        (self.simulators[0].control(), deployment(&self.gateway, REGIONS[0]))
    }

    /// How many requests each region has seen.
    fn seen(&self) -> Vec<usize> {
        self.simulators.iter().map(|simulator| simulator.control().journal().len()).collect()
    }

    /// Plays one illness under load; the answers must all be whole.
    fn play(&self, fault: FaultKind, probability: f64, streamed: bool) {
        let (over, answers) = (AtomicBool::new(false), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| self.ask(&over, &answers, streamed));
            }
            let verdict = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                self.falls_ill_and_heals(Fault::new(fault).with_probability(probability), &answers);
            }));
            over.store(true, Relaxed);
            verdict.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        });
    }

    fn ask(&self, over: &AtomicBool, answers: &AtomicUsize, streamed: bool) {
        let mut client = self.gateway.client();
        let question =
            format!(r#"{{"model":"{MODEL}","stream":{streamed},"messages":[{{"role":"user","content":"Hello."}}]}}"#);
        while !over.load(Relaxed) {
            let answer = client.send(self.gateway.chat_request(&question)).answer();
            assert_eq!((answer.status, answer.end), (200, BodyEnd::Whole), "{}", answer.text());
            answers.fetch_add(1, Relaxed);
        }
    }

    fn falls_ill_and_heals(&self, fault: Fault, answers: &AtomicUsize) {
        let (control, ill) = self.ill();
        let more = |count: usize| {
            let until = answers.load(Relaxed) + count;
            eventually_within(Duration::from_secs(60), || match answers.load(Relaxed) {
                enough if enough >= until => Ok(()),
                some => Err(format!("{some} answers of {until}")),
            });
        };
        more(100);
        let kind = fault.kind.clone();
        control.inject(fault);
        let began = Instant::now();
        // The contract is ten seconds; a busy machine has its own idea of them.
        eventually_within(Duration::from_secs(20), || match ill.gauges.share() {
            share if share <= FULL / 5 => Ok(()),
            share => Err(format!("{kind:?}: its share is {share} after {:?}", self.seen())),
        });
        let lowered = began.elapsed();
        let before = self.seen();
        more(150);
        let now: Vec<_> = self.seen().iter().zip(&before).map(|(now, before)| now - before).collect();
        // A third would be its own; of that, a fifth at most.
        assert!(now[0] * 15 <= now.iter().sum::<usize>() + 30, "{kind:?}: {now:?}");
        for name in &REGIONS[1..] {
            assert_eq!(deployment(&self.gateway, name).gauges.share(), FULL, "{kind:?}: {name} is well");
        }
        control.heal();
        let began = Instant::now();
        eventually_within(Duration::from_secs(60), || match ill.gauges.share() {
            FULL => Ok(()),
            share => Err(format!("{kind:?}: its share is still {share}")),
        });
        println!(
            "{kind:?}: lowered after {lowered:?}, {now:?} of 150 requests, whole again after {:?}",
            began.elapsed()
        );
    }
}

#[test]
fn each_gray_failure_lowers_a_share_and_healing_gives_it_back() {
    let slow_start = FaultKind::Slow { ttft_ms: 500, token_ms: 1 };
    let dripping = FaultKind::Slow { ttft_ms: 30, token_ms: 150 };
    let Fault { kind: cut, .. } = Fault::cut(Cut::AfterChunks(1));
    // Side by side: most of each is waiting.
    std::thread::scope(|scope| {
        scope.spawn(|| Scene::new().play(slow_start, 1.0, true));
        scope.spawn(|| Scene::new().play(dripping, 1.0, true));
        // Answers that are not streamed are held back until their end, so a client does not even see a cut.
        scope.spawn(|| Scene::new().play(cut, 0.08, false));
    });
}
