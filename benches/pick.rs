//! What it costs to choose a deployment, by the router's own choice over real deployments with their gauges and quotas.
//!
//! `pick` chooses; `lease` also takes the right to send there (room in the quota's windows, under their lock) and gives it
//! back. The clock of the deployments is virtual, a pick every millisecond: what a router looks up ten times a second is
//! in the figures. They are processor time of the one thread, so that they do not depend on what else runs. Before it is
//! measured, each kind is checked to take no memory. Run it with `cargo bench --bench pick`.

#![expect(clippy::expect_used, reason = "a benchmark that fails shall stop")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use actix::Actor;
use aoai_gateway::balance::affinity::mix;
use aoai_gateway::domain::demand::Affinity;
use aoai_gateway::domain::outcome::{Outcome, ThrottleCause};
use aoai_gateway::domain::time::Timestamp;
use aoai_gateway::fleet::lease::Lease;
use aoai_gateway::fleet::pool::{Inspect, Pool, Reload};
use aoai_gateway::fleet::routes::{Publish, RouteTable};
use aoai_gateway::fleet::tier::Tier;
use aoai_gateway::router::choose;
use aoai_gateway::router::pick::{Ask, pick};
use aoai_gateway::settings::{Source, Variables, load};
use aoai_gateway::tripwire::Alarm;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

const TOKENS: u64 = 2_000;
const EVERY: Duration = Duration::from_millis(1);
/// Picks between two looks of the untimed kind: all quotas are known for a minute.
const ROUND: u64 = 50_000;

/// How a tier is asked.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// All can be asked.
    Drawn,
    /// Half of them cool.
    HalfDown,
    /// Prompts of a thousand conversations.
    Pinned,
    /// One key that is spread over four places.
    Hot,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Drawn, Self::HalfDown, Self::Pinned, Self::Hot];

    fn affinity(self, number: u64) -> Option<Affinity> {
        let (key, branch) = (mix(number % 1_000), mix(!number % 1_000));
        match self {
            Self::Drawn | Self::HalfDown => None,
            Self::Pinned => Some(Affinity { key, branch, spread: 1, own: 1 }),
            Self::Hot => Some(Affinity { key: 1, branch, spread: 4, own: 1 }),
        }
    }
}

/// Deployments of unequal size and weight, a resource each.
fn table(count: u64) -> Arc<RouteTable> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let region = |number: u64| {
        let (tpm, weight) = (200_000_000 * (1 + number % 5), 100 + number % 3 * 50);
        format!(
            "[resources.r{number}]\nendpoint = \"https://r{number}.openai.azure.com\"\napi_key = \"env:KEY\"\n\
             weight = {weight}\n[resources.r{number}.deployments]\n\
             mini = {{ model = \"m\", tpm = {tpm}, max_in_flight = 100 }}\n"
        )
    };
    std::fs::write(folder.path().join("a.toml"), (0..count).map(region).collect::<String>()).expect("a file");
    let source = Source { variables: Variables::given([("KEY", "abc")]), ..Source::new(folder.path()) };
    let settings = Arc::new(load(&source).expect("settings").settings);
    actix::System::new().block_on(async {
        let pool = Pool::new(settings.clone(), Alarm::default()).start();
        pool.send(Reload(settings)).await.expect("a pool");
        let Publish(table) = pool.send(Inspect).await.expect("a pool");
        table
    })
}

struct Course {
    table: Arc<RouteTable>,
    kind: Kind,
    rng: fastrand::Rng,
    number: u64,
}

impl Course {
    fn new(count: u64, kind: Kind) -> Self {
        Self { table: table(count), kind, rng: fastrand::Rng::with_seed(7), number: 0 }
    }

    fn now(&self) -> Timestamp {
        Timestamp::ZERO.after(Duration::from_secs(600) + EVERY * u32::try_from(self.number).expect("a short course"))
    }

    fn tier(&self) -> &Tier {
        &self.table.models[0].tiers[0]
    }

    /// Has something taken from every quota, so that what is left is known for the next minute.
    fn prepare(&mut self) {
        // What was taken before has left: it would soon be looked at as unknown.
        self.number += 70_000;
        let now = self.now();
        for (index, deployment) in self.tier().deployments.iter().enumerate() {
            let Some(lease) = Lease::take(deployment, TOKENS, now) else { continue };
            if matches!(self.kind, Kind::HalfDown) && index % 2 == 0 {
                let retry_after = Some(Duration::from_secs(1_000_000));
                lease.settle(Outcome::Throttled { cause: ThrottleCause::Capacity, retry_after }, None);
            }
        }
    }

    fn pick(&mut self) {
        let (affinity, now) = (self.kind.affinity(self.number), self.now());
        let ask = Ask { tokens: TOKENS, tried: &[], affinity: affinity.as_ref(), now };
        let picked = pick(&self.table.models[0].tiers[0], &ask, &mut self.rng);
        black_box(picked.expect("someone can be asked"));
        self.number += 1;
    }

    fn lease(&mut self) {
        let (affinity, now) = (self.kind.affinity(self.number), self.now());
        let ask = Ask { tokens: TOKENS, tried: &[], affinity: affinity.as_ref(), now };
        black_box(choose(&self.table.models[0], &ask, &mut self.rng));
        self.number += 1;
    }

    fn time(&mut self, iterations: u64, step: fn(&mut Self)) -> Duration {
        let (mut left, mut spent) = (iterations, Duration::ZERO);
        while left > 0 {
            let round = left.min(ROUND);
            self.prepare();
            let began = processor_time();
            (0..round).for_each(|_| step(self));
            spent += processor_time().saturating_sub(began);
            left -= round;
        }
        spent
    }
}

/// Of this thread.
fn processor_time() -> Duration {
    let rustix::time::Timespec { tv_sec, tv_nsec } = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(tv_sec.try_into().expect("no negative time"), tv_nsec.try_into().expect("no negative time"))
}

fn picks(criterion: &mut Criterion) {
    for (name, step) in [("pick", Course::pick as fn(&mut Course)), ("lease", Course::lease)] {
        let mut group = criterion.benchmark_group(name);
        for kind in Kind::ALL {
            for count in [10, 50, 500] {
                let mut course = Course::new(count, kind);
                course.prepare();
                (0..10_000).for_each(|_| course.pick());
                let taken = allocation_counter::measure(|| (0..10_000).for_each(|_| course.pick()));
                assert_eq!(taken.count_total, 0, "{kind:?} over {count} deployments took memory");
                group.bench_function(BenchmarkId::new(format!("{kind:?}"), count), |bencher| {
                    bencher.iter_custom(|iterations| course.time(iterations, step));
                });
            }
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(30);
    targets = picks
}
criterion_main!(benches);
