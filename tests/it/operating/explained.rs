//! Why a request went where it went.

use std::time::Duration;

use aoai_gateway::simulator::Knobs;
use serde_json::{Value, json};

use super::{ahead, deployment, throttled};
use crate::support::answers::{QUESTION, answered};
use crate::support::fake_azure::{FakeAzure, Gate, Reply, Script};
use crate::support::gateway::{TestGateway, eventually};
use crate::support::process::Estate;

fn start(replies: &[Reply]) -> Vec<FakeAzure> {
    replies.iter().map(|reply| FakeAzure::start(Script::always(reply.clone()))).collect()
}

/// The newest request as the admin plane shows it.
#[track_caller]
fn newest(gateway: &TestGateway) -> Value {
    gateway.settle();
    let id = gateway.rows()[0].id;
    gateway.admin("GET", &format!("/requests/{id}"), "").expect(200).json()
}

/// Resource and reason of each that was passed over.
#[track_caller]
fn reasons(decision: &Value) -> Vec<(&str, &str)> {
    let passed = decision["passed_over"].as_array().unwrap_or_else(|| panic!("no decision: {decision}"));
    passed.iter().map(|one| (one["resource"].as_str().unwrap(), one["reason"].as_str().unwrap())).collect()
}

#[test]
fn each_attempt_says_why_the_others_were_passed_over() {
    let azures = start(&[throttled(30_000), Reply::json(401, "{}"), answered(), answered()]);
    let gateway = TestGateway::with(|estate| {
        for (priority, (name, azure)) in ["r0", "r1", "r2", "r3"].into_iter().zip(&azures).enumerate() {
            estate.tier(u32::try_from(priority).unwrap(), name, azure.address());
        }
    });
    gateway.chat(QUESTION).expect(200);
    let request = newest(&gateway);
    let attempts = request["attempts"].as_array().unwrap();
    assert_eq!((attempts.len(), &request["refusals"], request.get("decision_note")), (3, &json!([]), None));
    let lower = "lower_tier";
    assert_eq!(reasons(&attempts[0]["decision"]), [("r1", lower), ("r2", lower), ("r3", lower)]);
    assert_eq!(reasons(&attempts[1]["decision"]), [("r0", "already_tried"), ("r2", lower), ("r3", lower)]);
    assert_eq!(reasons(&attempts[2]["decision"]), [("r0", "already_tried"), ("r1", "already_tried"), ("r3", lower)]);
    assert_eq!((&attempts[2]["resource"], &attempts[2]["decision"]["priority"]), (&json!("r2"), &json!(2)));

    deployment(&gateway, "r1", |r1| r1["health"] == "quarantined");
    gateway.admin("POST", "/resources/r2/drain", "").expect(200);
    gateway.chat(QUESTION).expect(200);
    let request = newest(&gateway);
    let decision = &request["attempts"][0]["decision"];
    assert_eq!(reasons(decision), [("r0", "cooling"), ("r1", "quarantined"), ("r2", "drained")]);
    for (index, longest) in [(0, 30), (1, 60)] {
        let until = ahead(&decision["passed_over"][index]["until"]);
        // A pause is lengthened a little, so that not all come back at the same moment.
        assert!(until > Duration::from_secs(longest - 15) && until <= Duration::from_secs(longest + 1), "{until:?}");
    }
}

#[test]
fn want_of_room_and_a_lost_draw_are_told_with_their_figures() {
    let gate = Gate::default();
    let azures = start(&[answered().after_gate(&gate), answered(), answered()]);
    let gateway = TestGateway::with(|estate| {
        let full = estate.tier(0, "full", azures[0].address());
        full.deployments.values_mut().for_each(|deployment| deployment.max_in_flight = Some(1));
        estate.tier(1, "one", azures[1].address());
        estate.tier(1, "two", azures[2].address());
    });
    let mut held = gateway.client();
    held.send(gateway.chat_request(QUESTION));
    azures[0].wait_for(|seen| seen.requests.len() == 1);
    let open = eventually(|| gateway.rows().pop().ok_or_else(|| "its intent is not written".to_owned()));
    let open = gateway.admin("GET", &format!("/requests/{}", open.id), "").expect(200).json();
    assert_eq!((&open["state"], &open["attempts"]), (&json!("open"), &json!([])), "{open}");
    assert_eq!(open["under_way"][0]["resource"], "full", "{open}");
    let mut seen = Vec::new();
    for _ in 0..40 {
        gateway.chat(QUESTION).expect(200);
        let row = gateway.rows().into_iter().find(|row| row.state == "settled").unwrap();
        let request = gateway.admin("GET", &format!("/requests/{}", row.id), "").expect(200).json();
        let decision = &request["attempts"][0]["decision"];
        let full = &decision["passed_over"][0];
        assert_eq!(
            (&full["reason"], &full["in_flight"], &full["max_in_flight"]),
            (&json!("no_room"), &json!(1), &json!(1))
        );
        let other = &decision["passed_over"][1];
        let loads = (decision["load"].as_f64().unwrap(), other["load"].as_f64().unwrap());
        match other["reason"].as_str().unwrap() {
            // The owner may hear of an answer between the draw and its explanation.
            "lost_draw" => assert!(loads.0 > 0.0 && loads.1 > 0.0, "{decision}"),
            "not_drawn" => {}
            reason => panic!("{reason} in {decision}"),
        }
        seen.push(other["reason"].clone());
        if ["lost_draw", "not_drawn"].iter().all(|reason| seen.contains(&json!(reason))) {
            break;
        }
    }
    assert!(seen.contains(&json!("lost_draw")) && seen.contains(&json!("not_drawn")), "{seen:?}");
    gate.open();
    held.answer().expect(200);
}

#[test]
fn a_refusal_is_explained_although_nobody_was_asked() {
    let azures = start(&[throttled(20_000)]);
    let gateway = TestGateway::before(azures[0].address());
    gateway.chat(QUESTION).expect(429);
    let request = newest(&gateway);
    assert_eq!(reasons(&request["attempts"][0]["decision"]), []);
    assert_eq!(reasons(&request["refusals"][0]), [("east", "already_tried")]);
    gateway.chat(QUESTION).expect(429);
    let request = newest(&gateway);
    assert_eq!((&request["attempts"], &request["status"]), (&json!([]), &json!(429)));
    assert_eq!(reasons(&request["refusals"][0]), [("east", "cooling")]);
}

#[test]
fn a_breaker_that_is_open_and_one_that_is_probed() {
    let gate = Gate::default();
    let azure = FakeAzure::start(Script::each({
        let gate = gate.clone();
        move |request| if request.index < 3 { Reply::json(500, "{}") } else { answered().after_gate(&gate) }
    }));
    let gateway = TestGateway::with(|estate| {
        estate.azure("east", azure.address());
        estate.0.routing.cooldown = Duration::from_millis(500);
    });
    for _ in 0..3 {
        gateway.chat(QUESTION).expect(503);
    }
    deployment(&gateway, "east", |east| east["breaker"] == "open" && east["health"] == "failing");
    gateway.chat(QUESTION).expect(503);
    assert_eq!(reasons(&newest(&gateway)["refusals"][0]), [("east", "breaker_open")]);
    deployment(&gateway, "east", |east| east["breaker"] == "half_open" && east["cooldown_until"].is_null());
    let mut probe = gateway.client();
    probe.send(gateway.chat_request(QUESTION));
    azure.wait_for(|seen| seen.requests.len() == 4);
    gateway.chat(QUESTION).expect(503);
    let row = gateway.rows().into_iter().find(|row| row.state == "failed").unwrap();
    let request = gateway.admin("GET", &format!("/requests/{}", row.id), "").expect(200).json();
    assert_eq!(reasons(&request["refusals"][0]), [("east", "being_probed")]);
    gate.open();
    probe.answer().expect(200);
    deployment(&gateway, "east", |east| east["breaker"] == "closed" && east["health"] == "ok");
}

#[test]
fn after_a_restart_the_row_is_there_without_its_reasons_and_debug_logs_had_them() {
    let estate = Estate::of(&["eastus2", "westus3"], &Knobs::default(), "");
    let mut gateway = estate.start_with(|command| {
        command.env("RUST_LOG", "debug");
    });
    gateway.chat(&estate.key, QUESTION).expect(200);
    let line = gateway.says(|line| line["message"] == "routed");
    let id = line["request"].as_str().unwrap().to_owned();
    assert!(line["chosen"].as_str().unwrap().ends_with("/gpt-4o-mini") && line["level"] == "DEBUG", "{line}");
    let passed = line["passed_over"].as_str().unwrap();
    assert!(passed.ends_with("not_drawn") || passed.ends_with("lost_draw"), "{line}");
    let path = format!("/admin/v1/requests/{id}");
    let request = eventually(|| match gateway.admin(&path).expect(200).json() {
        request if request["state"] == "settled" => Ok(request),
        request => Err(request.to_string()),
    });
    assert_eq!(request["attempts"][0]["decision"]["passed_over"].as_array().unwrap().len(), 1, "{request}");
    gateway.stop();
    let gateway = estate.start();
    let request = gateway.admin(&path).expect(200).json();
    assert_eq!((&request["state"], &request["attempts"][0]["decision"]), (&json!("settled"), &Value::Null));
    assert!(request["decision_note"].as_str().unwrap().contains("in memory"), "{request}");
    gateway.stop();
}
