//! Faults on command: what the wire shows, and what the journal says of it.

use std::time::Duration;

use aoai_gateway::simulator::{Cause, Cut, Ending, Entry, FailBody, Fault, FaultKind, Simulator};

use super::client::{Answer, Client, End};
use super::{ask, chat, dated, idle, resource, run, streamed};

/// Asks once under a fault; the answer and the journal's entry.
async fn under(simulator: &Simulator, fault: Fault, body: &serde_json::Value) -> (Answer, Entry) {
    let control = simulator.control();
    control.inject(fault.times(1));
    let answer = ask(simulator, body);
    idle(simulator).await;
    (answer, control.journal().pop().unwrap())
}

fn cut(after: Cut, ending: Ending) -> Fault {
    Fault::new(FaultKind::Cut { after, ending })
}

#[actix_web::test]
async fn a_throttle_names_its_cause_and_how_long_it_lasts() {
    let simulator = run(resource("faults")).await;
    let control = simulator.control();
    control.inject(Fault::throttle(Cause::Call).lasting(Duration::from_secs(30)));
    let refused = ask(&simulator, &chat("hi"));
    assert_eq!((refused.status(), refused.number("retry-after")), (429, 30));
    assert_eq!(refused.number("x-ratelimit-remaining-requests"), 0);
    assert!(refused.text().contains("exceeded the call rate limit"));
    control.heal();
    assert_eq!(ask(&simulator, &chat("hi")).status(), 200);
    let capacity = FaultKind::Throttle { cause: Cause::Capacity, retry_after_ms: Some(19_001) };
    let (refused, entry) = under(&simulator, Fault::new(capacity), &chat("hi")).await;
    assert!(
        refused.text().contains("currently experiencing high demand") && refused.text().contains("after 20 seconds")
    );
    assert_eq!((entry.status, entry.charged, entry.fault), (429, false, Some("throttle")));
}

#[actix_web::test]
async fn failures_have_azures_bodies_and_only_a_timeout_is_billed() {
    let simulator = run(resource("faults")).await;
    let (answer, entry) = under(&simulator, Fault::fail(500), &chat("hi")).await;
    assert_eq!((answer.status(), answer.header("ms-azureml-model-error-reason")), (500, Some("model_error")));
    let apim = answer.header("apim-request-id").unwrap();
    assert!(answer.text().contains(apim) && answer.json()["error"]["type"] == "server_error");
    assert_eq!((entry.charged, entry.apim_request_id.as_str()), (false, apim));
    let (answer, entry) = under(&simulator, Fault::fail(408), &chat("hi")).await;
    assert_eq!(answer.text(), r#"{"error":{"code":"Timeout","message":"The operation was timeout."}}"#);
    assert_eq!((entry.charged, entry.prompt_tokens, entry.completion_tokens), (true, 8, 0));
    let fail = |status, body| Fault::new(FaultKind::Fail { status, body });
    let (answer, _) = under(&simulator, fail(502, FailBody::Html), &chat("hi")).await;
    assert_eq!((answer.status(), answer.header("content-type")), (502, Some("text/html")));
    let (answer, _) = under(&simulator, fail(503, FailBody::Empty), &chat("hi")).await;
    assert_eq!((answer.status(), answer.body.len()), (503, 0));
    let (answer, _) = under(&simulator, Fault::fail(403), &chat("hi")).await;
    assert!(answer.text().contains("Virtual Network/Firewall rules"));
}

#[actix_web::test]
async fn a_stream_is_cut_after_whole_events_and_billed_for_them() {
    let simulator = run(resource("faults")).await;
    for (events, tokens) in [(0, 0), (1, 0), (2, 0), (7, 5), (63, 60)] {
        let (answer, entry) = under(&simulator, Fault::cut(Cut::AfterChunks(events)), &streamed("hi")).await;
        assert_eq!((answer.status(), answer.end, answer.events().len()), (200, End::Closed, events));
        assert_eq!((entry.completed, entry.tokens_sent, entry.completion_tokens), (false, tokens, tokens));
        assert_eq!((entry.charged, entry.prompt_tokens, entry.fault), (true, 8, Some("cut")));
    }
    let (answer, entry) = under(&simulator, Fault::cut(Cut::AfterChunks(1_000)), &streamed("hi")).await;
    assert_eq!((answer.end, entry.completed, entry.tokens_sent), (End::Whole, true, 60));
}

#[actix_web::test]
async fn a_stream_is_cut_at_any_byte() {
    let simulator = run(resource("faults")).await;
    let mut body = chat("hi");
    body["stream"] = true.into();
    body["max_tokens"] = 2.into();
    body["stream_options"] = serde_json::json!({"include_obfuscation": false});
    let whole = ask(&simulator, &body).body.len();
    for bytes in (0..=whole).step_by(37) {
        let (answer, entry) = under(&simulator, Fault::cut(Cut::AfterBytes(bytes)), &body).await;
        assert_eq!((answer.end, answer.body.len()), (End::Closed, bytes));
        let events = answer.body.windows(2).filter(|two| two == b"\n\n").count();
        let tokens = u64::try_from(events).unwrap().saturating_sub(2).min(2);
        let begun = u64::from(!answer.body.ends_with(b"\n\n") && events >= 2 && tokens < 2);
        assert_eq!((entry.tokens_sent, entry.completion_tokens), (tokens, tokens + begun), "{bytes}");
    }
}

#[actix_web::test]
async fn streams_break_off_in_every_way() {
    let simulator = run(resource("faults")).await;
    let at = Cut::AfterChunks(4);
    let (answer, _) = under(&simulator, cut(at, Ending::Reset), &streamed("hi")).await;
    assert!(answer.end != End::Whole);
    let (answer, entry) = under(&simulator, cut(at, Ending::Clean), &streamed("hi")).await;
    assert_eq!((answer.end, answer.events().len(), answer.events().contains(&"[DONE]")), (End::Whole, 4, false));
    assert!(!entry.completed);
    let (answer, entry) = under(&simulator, cut(at, Ending::ErrorFrame), &streamed("hi")).await;
    assert_eq!((answer.end, answer.frames().len()), (End::Whole, 5));
    assert_eq!(answer.frames()[4]["error"]["type"], "server_error");
    assert_eq!((entry.completed, entry.completion_tokens), (false, 2));
}

#[actix_web::test]
async fn a_plain_answer_that_is_cut_was_generated_all_the_same() {
    let simulator = run(resource("faults")).await;
    let (answer, entry) = under(&simulator, Fault::cut(Cut::AfterBytes(10)), &chat("hi")).await;
    assert_eq!((answer.end, answer.body.len(), answer.status()), (End::Closed, 10, 200));
    assert_eq!((entry.completed, entry.tokens_sent, entry.completion_tokens), (false, 0, 60));
    let (answer, _) = under(&simulator, cut(Cut::AfterChunks(1), Ending::Reset), &chat("hi")).await;
    assert!(answer.end != End::Whole && answer.number("content-length") > 1_000);
}

#[actix_web::test]
async fn connections_are_reset_refused_and_healed() {
    let simulator = run(resource("faults")).await;
    let control = simulator.control();
    let (answer, entry) = under(&simulator, Fault::new(FaultKind::Reset), &chat("hi")).await;
    assert_eq!((answer.end, entry.status, entry.charged, entry.completed), (End::Reset, 0, false, false));
    let mut open = Client::to(&simulator);
    let target = dated("gpt-4o-mini", "chat/completions");
    assert_eq!(open.post(&target, &chat("hi")).status(), 200);
    let id = control.inject(Fault::new(FaultKind::Refuse));
    assert_eq!((open.post(&target, &chat("hi")).end, open.post(&target, &chat("hi")).status()), (End::Closed, 0));
    let mut fresh = Client::to(&simulator);
    assert_ne!(fresh.read().end, End::Whole);
    assert!(control.remove(id));
    assert_eq!(ask(&simulator, &chat("hi")).status(), 200);
}

#[actix_web::test]
async fn a_hung_request_ends_when_its_client_leaves() {
    let simulator = run(resource("faults")).await;
    let control = simulator.control();
    for (kind, least) in [(FaultKind::Hang, 0), (FaultKind::HangMidStream { after_chunks: 12 }, 4_000)] {
        control.inject(Fault::new(kind.clone()).times(1));
        let mut client = Client::to(&simulator);
        client.send(&dated("gpt-4o-mini", "chat/completions"), &[], &streamed("hi"));
        while control.in_flight() == 0 {
            std::thread::yield_now();
        }
        client.read_some(least);
        assert_eq!(ask(&simulator, &chat("hi")).status(), 200, "others are served");
        drop(client);
        idle(&simulator).await;
        let entry = control.journal().into_iter().rev().find(|entry| entry.fault.is_some()).unwrap();
        let sent = if kind == FaultKind::Hang { (0, 0) } else { (200, 10) };
        assert_eq!((entry.status, entry.tokens_sent, entry.completed), (sent.0, sent.1, false));
        assert_eq!((entry.charged, entry.prompt_tokens, entry.completion_tokens), (true, 8, sent.1));
    }
}

#[actix_web::test]
async fn faults_keep_to_their_deployment_and_resource_faults_hit_models_too() {
    let simulator = run(resource("faults")).await;
    let control = simulator.control();
    control.inject(Fault::fail(500).on("gpt-4.1"));
    let mut client = Client::to(&simulator);
    assert_eq!(client.post(&dated("gpt-4.1", "chat/completions"), &chat("hi")).status(), 500);
    assert_eq!(client.post(&dated("gpt-4o-mini", "chat/completions"), &chat("hi")).status(), 200);
    assert_eq!(client.get("/openai/v1/models").status(), 200);
    control.inject(Fault::fail(503));
    assert_eq!(client.get("/openai/v1/models").status(), 503);
}
