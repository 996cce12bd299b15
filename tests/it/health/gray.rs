//! Gray failures: three simulated regions, one of which answers badly without failing. It gets less while it does, and
//! its share back when it has healed; no client sees more than slowness.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use aoai_gateway::balance::share::FULL;
use aoai_gateway::simulator::{Fault, FaultKind, Knobs, SimulatedDeployment, SimulatedResource, Simulator};

use super::deployment;
use crate::support::answers::{QUESTION, STREAMED_QUESTION, answered};
use crate::support::client::BodyEnd;
use crate::support::fake_azure::{Cut, FakeAzure, Script};
use crate::support::gateway::{AZURE_KEY, DEPLOYMENT, MODEL, TestGateway, eventually_within, simulate};

const REGIONS: [&str; 3] = ["r0", "r1", "r2"];
const CLIENTS: usize = 4;

/// Three regions, and a way to make the first ill.
trait Regions: Sync {
    fn addresses(&self) -> Vec<SocketAddr>;
    /// How many requests each has seen.
    fn seen(&self) -> Vec<usize>;
    fn fall_ill(&self);
    fn heal(&self);
}

/// Simulated ones, the first of which gets slow.
struct Slow {
    simulators: Vec<Simulator>,
    how: FaultKind,
}

impl Slow {
    fn new(how: FaultKind) -> Self {
        let knobs = Knobs { ttft_ms: 30, token_ms: 1, output_tokens: 24, ..Knobs::default() };
        let simulator = |name: &&str| {
            let deployment = SimulatedDeployment::new(DEPLOYMENT, MODEL).with_limits(600_000_000, 6_000_000);
            let resource = SimulatedResource::new(name).with_deployment(deployment);
            simulate(SimulatedResource { api_key: AZURE_KEY.to_owned(), knobs: knobs.clone(), ..resource })
        };
        Self { simulators: REGIONS.iter().map(simulator).collect(), how }
    }
}

impl Regions for Slow {
    fn addresses(&self) -> Vec<SocketAddr> {
        self.simulators.iter().map(Simulator::addr).collect()
    }

    fn seen(&self) -> Vec<usize> {
        self.simulators.iter().map(|simulator| simulator.control().journal().len()).collect()
    }

    fn fall_ill(&self) {
        self.simulators[0].control().inject(Fault::new(self.how.clone()));
    }

    fn heal(&self) {
        self.simulators[0].control().heal();
    }
}

/// Scripted ones, the first of which cuts each twelfth answer: too rarely for any breaker.
struct Cutting {
    azures: Vec<FakeAzure>,
    ill: Arc<AtomicBool>,
}

impl Cutting {
    fn new() -> Self {
        let ill = Arc::new(AtomicBool::new(false));
        let region = |index: usize| {
            let ill = ill.clone();
            FakeAzure::start(Script::each(move |request| {
                let answer = answered().after(Duration::from_millis(30));
                let cuts = index == 0 && ill.load(Relaxed) && request.index.is_multiple_of(12);
                if cuts { answer.cut_at(200, Cut::Fin) } else { answer }
            }))
        };
        Self { azures: (0..REGIONS.len()).map(region).collect(), ill }
    }
}

impl Regions for Cutting {
    fn addresses(&self) -> Vec<SocketAddr> {
        self.azures.iter().map(FakeAzure::address).collect()
    }

    fn seen(&self) -> Vec<usize> {
        self.azures.iter().map(|azure| azure.requests().len()).collect()
    }

    fn fall_ill(&self) {
        self.ill.store(true, Relaxed);
    }

    fn heal(&self) {
        self.ill.store(false, Relaxed);
    }
}

/// One illness under load; every answer must be whole.
fn play(name: &str, regions: &dyn Regions, question: &str) {
    let gateway = TestGateway::with(|estate| {
        for (name, address) in REGIONS.iter().zip(regions.addresses()) {
            estate.azure(name, address);
        }
    });
    let (over, answers) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| ask(&gateway, question, &over, &answers));
        }
        // Also when it fails: else the clients would never stop.
        let play = std::panic::AssertUnwindSafe(|| fall_ill_and_heal(name, regions, &gateway, &answers));
        let verdict = std::panic::catch_unwind(play);
        over.store(true, Relaxed);
        verdict.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

fn ask(gateway: &TestGateway, question: &str, over: &AtomicBool, answers: &AtomicUsize) {
    let mut client = gateway.client();
    while !over.load(Relaxed) {
        let answer = client.send(gateway.chat_request(question)).answer();
        assert_eq!((answer.status, answer.end), (200, BodyEnd::Whole), "{}", answer.text());
        answers.fetch_add(1, Relaxed);
    }
}

fn fall_ill_and_heal(name: &str, regions: &dyn Regions, gateway: &TestGateway, answers: &AtomicUsize) {
    let ill = deployment(gateway, REGIONS[0]);
    let more = |count: usize| {
        let until = answers.load(Relaxed) + count;
        eventually_within(Duration::from_secs(60), || match answers.load(Relaxed) {
            enough if enough >= until => Ok(()),
            some => Err(format!("{name}: {some} answers of {until}")),
        });
    };
    more(100);
    regions.fall_ill();
    let began = Instant::now();
    // Ten seconds are the promise; a busy machine has its own idea of them.
    eventually_within(Duration::from_secs(20), || match ill.gauges.share() {
        share if share <= FULL / 20 => Ok(()),
        share => Err(format!("{name}: its share is {share}, requests {:?}", regions.seen())),
    });
    let lowered = began.elapsed();
    let before = regions.seen();
    more(300);
    let got: Vec<_> = regions.seen().iter().zip(&before).map(|(now, before)| now - before).collect();
    // A third would be its own; three quarters less is what chance leaves of four fifths.
    assert!(got[0] * 12 <= got.iter().sum::<usize>(), "{name}: {got:?}");
    for region in &REGIONS[1..] {
        assert_eq!(deployment(gateway, region).gauges.share(), FULL, "{name}: {region} is well");
    }
    regions.heal();
    let began = Instant::now();
    eventually_within(Duration::from_secs(60), || match ill.gauges.share() {
        FULL => Ok(()),
        share => Err(format!("{name}: its share is still {share}")),
    });
    println!("{name}: lowered after {lowered:?}, {got:?} of 300 requests, whole again after {:?}", began.elapsed());
}

#[test]
fn each_gray_failure_lowers_a_share_and_healing_gives_it_back() {
    // Side by side: most of each is waiting.
    std::thread::scope(|scope| {
        let late = Slow::new(FaultKind::Slow { ttft_ms: 500, token_ms: 1 });
        scope.spawn(move || play("late first bytes", &late, STREAMED_QUESTION));
        let dripping = Slow::new(FaultKind::Slow { ttft_ms: 30, token_ms: 150 });
        scope.spawn(move || play("dripping tokens", &dripping, STREAMED_QUESTION));
        // Answers that are not streamed are held back until their end, so a client does not even see a cut.
        scope.spawn(|| play("cut answers", &Cutting::new(), QUESTION));
    });
}
