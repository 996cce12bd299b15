//! Twice as much as there is: nothing of what there is gets lost, refusals are quick and true, nobody starves.

use std::time::Duration;

use aoai_gateway::simulator::{Knobs, SimulatedDeployment, SimulatedResource, Simulator};
use serde_json::json;

use super::load::{Ask, Load, Sample, percentile, question};
use super::{Form, milliseconds, percent};
use crate::support::gateway::{AZURE_KEY, DEPLOYMENT, MODEL, TestGateway, simulate, wait};
use crate::support::report::Report;

/// Requests per minute of three regions, 80 a second together.
const RPM: [u64; 3] = [480, 1_320, 3_000];
const CAPACITY: f64 = 80.0;
const CALLERS: usize = 20;

fn regions(rpm: [u64; 3]) -> Vec<Simulator> {
    let region = |(rpm, name): (u64, &str)| {
        let deployment = SimulatedDeployment::new(DEPLOYMENT, MODEL).with_limits(10_000_000, rpm);
        let knobs = Knobs { output_tokens: 4, ttft_ms: 20, ..Knobs::default() };
        let resource = SimulatedResource::new(name).with_deployment(deployment);
        simulate(SimulatedResource { api_key: AZURE_KEY.to_owned(), knobs, ..resource })
    };
    rpm.into_iter().zip(["a", "b", "c"]).map(region).collect()
}

/// Jain's index of fairness: 1 when all get the same, 1/n when one gets all.
fn jain(shares: &[f64]) -> f64 {
    let (sum, squares) = shares.iter().fold((0.0, 0.0), |(sum, squares), share| (sum + share, squares + share * share));
    sum * sum / (shares.len() as f64 * squares)
}

fn overload(form: Form, max_wait: Duration) -> (Vec<Sample>, usize, usize, Duration) {
    let regions = regions(RPM);
    let gateway = TestGateway::with(|estate| {
        estate.0.routing.max_wait = max_wait;
        for ((simulator, name), rpm) in regions.iter().zip(["a", "b", "c"]).zip(RPM) {
            let resource = estate.azure(name, simulator.addr());
            resource.deployments.values_mut().for_each(|one| one.rpm = Some(u32::try_from(rpm).unwrap()));
        }
    });
    let keys: Vec<_> = (0..CALLERS)
        .map(|_| {
            gateway
                .new_key(json!({ "limits": { "rpm": "unlimited", "tpm": "unlimited", "concurrency": "unlimited" } }))
                .1
        })
        .collect();
    let lasting = form.of(Duration::from_secs(8), Duration::from_secs(60));
    let load = Load { per_second: CAPACITY * 2.0, lasting, at_once: 320, seed: 5 };
    let samples = load.offer(|number| {
        let caller = fastrand::Rng::with_seed(number as u64).usize(..CALLERS);
        Ask { address: gateway.address, key: keys[caller].clone(), body: question(MODEL, 4) }
    });
    let journals: Vec<_> = regions
        .iter()
        .flat_map(|region| {
            wait(region.control().idle());
            region.control().journal()
        })
        .collect();
    let throttled = journals.iter().filter(|entry| entry.status == 429).count();
    (samples, journals.len(), throttled, lasting)
}

fn judge(name: &str, form: Form, max_wait: Duration, report: &mut Report) {
    let (samples, calls, throttled, lasting) = overload(form, max_wait);
    let served: Vec<_> = samples.iter().filter(|sample| sample.is_served()).collect();
    let refused: Vec<_> = samples.iter().filter(|sample| sample.status == 429).collect();
    let other: Vec<_> = samples.iter().filter(|sample| !sample.is_served() && sample.status != 429).collect();
    let mut shares = [0.0; CALLERS];
    for sample in &served {
        shares[fastrand::Rng::with_seed(sample.number as u64).usize(..CALLERS)] += 1.0;
    }
    // Those who waited are served after the end, too.
    let capacity = CAPACITY * (lasting + max_wait).as_secs_f64();
    let index = jain(&shares);
    // Some wait as long as they may; all others are told at once.
    let at_once: Vec<_> =
        refused.iter().map(|sample| sample.took).filter(|took| *took < max_wait / 2 || max_wait.is_zero()).collect();
    let (p50, p99) = (percentile(at_once.clone(), 50), percentile(at_once.clone(), 99));
    report.row([
        name.to_owned(),
        samples.len().to_string(),
        percent(served.len() as f64, capacity),
        percent(throttled as f64, calls as f64),
        format!("{} / {}", milliseconds(p50), milliseconds(p99)),
        format!("{index:.3}"),
    ]);
    assert!(other.is_empty(), "neither served nor told when to come back: {other:?}");
    assert!(served.len() as f64 >= capacity * 0.9, "{} served of {capacity}", served.len());
    assert!(refused.iter().all(|sample| sample.retry_after.is_some_and(|wait| wait <= Duration::from_secs(61))));
    assert!(index >= 0.95, "{index}: {shares:?}");
    assert!(at_once.is_empty() || p50 < Duration::from_millis(10), "refusals took {p50:?}");
}

#[test]
fn twice_what_there_is_loses_nothing_of_it() {
    let form = Form::asked_for();
    let mut report = Report::new(
        "2-overload.md",
        "Twice the capacity",
        "Three regions that admit 80 requests a second together (slices of a second and of ten bind, as Azure's do), \
         and 160 a second from 20 equal callers.",
    );
    report.table(&[
        "waiting",
        "requests",
        "served, of capacity",
        "calls answered 429",
        "refusal p50 / p99",
        "Jain's index",
    ]);
    judge("none (`max_wait = \"0s\"`)", form, Duration::ZERO, &mut report);
    judge("up to 2 s", form, Duration::from_secs(2), &mut report);
    report.publish();
}

#[test]
fn who_comes_back_when_told_is_served() {
    let regions = regions([60; 3]);
    let gateway = TestGateway::with(|estate| {
        for (simulator, name) in regions.iter().zip(["a", "b", "c"]) {
            let resource = estate.azure(name, simulator.addr());
            resource.deployments.values_mut().for_each(|one| one.rpm = Some(60));
        }
    });
    // One a second is let into each: the fourth of a burst is told to wait for the rest of that second.
    let told = (0..8).find_map(|_| {
        let answer = gateway.chat(&question(MODEL, 4));
        (answer.status == 429).then(|| answer.header("retry-after-ms").unwrap().parse::<u64>().unwrap())
    });
    let wait = Duration::from_millis(told.expect("nobody was refused"));
    assert!(wait <= Duration::from_millis(1_100), "{wait:?}");
    std::thread::sleep(wait); // bounded: what the refusal asked for
    gateway.chat(&question(MODEL, 4)).expect(200);
}
