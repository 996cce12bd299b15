//! When some or all are out: what clients see, how many calls an outage costs, and when its end is noticed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use aoai_gateway::balance::health::State;
use serde_json::{Value, json};

use super::{deployment, failing, metric, side_by_side, start};
use crate::support::answers::{QUESTION, STREAMED_QUESTION, answered};
use crate::support::fake_azure::{FakeAzure, Reply, Script};
use crate::support::gateway::{TestGateway, eventually, eventually_within};
use crate::support::tries::once_in_three;

const MUCH_LESS_THAN_A_MINUTE: Duration = Duration::from_secs(30);

/// An upstream that fails until the switch is turned.
fn until_healed(healed: &Arc<AtomicBool>, failing: Reply) -> FakeAzure {
    let healed = healed.clone();
    FakeAzure::start(Script::each(move |_| if healed.load(Relaxed) { answered() } else { failing.clone() }))
}

fn calls(azures: &[FakeAzure]) -> usize {
    azures.iter().map(|azure| azure.requests().len()).sum()
}

/// The newest request as the admin plane shows it.
fn newest(gateway: &TestGateway) -> Value {
    gateway.settle();
    let id = gateway.rows()[0].id;
    gateway.admin("GET", &format!("/requests/{id}"), "").expect(200).json()
}

#[test]
fn a_fresh_fault_on_two_of_three_is_invisible_and_costs_no_budget() {
    let azures = start(&[failing(), answered(), failing()]);
    let gateway = side_by_side(&azures, |estate| estate.0.routing.retry_budget = 0.0);
    for _ in 0..100 {
        gateway.chat(QUESTION).expect(200);
    }
    assert_eq!(metric(&gateway, "aoai_gateway_upstream_retries_denied_total"), 0.0);
}

#[test]
fn a_total_outage_costs_hardly_a_call_and_its_end_is_noticed_at_once() {
    // On a busy machine the pauses may be over before it comes to the last resort.
    once_in_three(an_outage_and_its_end);
}

fn an_outage_and_its_end() -> Result<(), String> {
    const REQUESTS: usize = 300;
    let healed = Arc::new(AtomicBool::new(false));
    // What takes so long to fail is left alone for twelve seconds at least: much longer than the last resort waits.
    let azures = [(); 3].map(|()| until_healed(&healed, failing().after(Duration::from_millis(400))));
    let gateway = side_by_side(&azures, |estate| estate.0.routing.cooldown = Duration::from_secs(3600));
    for _ in 0..REQUESTS {
        assert_eq!(gateway.chat(QUESTION).expect(503).code(), "upstream_unavailable");
    }
    let calls = calls(&azures);
    assert!(calls * 10 <= REQUESTS * 11, "{calls} calls for {REQUESTS} requests");
    for name in ["r0", "r1", "r2"] {
        assert_eq!(deployment(&gateway, name).gauges.state(), State::Open);
    }
    let told = gateway.chat(QUESTION).expect(503).header("retry-after-ms").unwrap().parse::<u64>().unwrap();
    assert!(told <= 1_000, "somebody is asked within a second, whatever the pauses: {told}");
    healed.store(true, Relaxed);
    eventually(|| match gateway.chat(QUESTION).status {
        200 => Ok(()),
        status => Err(format!("still {status}")),
    });
    gateway.settle();
    let row = gateway.rows().into_iter().find(|row| row.state == "settled").unwrap();
    let request = gateway.admin("GET", &format!("/requests/{}", row.id), "").expect(200).json();
    let is_last_resort = request["attempts"][0]["decision"]["manner"] == "last_resort";
    is_last_resort.then_some(()).ok_or_else(|| request.to_string())
}

#[test]
fn the_one_that_comes_back_first_is_not_left_alone_for_long() {
    let healed = Arc::new(AtomicBool::new(false));
    // What takes so long to fail is not probed again for a while, or nobody would have to panic.
    let azures = [(); 3].map(|()| until_healed(&healed, failing().after(Duration::from_millis(400))));
    let gateway = side_by_side(&azures, |estate| estate.0.routing.cooldown = Duration::from_secs(3600));
    let all = ["r0", "r1", "r2"].map(|name| deployment(&gateway, name));
    let open = || all.iter().filter(|deployment| deployment.gauges.state() == State::Open).count();
    eventually(|| match (gateway.chat(QUESTION).status, open()) {
        (_, 3) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    healed.store(true, Relaxed);
    eventually(|| match gateway.chat(QUESTION).status {
        200 => Ok(()),
        status => Err(format!("still {status}")),
    });
    eventually(|| match open() {
        2 => Ok(()),
        open => Err(format!("{open} are out")),
    });
    // Once one serves, nobody is the last resort any more; but most are out, and are looked at before their hour is over.
    eventually(|| match (gateway.chat(QUESTION).status, open()) {
        (200, 1) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let manners = |row: &aoai_gateway::storage::requests::RequestView| {
        let request = gateway.admin("GET", &format!("/requests/{}", row.id), "").expect(200).json();
        request["attempts"][0]["decision"]["manner"].clone()
    };
    gateway.settle();
    assert!(gateway.rows().iter().any(|row| manners(row) == "panic"));
}

#[test]
fn second_attempts_at_those_that_just_failed_have_a_budget() {
    const REQUESTS: usize = 200;
    let azures = start(&[failing(), failing(), failing()]);
    let gateway = side_by_side(&azures, |estate| {
        // Pauses so short that somebody may always be asked: only the budget is left to bound the calls.
        estate.0.routing.cooldown = Duration::from_micros(1);
    });
    for number in 0..REQUESTS {
        let question = if number % 2 == 0 { QUESTION } else { STREAMED_QUESTION };
        gateway.chat(question).expect(503);
        gateway.settle();
    }
    let calls = calls(&azures);
    println!("{calls} calls for {REQUESTS} requests");
    assert!(calls * 10 <= REQUESTS * 11, "{calls} calls for {REQUESTS} requests");
    assert!(metric(&gateway, "aoai_gateway_upstream_retries_denied_total") > 0.0);
}

#[test]
fn a_second_attempt_goes_to_one_that_works_even_in_a_later_tier() {
    let azures = start(&[failing(), failing(), answered()]);
    let gateway = TestGateway::with(|estate| {
        // A breaker that opens pauses for no time: whoever is bad may be asked, and is not.
        estate.0.routing.cooldown = Duration::from_micros(1);
        for (index, azure) in azures.iter().enumerate() {
            estate.tier(u32::try_from(index).unwrap(), &format!("r{index}"), azure.address());
        }
    });
    // Known for a moment after each fault, and for good when its breaker has opened.
    let request = eventually(|| {
        gateway.chat(QUESTION).expect(200);
        let request = newest(&gateway);
        match request["attempts"].as_array().unwrap().len() {
            2 => Ok(request),
            _ => Err(format!("r1 is still asked: {request}")),
        }
    });
    let attempts = request["attempts"].as_array().unwrap();
    assert_eq!((attempts.len(), &attempts[1]["resource"]), (2, &json!("r2")), "{request}");
    let passed = attempts[1]["decision"]["passed_over"].as_array().unwrap();
    let of = |name: &str| passed.iter().find(|one| one["resource"] == name).unwrap()["reason"].clone();
    assert_eq!((of("r0"), of("r1")), (json!("already_tried"), json!("known_bad")), "{request}");
}

#[test]
fn a_pause_that_was_asked_for_is_kept_when_nobody_else_is_left() {
    let throttled = Reply::json(429, "{}").with_header("retry-after-ms: 60000");
    let healed = Arc::new(AtomicBool::new(false));
    let azures = [until_healed(&healed, failing()), FakeAzure::start(Script::always(throttled))];
    let gateway = side_by_side(&azures, |_| {});
    eventually(|| {
        gateway.chat(QUESTION);
        match deployment(&gateway, "r0").gauges.state() {
            State::Open => Ok(()),
            state => Err(format!("r0 is {state:?}")),
        }
    });
    healed.store(true, Relaxed);
    eventually_within(MUCH_LESS_THAN_A_MINUTE, || match gateway.chat(QUESTION).status {
        200 => Ok(()),
        status => Err(format!("still {status}")),
    });
    assert_eq!(azures[1].requests().len(), 1, "it had asked for a minute");
}

#[test]
fn a_rate_of_faults_opens_the_breaker_though_good_answers_come_between() {
    let flapping = Script::each(|request| if request.index % 2 == 0 { failing() } else { answered() });
    let azures = [FakeAzure::start(flapping), FakeAzure::start(Script::always(answered()))];
    let gateway = side_by_side(&azures, |_| {});
    let r0 = deployment(&gateway, "r0");
    eventually(|| {
        for _ in 0..10 {
            gateway.chat(QUESTION).expect(200);
        }
        match r0.gauges.state() {
            State::Open => Ok(()),
            state => Err(format!("r0 is {state:?} after {} requests", azures[0].requests().len())),
        }
    });
    assert!(azures[0].requests().len() >= 20, "a rate needs some volume");
}

#[test]
fn neither_clients_mistakes_nor_clients_who_leave_make_anybody_ill() {
    let mistaken = Reply::json(400, r#"{"error":{"code":"context_length_exceeded","message":"too long"}}"#);
    let azures = start(&[mistaken]);
    let gateway = side_by_side(&azures, |_| {});
    for _ in 0..60 {
        gateway.chat(QUESTION).expect(400);
    }
    let r0 = deployment(&gateway, "r0");
    assert_eq!((r0.gauges.state(), r0.gauges.share(), r0.gauges.consecutive_faults()), (State::Closed, 1_000, 0));
    drop(gateway);
    let azures = start(&[Reply::silence()]);
    let gateway = side_by_side(&azures, |_| {});
    for number in 1..=8 {
        let mut client = gateway.client();
        client.send(gateway.chat_request(QUESTION));
        azures[0].wait_for(|seen| seen.requests.len() == number);
        client.leave();
        azures[0].wait_for(|seen| seen.hang_ups == number);
    }
    gateway.settle();
    let r0 = deployment(&gateway, "r0");
    assert_eq!((r0.gauges.state(), r0.gauges.share(), r0.gauges.consecutive_faults()), (State::Closed, 1_000, 0));
}
