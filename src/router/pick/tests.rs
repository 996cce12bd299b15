use std::collections::HashMap;
use std::time::Duration;

use actix::Actor;

use super::*;
use crate::domain::demand::Operation;
use crate::domain::ids::ModelName;
use crate::domain::outcome::{Outcome, ThrottleCause};
use crate::domain::time;
use crate::fleet::lease::Lease;
use crate::fleet::pool::{Inspect, Pool, Reload};
use crate::fleet::routes::{Publish, RouteTable};
use crate::settings::{Source, Variables, load};
use crate::tripwire::Alarm;

/// A table of one deployment each in these resources, with further settings of the deployment.
async fn table(names: &[String], more: &str) -> Arc<RouteTable> {
    let folder = tempfile::tempdir().unwrap();
    let region = |name: &String| {
        format!(
            "[resources.{name}]\nendpoint = \"https://{name}.openai.azure.com\"\napi_key = \"env:KEY\"\n\
             [resources.{name}.deployments]\nmini = {{ model = \"m\"{more} }}\n"
        )
    };
    std::fs::write(folder.path().join("a.toml"), names.iter().map(region).collect::<String>()).unwrap();
    let source = Source { variables: Variables::given([("KEY", "abc")]), ..Source::new(folder.path()) };
    let settings = Arc::new(load(&source).unwrap().settings);
    let pool = Pool::new(settings.clone(), Alarm::default()).start();
    pool.send(Reload(settings)).await.unwrap();
    let Publish(table) = pool.send(Inspect).await.unwrap();
    table
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("r{number}")).collect()
}

fn tier(table: &RouteTable) -> &Tier {
    &table.models[0].tiers[0]
}

fn prompt(number: u64) -> Affinity {
    Affinity { key: affinity::mix(number), branch: affinity::mix(!number), spread: 1, own: 1 }
}

fn demand(affinity: Option<&Affinity>) -> Demand {
    let plain = Demand::new(Operation::ChatCompletions, ModelName::from("m"));
    Demand { input_tokens: 2_000, affinity: affinity.copied(), ..plain }
}

fn choice<'t>(
    tier: &'t Tier,
    affinity: Option<&Affinity>,
    tried: &[DeploymentId],
    now: Timestamp,
) -> Option<Picked<'t>> {
    pick(tier, &Ask::of(&demand(affinity), tried, now), Trust::Anyone, &mut fastrand::Rng::new())
}

/// Resource and manner of a prompt's deployment.
fn go(tier: &Tier, prompt: &Affinity, tried: &[DeploymentId]) -> (String, Manner) {
    let picked = choice(tier, Some(prompt), tried, time::now()).unwrap();
    (picked.deployment.resource.to_string(), picked.manner)
}

const HOME: Manner = Manner::Pinned { choice: 1 };
const SECOND: Manner = Manner::Pinned { choice: 2 };

#[actix_rt::test]
async fn a_pick_takes_no_memory() {
    for count in [1, 2, 50, 500] {
        let table = table(&names(count), ", tpm = 100_000").await;
        let (tier, mut rng) = (tier(&table), fastrand::Rng::with_seed(7));
        let (tried, prompt) = (tier.deployments[0].id, prompt(1));
        let hot = Affinity { spread: 4, own: 2, ..prompt };
        let demands = [None, Some(&prompt), Some(&hot)].map(demand);
        let taken = allocation_counter::measure(|| {
            for _ in 0..100 {
                for demand in &demands {
                    let ask = Ask::of(demand, std::slice::from_ref(&tried), time::now());
                    let picked = pick(tier, &ask, Trust::Anyone, &mut rng);
                    assert_eq!(picked.is_some(), count > 1);
                }
            }
        });
        assert_eq!(taken.count_total, 0, "{count} deployments: {taken:?}");
    }
}

#[actix_rt::test]
async fn every_gateway_and_every_reload_finds_the_same_home() {
    let mut names = names(9);
    let (one, other) = (table(&names, "").await, table(&names, "").await);
    names.remove(4);
    let without = table(&names, "").await;
    let mut moved = 0;
    for number in 0..900 {
        let (home, manner) = go(tier(&one), &prompt(number), &[]);
        assert_eq!((home.clone(), manner), go(tier(&other), &prompt(number), &[]));
        assert_eq!(manner, HOME);
        if home == "r4" {
            moved += 1;
        } else {
            assert_eq!(go(tier(&without), &prompt(number), &[]).0, home, "what stays does not move");
        }
    }
    assert!((70..130).contains(&moved), "a ninth of 900, got {moved}");
}

#[actix_rt::test]
async fn a_full_a_failed_and_a_cooling_home_are_left_for_one_second_choice() {
    let table = table(&names(8), ", max_in_flight = 1").await;
    let (tier, prompt) = (tier(&table), prompt(4));
    let picked = choice(tier, Some(&prompt), &[], time::now()).unwrap();
    let (home, id) = (picked.deployment.clone(), picked.deployment.id);
    let second = go(tier, &prompt, &[id]);
    assert_eq!(second.1, SECOND);
    let lease = Lease::take(&home, 2_000, time::now()).unwrap();
    assert!((0..50).all(|_| go(tier, &prompt, &[]) == second), "while the home is full");
    let retry_after = Some(Duration::from_secs(9));
    lease.settle(Outcome::Throttled { cause: ThrottleCause::Capacity, retry_after }, None);
    assert!((0..50).all(|_| go(tier, &prompt, &[]) == second), "while it cools");
    let back = choice(tier, Some(&prompt), &[], time::now().after(Duration::from_secs(10))).unwrap();
    assert_eq!((back.deployment.id, back.manner), (id, HOME), "and comes home");
}

#[actix_rt::test]
async fn a_home_with_more_than_its_share_leaves_prompts_to_their_second_choice() {
    let table = table(&names(8), "").await;
    let (tier, prompt) = (tier(&table), prompt(4));
    let mut leases = Vec::new();
    for _ in 0..8 {
        let picked = choice(tier, Some(&prompt), &[], time::now()).unwrap();
        assert_eq!(picked.manner, HOME);
        leases.push(Lease::take(picked.deployment, 2_000, time::now()).unwrap());
    }
    assert_eq!(go(tier, &prompt, &[]).1, SECOND);
    leases.pop();
    assert_eq!(go(tier, &prompt, &[]).1, HOME);
}

#[actix_rt::test]
async fn choices_go_on_behind_the_places_until_nobody_can_be_asked() {
    let table = table(&names(20), ", max_in_flight = 1").await;
    let (tier, prompt, other) = (tier(&table), prompt(4), prompt(5));
    let mut leases = Vec::new();
    for number in 1..=20 {
        let picked = choice(tier, Some(&prompt), &[], time::now()).unwrap();
        assert_eq!(picked.manner, Manner::Pinned { choice: number.min(9) });
        let again = (0..20).map(|_| go(tier, &prompt, &[]).0);
        assert!(again.eq(std::iter::repeat_n(picked.deployment.resource.to_string(), 20)), "no matter of chance");
        leases.push(Lease::take(picked.deployment, 2_000, time::now()).unwrap());
        assert_eq!(choice(tier, Some(&other), &[], time::now()).is_some(), number < 20);
    }
}

#[actix_rt::test]
async fn what_has_no_affinity_goes_everywhere() {
    let table = table(&names(8), "").await;
    let (tier, mut rng, mut counts) = (tier(&table), fastrand::Rng::with_seed(7), HashMap::new());
    let demand = demand(None);
    for _ in 0..8_000 {
        let picked = pick(tier, &Ask::of(&demand, &[], time::now()), Trust::Anyone, &mut rng).unwrap();
        assert!(matches!(picked.manner, Manner::Drawn { .. }));
        *counts.entry(picked.deployment.resource.clone()).or_insert(0) += 1;
    }
    assert!(counts.len() == 8 && counts.values().all(|count| (850..1_150).contains(count)), "{counts:?}");
}
