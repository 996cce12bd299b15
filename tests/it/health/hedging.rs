//! A second deployment beside one that does not begin to answer: who wins, who is hung up on, and what is booked.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;

use super::{failing, start};
use crate::support::answers::{QUESTION, STREAMED_QUESTION, answered, full_stream, stream_without_usage, streamed};
use crate::support::fake_azure::{FakeAzure, Gate, Reply, Script};
use crate::support::gateway::{TestGateway, eventually};

fn answering() -> Reply {
    streamed(&full_stream())
}

/// Resources in tiers: the first is asked first, the second is its hedge.
fn hedged(azures: &[FakeAzure], after: Duration) -> TestGateway {
    TestGateway::with(|estate| {
        estate.0.routing.hedge_after = Some(after);
        for (tier, azure) in (0..).zip(azures) {
            estate.tier(tier, &format!("r{tier}"), azure.address());
        }
    })
}

fn count(gateway: &TestGateway, result: &str) -> f64 {
    gateway.house.metrics.hedges.with_label_values(&[result]).get() as f64
}

/// Resource, reason and charge of each attempt of the only row.
fn attempts(gateway: &TestGateway) -> Vec<(String, String, String)> {
    gateway.settle();
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let attempts = gateway.row().attempts;
    attempts.iter().map(|one| (one.resource.clone(), text(&one.reason), text(&one.charged))).collect()
}

fn attempt(resource: &str, reason: &str, charged: &str) -> (String, String, String) {
    (resource.to_owned(), reason.to_owned(), charged.to_owned())
}

const SHORTLY: Duration = Duration::from_millis(50);

#[test]
fn the_quicker_one_answers_and_the_other_is_hung_up_on() {
    let azures = start(&[Reply::silence(), answering()]);
    let gateway = hedged(&azures, SHORTLY);
    let answer = gateway.chat(STREAMED_QUESTION).expect(200);
    assert_eq!(answer.text(), stream_without_usage().concat());
    azures[0].wait_for(|seen| seen.hang_ups == 1);
    assert_eq!(attempts(&gateway), [attempt("r0", "abandoned", "ambiguous"), attempt("r1", "served", "exact")]);
    let row = gateway.row();
    let billed = (row.state.as_str(), row.estimated, row.input_tokens, row.output_tokens);
    assert_eq!(billed, ("settled", false, 12, 4), "one of the two");
    assert!(row.attempts[0].input_tokens > 0, "Azure may have billed the other");
    assert_eq!((count(&gateway, "won"), count(&gateway, "lost")), (1.0, 0.0));
    let request = gateway.admin("GET", &format!("/requests/{}", row.id), "").expect(200).json();
    let manners = [0, 1].map(|index| request["attempts"][index]["decision"]["manner"].clone());
    assert_eq!(manners, [json!("drawn"), json!("hedge")], "{request}");
}

#[test]
fn the_first_may_still_win() {
    let gate = Gate::default();
    let azures = start(&[answering().after_gate(&gate), Reply::silence()]);
    let gateway = hedged(&azures, SHORTLY);
    let mut client = gateway.client();
    client.send(gateway.chat_request(STREAMED_QUESTION));
    azures[1].wait_for(|seen| seen.requests.len() == 1);
    gate.open();
    assert_eq!(client.answer().expect(200).text(), stream_without_usage().concat());
    azures[1].wait_for(|seen| seen.hang_ups == 1);
    assert_eq!(attempts(&gateway), [attempt("r1", "abandoned", "ambiguous"), attempt("r0", "served", "exact")]);
    assert_eq!((count(&gateway, "won"), count(&gateway, "lost")), (0.0, 1.0));
}

#[test]
fn one_that_fails_leaves_the_other_at_work() {
    for fails in [0, 1] {
        let gate = Gate::default();
        let mut replies = [answering().after_gate(&gate), answering().after_gate(&gate)];
        replies[fails] = failing().after(SHORTLY * 4);
        let azures = start(&replies);
        let gateway = hedged(&azures, SHORTLY);
        let mut client = gateway.client();
        client.send(gateway.chat_request(STREAMED_QUESTION));
        for azure in &azures {
            azure.wait_for(|seen| seen.requests.len() == 1);
        }
        gateway_has_noted_a_failure(&gateway);
        gate.open();
        assert_eq!(client.answer().expect(200).text(), stream_without_usage().concat());
        let (failed, served) = (format!("r{fails}"), format!("r{}", 1 - fails));
        assert_eq!(attempts(&gateway), [attempt(&failed, "status", "ambiguous"), attempt(&served, "served", "exact")]);
    }
}

fn gateway_has_noted_a_failure(gateway: &TestGateway) {
    eventually(|| {
        let faults = |name: &str| super::deployment(gateway, name).gauges.consecutive_faults();
        match faults("r0") + faults("r1") {
            1 => Ok(()),
            faults => Err(format!("{faults} faults")),
        }
    });
}

#[test]
fn when_both_fail_the_next_is_asked() {
    let slow = failing().after(SHORTLY * 2);
    let azures = start(&[slow.clone(), slow, answering()]);
    let gateway = hedged(&azures, SHORTLY);
    assert_eq!(gateway.chat(STREAMED_QUESTION).expect(200).text(), stream_without_usage().concat());
    let attempts = attempts(&gateway);
    assert_eq!((attempts.len(), attempts[2].0.as_str()), (3, "r2"), "{attempts:?}");
}

#[test]
fn a_client_who_leaves_leaves_both() {
    let azures = start(&[Reply::silence(), Reply::silence()]);
    let gateway = hedged(&azures, SHORTLY);
    let mut client = gateway.client();
    client.send(gateway.chat_request(STREAMED_QUESTION));
    azures[1].wait_for(|seen| seen.requests.len() == 1);
    client.leave();
    for azure in &azures {
        azure.wait_for(|seen| seen.hang_ups == 1);
    }
    let attempts = attempts(&gateway);
    assert_eq!(attempts, [attempt("r1", "abandoned", "ambiguous"), attempt("r0", "abandoned", "ambiguous")]);
    let row = gateway.row();
    assert_eq!((row.state.as_str(), row.estimated), ("cancelled", true));
    assert_eq!(row.input_tokens, row.attempts[0].input_tokens, "billed once");
}

#[test]
fn only_streams_are_hedged_and_only_where_there_is_another() {
    let azures = start(&[answered().after(SHORTLY * 4), answered()]);
    let gateway = hedged(&azures, SHORTLY);
    gateway.chat(QUESTION).expect(200);
    assert!(azures[1].requests().is_empty(), "how long a whole answer takes is no sign");
    drop(gateway);
    let azures = start(&[answering().after(SHORTLY * 4)]);
    let gateway = hedged(&azures, SHORTLY);
    gateway.chat(STREAMED_QUESTION).expect(200);
    assert_eq!((count(&gateway, "denied"), azures[0].requests().len()), (1.0, 1));
}

#[test]
fn at_most_one_request_in_twenty_has_a_hedge() {
    const REQUESTS: usize = 100;
    // The first does not begin before it is known what became of its hedge, however slow the machine is.
    // One that was given up may never have reached it, so its requests are not counted.
    let gate = Arc::new(Mutex::new(Gate::default()));
    let present = gate.clone();
    let first = Script::each(move |_| answering().after_gate(&present.lock().unwrap()));
    let azures = [FakeAzure::start(first), FakeAzure::start(Script::always(answering()))];
    let gateway = hedged(&azures, Duration::from_millis(1));
    let (mut client, denied) = (gateway.client(), || count(&gateway, "denied") as usize);
    for number in 1..=REQUESTS {
        *gate.lock().unwrap() = Gate::default();
        client.send(gateway.chat_request(STREAMED_QUESTION));
        eventually(|| match (azures[1].requests().len(), denied()) {
            (hedges, denied) if hedges + denied == number => Ok(()),
            other => Err(format!("(hedged, denied) = {other:?} at request {number}")),
        });
        gate.lock().unwrap().open();
        client.answer().expect(200);
    }
    let hedges = azures[1].requests().len();
    // As many as were saved up at first, beside one for twenty.
    assert!((1..=REQUESTS / 20 + 3).contains(&hedges), "{hedges} hedges for {REQUESTS} requests");
    assert_eq!(hedges as f64, count(&gateway, "won") + count(&gateway, "lost"));
}
