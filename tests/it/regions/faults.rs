//! A key that is limited to the EU, under every fault that a simulated region can play.

use std::time::Duration;

use aoai_gateway::simulator::{Cause, Cut, Ending, FailBody, Fault, FaultKind};

use super::{Continents, idle, seen, well};
use crate::support::answers::{QUESTION, STREAMED_QUESTION};
use crate::support::client::BodyEnd;
use crate::support::report::Report;

/// Each fault, and the status that a total outage by it gives.
fn faults() -> Vec<(Fault, u16)> {
    let throttle = |cause, milliseconds| FaultKind::Throttle { cause, retry_after_ms: Some(milliseconds) };
    let mut faults = vec![
        (Fault::new(throttle(Cause::Call, 600)), 429),
        (Fault::new(throttle(Cause::Token, 600)), 429),
        (Fault::new(throttle(Cause::Capacity, 600)), 429),
        (Fault::new(FaultKind::Hang), 503),
        (Fault::new(FaultKind::Refuse), 502),
        (Fault::new(FaultKind::Reset), 502),
        (Fault::new(FaultKind::Shrink { factor: 0.0 }), 429),
        (Fault::new(FaultKind::Fail { status: 503, body: FailBody::Html }), 503),
        (Fault::new(FaultKind::Fail { status: 500, body: FailBody::Empty }), 503),
    ];
    faults.extend([401, 403, 404, 408, 500, 503].map(|status| (Fault::fail(status), 503)));
    for ending in [Ending::Close, Ending::Reset] {
        faults.push((Fault::new(FaultKind::Cut { after: Cut::AfterBytes(5), ending }), 502));
    }
    faults
}

#[test]
fn one_region_of_the_eu_fails_and_the_other_serves() {
    let mut report = Report::new(
        "7-residency.md",
        "A key that is limited to the EU",
        "One of its two regions has the fault; two regions elsewhere would have served. The figures are the regions' own.",
    );
    report.table(&["fault", "served by the other EU region", "arrived outside the EU"]);
    for (fault, _) in faults() {
        let continents = Continents::new();
        continents.spoil(&fault, &continents.eu[..1]);
        for question in [QUESTION, STREAMED_QUESTION, QUESTION, STREAMED_QUESTION] {
            let answer = continents.ask(question).expect(200);
            assert_eq!(answer.end, BodyEnd::Whole, "{fault:?}");
        }
        idle(&continents.eu[1..]);
        let (served, abroad) = (seen(&continents.eu[1]), continents.abroad());
        assert!(served >= 4 && abroad == 0, "{fault:?}");
        report.row([format!("`{:?}`", fault.kind), served.to_string(), abroad.to_string()]);
        continents.others_would_have_served();
    }
    report.publish();
}

#[test]
fn a_total_outage_of_the_eu_is_said_and_not_served_from_elsewhere() {
    for (fault, status) in faults() {
        let continents = Continents::new();
        continents.spoil(&fault, &continents.eu);
        // Until the breakers are open and beyond.
        for question in [QUESTION, STREAMED_QUESTION].repeat(3) {
            let answer = continents.ask(question);
            assert!([status, 503].contains(&answer.status), "{fault:?}: {} {}", answer.status, answer.text());
            let code = answer.code();
            assert!(code.starts_with("upstream_"), "{fault:?}: {code}");
            assert!(answer.text().contains("limited to these regions: germanywestcentral, swedencentral."));
            // 502 names no time: what is nonsense now may be nonsense later.
            let told = answer.header("retry-after-ms").map(|text| text.parse::<u64>().unwrap());
            assert!(told.map_or(answer.status == 502, |told| (1..=120_000).contains(&told)), "{fault:?}: {told:?}");
        }
        assert_eq!(continents.abroad(), 0, "{fault:?}");
        assert!(
            continents
                .gateway
                .rows()
                .iter()
                .all(|row| row.attempts.iter().all(|one| { ["sweden", "germany"].contains(&one.resource.as_str()) }))
        );
        continents.others_would_have_served();
    }
}

#[test]
fn a_stream_that_breaks_is_cut_and_not_continued_elsewhere() {
    for ending in [Ending::Close, Ending::Reset, Ending::Clean, Ending::ErrorFrame] {
        let continents = Continents::new();
        continents.spoil(&Fault::new(FaultKind::Cut { after: Cut::AfterChunks(4), ending }), &continents.eu);
        let answer = continents.ask(STREAMED_QUESTION);
        assert!(answer.status != 200 || answer.end == BodyEnd::Cut, "{ending:?}");
        assert_eq!(continents.abroad(), 0, "{ending:?}");
    }
    let continents = Continents::new();
    continents.spoil(&Fault::new(FaultKind::HangMidStream { after_chunks: 4 }), &continents.eu);
    let answer = continents.ask(STREAMED_QUESTION);
    assert_eq!((answer.status, answer.end), (200, BodyEnd::Cut));
    assert_eq!(continents.abroad(), 0);
}

#[test]
fn nobody_listens_in_the_eu_and_then_somebody_does() {
    let mut continents = Continents::new();
    let gone = continents.eu.drain(..).collect::<Vec<_>>();
    gone.into_iter().for_each(|simulator| crate::support::gateway::wait(simulator.stop()));
    for _ in 0..4 {
        let answer = continents.ask(QUESTION).expect(503);
        assert_eq!(answer.code(), "upstream_unavailable");
    }
    assert_eq!(continents.abroad(), 0);

    let continents = Continents::new();
    let outage = Fault::fail(500).lasting(Duration::from_millis(300));
    continents.spoil(&outage, &continents.eu);
    continents.ask(QUESTION).expect(503);
    for (name, _) in super::EU {
        well(&continents.gateway, name);
    }
    crate::support::gateway::eventually(|| match continents.ask(QUESTION).status {
        200 => Ok(()),
        status => Err(format!("still {status}")),
    });
    assert_eq!(continents.abroad(), 0);
}
