//! Regions that fail: invisible while nothing has come of a response, told clearly afterwards, and never the session's end.

use aoai_gateway::simulator::{Cause, Cut, Fault, FaultKind};

use super::*;
use crate::support::client::BodyEnd;

#[test]
fn a_region_that_has_no_room_or_does_not_work_is_invisible() {
    for fault in [
        Fault::throttle(Cause::Token),
        Fault::new(FaultKind::ThrottleInBand { retry_after_ms: Some(30_000) }),
        Fault::fail(500),
        Fault::new(FaultKind::Reset),
        Fault::new(FaultKind::Refuse),
    ] {
        let (first, second, gateway) = tiers();
        let mut session = open(&gateway);
        first.control().inject(fault.clone());
        let events = turn(&mut session, &create("Name a colour."));
        assert!(events.iter().all(|event| event["type"] != "error" && event["type"] != "response.failed"), "{fault:?}");
        session.close();
        gateway.settle();
        let row = gateway.row();
        assert_eq!((resources(&row), row.state.as_str()), (vec!["east", "west"], "settled"), "{fault:?}");
        assert_eq!(booked(&[row]), charged(&journal(&second)));
    }
}

#[test]
fn what_nobody_can_serve_is_refused_and_the_session_stays() {
    let (azure, gateway) = world();
    let mut session = open(&gateway);
    let kind = FaultKind::Throttle { cause: Cause::Call, retry_after_ms: Some(30_000) };
    let fault = azure.control().inject(Fault::new(kind));
    let told = session.say(&create("a")).event();
    assert_eq!((&told["status"], &told["error"]["code"]), (&json!(429), &json!("upstream_exhausted")));
    let wait: u64 = told["headers"]["retry-after-ms"].as_str().unwrap().parse().unwrap();
    assert!((1..=31_000).contains(&wait), "{told}");
    azure.control().remove(fault);
    session.close();
    gateway.settle();
    assert_eq!((gateway.row().state.as_str(), gateway.row().status), ("failed", Some(429)));
}

#[test]
fn an_upstreams_own_refusal_passes_in_its_words() {
    let (_azure, gateway) = world();
    let mut session = open(&gateway);
    let mut event = create("a");
    event["max_output_tokens"] = json!(1);
    let posted = json!({"model": MODEL, "input": "a", "max_output_tokens": 1, "stream": true});
    let refusal = gateway.post(PATH, &posted.to_string()).expect(400).json();
    let told = session.say(&event).event();
    assert_eq!((&told["type"], &told["status"], &told["error"]), (&json!("error"), &json!(400), &refusal["error"]));
    answered(&mut session, &create("a"));
    session.close();
}

#[test]
fn a_cut_response_is_told_and_the_next_one_served() {
    let (azure, gateway) = world();
    let mut session = open(&gateway);
    let start = answered(&mut session, &unstored("Name a colour."));
    for after_chunks in [4, 9] {
        azure.control().inject(Fault::cut(Cut::AfterChunks(after_chunks)).times(1));
        session.say(&after(&start, unstored("And another?")));
        let events = session.until("error");
        assert_eq!(events[0]["type"], "response.created");
        assert_eq!(events[events.len() - 1]["error"]["code"], "upstream_stream_cut", "{events:?}");
    }
    // It goes on from where it was.
    answered(&mut session, &after(&start, unstored("And another?")));
    session.close();
    gateway.settle();
    let rows = rows(&gateway);
    let states: Vec<_> = rows.iter().map(|row| (row.state.as_str(), row.estimated)).collect();
    assert_eq!(states, [("settled", false), ("failed", true), ("failed", true), ("settled", false)]);
    // The same as if it had been posted.
    azure.control().inject(Fault::cut(Cut::AfterChunks(4)).times(1));
    let posted = json!({"model": MODEL, "input": "a", "stream": true});
    assert_eq!(gateway.post(PATH, &posted.to_string()).end, BodyEnd::Cut);
}
