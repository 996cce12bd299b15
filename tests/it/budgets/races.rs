//! Many requests at once against a limit for a few.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use super::{EACH, ask, is_used_up, key_with, question, quota, unlimited};
use crate::support::answers::{QUESTION, answered};
use crate::support::fake_azure::{FakeAzure, Script};
use crate::support::gateway::TestGateway;
use crate::support::tries::once_in_three;

/// Each asks until it is served or told that there is nothing left; gives how many were served.
fn all_at_once(gateway: &TestGateway, secret: &str, body: &str, clients: usize) -> usize {
    let (served, told_to_come_back) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                loop {
                    let answer = ask(gateway, secret, body);
                    if answer.status == 200 {
                        served.fetch_add(1, Ordering::Relaxed);
                        return;
                    }
                    assert_eq!((answer.status, answer.code().as_str()), (429, "insufficient_quota"));
                    if answer.header("x-should-retry") == Some("false") {
                        is_used_up(&answer);
                        return;
                    }
                    assert_eq!(answer.header("retry-after"), Some("1"));
                    told_to_come_back.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    println!("told to come back {} times", told_to_come_back.into_inner());
    served.into_inner()
}

#[test]
fn a_quota_for_ten_requests_serves_ten_of_two_hundred_at_once_and_never_an_eleventh() {
    let azure = FakeAzure::start(Script::always(answered().after(Duration::from_millis(5))));
    let gateway = TestGateway::before(azure.address());
    let (id, secret) = key_with(&gateway, json!({ "period": "month", "tokens": 10 * EACH }));
    assert_eq!(all_at_once(&gateway, &secret, &question(5), 200), 10);
    assert_eq!(azure.requests().len(), 10);
    gateway.settle();
    let quota = quota(&gateway, &id);
    assert_eq!((quota["used_tokens"].as_u64(), quota["reserved_tokens"].as_u64()), (Some(10 * EACH), Some(0)));
    assert_eq!(quota["remaining_tokens"], 0);
}

#[test]
fn the_same_in_money() {
    let azure = FakeAzure::start(Script::always(answered()));
    let gateway = TestGateway::with(|estate| {
        estate.azure("east", azure.address());
        let model = estate.0.models.entry(crate::support::gateway::MODEL.into()).or_default();
        // A dollar a thousand tokens, in and out: an answer costs 1.7 cents.
        model.price = aoai_gateway::domain::money::Price::of(1_000_000_000, 1_000_000_000, 1_000_000_000);
    });
    let (id, secret) = key_with(&gateway, json!({ "period": "day", "cost_usd": 0.17 }));
    assert_eq!(all_at_once(&gateway, &secret, &question(5), 60), 10);
    gateway.settle();
    let quota = quota(&gateway, &id);
    assert_eq!((quota["used_cost_usd"].as_f64(), quota["reserved_cost_usd"].as_f64()), (Some(0.17), Some(0.0)));
    let refused = ask(&gateway, &secret, &question(5));
    is_used_up(&refused);
    assert!(refused.text().contains("daily quota of 0.17 US dollars is used up"), "{}", refused.text());
}

#[test]
fn a_request_without_a_cap_oversteps_a_quota_by_itself_at_most() {
    let azure = FakeAzure::start(Script::always(answered()));
    let gateway = TestGateway::before(azure.address());
    // Nothing names its output, so one comes in at a time; the last one has 15 tokens left and takes 17.
    let (id, secret) = key_with(&gateway, json!({ "period": "month", "tokens": 3 * EACH + 15 }));
    assert_eq!(all_at_once(&gateway, &secret, QUESTION, 30), 4);
    gateway.settle();
    assert_eq!(quota(&gateway, &id)["used_tokens"], 4 * EACH);
}

/// A minute is a minute: on a machine that needs longer than that for fifty calls, tokens come back meanwhile.
#[test]
fn a_limit_on_tokens_holds_under_fifty_calls_at_once() {
    once_in_three(|| {
        let began = Instant::now();
        let held = std::panic::catch_unwind(fifty_calls_at_once);
        match (held, began.elapsed()) {
            (Ok(()), _) => Ok(()),
            (Err(_), took) if took > Duration::from_secs(50) => Err(format!("it took {took:?}")),
            (Err(why), _) => std::panic::resume_unwind(why),
        }
    });
}

fn fifty_calls_at_once() {
    let azure = FakeAzure::start(Script::always(answered()));
    let gateway = TestGateway::before(azure.address());
    let mut limits = unlimited();
    limits["tpm"] = json!(6 * EACH - 1);
    let (_, secret) = gateway.new_key(json!({ "limits": limits }));
    let served = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| {
                let answer = ask(&gateway, &secret, &question(5));
                match answer.status {
                    200 => drop(served.fetch_add(1, Ordering::Relaxed)),
                    _ => {
                        assert_eq!((answer.status, answer.code().as_str()), (429, "rate_limit_exceeded"));
                        assert_eq!(answer.json()["error"]["type"], "tokens");
                        let wait: u64 = answer.header("retry-after-ms").unwrap().parse().unwrap();
                        assert!((1..=61_000).contains(&wait), "{wait}");
                    }
                }
            });
        }
    });
    let served = served.into_inner() as u64;
    assert!((1..=5).contains(&served), "{served} x {EACH} tokens of {}", 6 * EACH - 1);
    // What is left after the race is used, too.
    for _ in served..5 {
        ask(&gateway, &secret, &question(5)).expect(200);
    }
    let refused = ask(&gateway, &secret, &question(5)).expect(429);
    assert_eq!(refused.header("x-ratelimit-remaining-tokens").unwrap(), (6 * EACH - 1 - 5 * EACH).to_string());
}
