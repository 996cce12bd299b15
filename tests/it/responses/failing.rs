//! Failures: inside a stream whose head said 200, in the middle of one, and of a resource that lacks the API.

use aoai_gateway::simulator::{Cut, Fault, FaultKind};
use serde_json::{Value, json};

use super::{PATH, ask, events, journal, region, streamed};
use crate::support::client::BodyEnd;
use crate::support::fake_azure::{FakeAzure, Reply, Script};
use crate::support::gateway::TestGateway;

fn in_band(retry_after_ms: u64) -> Fault {
    Fault::new(FaultKind::ThrottleInBand { retry_after_ms: Some(retry_after_ms) })
}

#[test]
fn a_rate_limit_inside_a_stream_is_another_regions_turn() {
    let (first, second) = (region("first"), region("second"));
    first.control().inject(in_band(30_000));
    let gateway = TestGateway::with(|estate| {
        estate.tier(0, "first", first.addr());
        estate.tier(1, "second", second.addr());
    });
    let answer = gateway.post(PATH, &streamed("a").to_string()).expect(200);
    let events = events(&answer);
    assert!(events.iter().all(|event| event["type"] != "error" && event["type"] != "response.failed"), "{events:?}");
    assert_eq!(events[events.len() - 1]["type"], "response.completed");
    gateway.settle();
    let row = gateway.row();
    let attempts: Vec<_> = row
        .attempts
        .iter()
        .map(|attempt| (attempt.resource.as_str(), attempt.reason.as_deref(), attempt.status))
        .collect();
    let expected = [("first", Some("throttled"), Some(200)), ("second", Some("served"), Some(200))];
    assert_eq!((attempts.as_slice(), row.state.as_str()), (&expected[..], "settled"));
    // It is left alone for as long as its head said.
    gateway.post(PATH, &streamed("b").to_string()).expect(200);
    assert_eq!((journal(&first).len(), journal(&second).len()), (1, 2));
    // What it refused is kept nowhere.
    let refused = journal(&first)[0].clone();
    assert!(!refused.charged && refused.fault == Some("throttle_in_band"), "{refused:?}");
}

#[test]
fn alone_its_limit_is_the_clients_429() {
    let region = region("east");
    region.control().inject(in_band(7_000));
    let gateway = TestGateway::before(region.addr());
    let refusal = gateway.post(PATH, &streamed("a").to_string()).expect(429);
    assert_eq!(refusal.code(), "upstream_exhausted");
    let wait: u64 = refusal.header("retry-after-ms").unwrap().parse().unwrap();
    assert!((6_000..=7_400).contains(&wait), "{wait}");
}

const CREATED: &str =
    "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_1\"}}\n\n";
const DELTA: &str =
    "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"Teal\"}\n\n";

fn failed(error: &str) -> String {
    format!(
        "event: response.failed\ndata: {{\"type\":\"response.failed\",\"response\":{{\"id\":\"resp_1\",\
         \"instructions\":\"never mention rate_limit\",\"error\":{error}}}}}\n\n"
    )
}

/// The first resource streams these events; gives the answer and the reason of the first attempt.
#[track_caller]
fn under(events: &[&str]) -> (crate::support::client::Answer, String, usize, String) {
    let first = FakeAzure::start(Script::always(Reply::sse(events)));
    let second = region("second");
    let gateway = TestGateway::with(|estate| {
        estate.tier(0, "first", first.address());
        estate.tier(1, "second", second.addr());
    });
    let answer = gateway.post(PATH, &streamed("a").to_string());
    gateway.settle();
    let row = gateway.row();
    (answer, row.attempts[0].reason.clone().unwrap_or_default(), row.attempts.len(), row.state)
}

#[test]
fn a_response_that_fails_before_its_content_is_tried_elsewhere_unless_it_is_the_clients_own() {
    for (error, reason) in [
        (r#"{"code":"server_error","message":"m"}"#, "invalid_response"),
        (r#"{"code":"rate_limit_exceeded","message":"m"}"#, "throttled"),
        (r#"{"code":"insufficient_quota","message":"m"}"#, "throttled"),
    ] {
        let (answer, told, attempts, state) = under(&[CREATED, &failed(error)]);
        assert_eq!((told.as_str(), attempts, state.as_str()), (reason, 2, "settled"), "{error}");
        assert!(answer.expect(200).text().contains("response.completed"));
    }
    // Which it was is told by the event after it.
    let limited = "event: error\ndata: {\"type\":\"error\",\"error\":{\"code\":\"rate_limit_exceeded\"}}\n\n";
    let (answer, told, ..) = under(&[CREATED, &failed("null"), limited]);
    assert_eq!((answer.status, told.as_str()), (200, "throttled"));
    // The next deployment would refuse the prompt too, and bill it once more.
    let own = failed(r#"{"code":"invalid_prompt","message":"m"}"#);
    let (answer, _, attempts, state) = under(&[CREATED, &own]);
    assert_eq!((attempts, state.as_str()), (1, "settled"));
    assert_eq!(answer.expect(200).text(), format!("{CREATED}{own}"));
}

#[test]
fn a_response_that_fails_later_says_so_itself() {
    let late = failed(r#"{"code":"server_error","message":"m"}"#);
    let (answer, told, attempts, state) = under(&[CREATED, DELTA, &late]);
    assert_eq!((told.as_str(), attempts, state.as_str()), ("invalid_response", 1, "failed"));
    assert_eq!(answer.expect(200).text(), format!("{CREATED}{DELTA}{late}"));
}

#[test]
fn whole_answers_that_failed_are_tried_elsewhere_as_well() {
    let body = r#"{"id":"resp_1","status":"failed","error":{"code":"server_error","message":"m"}}"#;
    let first = FakeAzure::start(Script::always(Reply::json(200, body)));
    let second = region("second");
    let gateway = TestGateway::with(|estate| {
        estate.tier(0, "first", first.address());
        estate.tier(1, "second", second.addr());
    });
    assert_eq!(gateway.post(PATH, &ask("a").to_string()).expect(200).json()["status"], "completed");
    gateway.settle();
    assert_eq!(gateway.row().attempts.len(), 2);
    gateway.get("/v1/responses/resp_1").expect(404);
}

#[test]
fn a_cut_stream_looks_cut_and_its_estimate_is_what_was_delivered() {
    let region = region("east");
    let gateway = TestGateway::before(region.addr());
    region.control().inject(Fault::cut(Cut::AfterChunks(4 + 16)).times(1));
    let answer = gateway.post(PATH, &streamed("Name a colour.").to_string());
    assert_eq!((answer.status, answer.end), (200, BodyEnd::Cut));
    let events = events(&answer);
    let last: &Value = &events[events.len() - 1];
    assert_eq!((&last["type"], &last["error"]["code"]), (&json!("error"), &json!("upstream_stream_cut")), "{last}");
    assert!(events.iter().all(|event| event["type"] != "response.completed"));
    gateway.settle();
    let row = gateway.row();
    assert_eq!((row.state.as_str(), row.estimated, row.output_tokens), ("failed", true, 16), "{row:?}");
    // What the region finished all the same can still be read there.
    let id = events[0]["response"]["id"].as_str().unwrap();
    assert_eq!(gateway.get(&format!("{PATH}/{id}")).expect(200).json()["id"], id);
}

#[test]
fn a_resource_that_lacks_the_api_keeps_serving_what_it_has() {
    let missing = r#"{"error":{"code":"404","message": "Resource not found"}}"#;
    let first = FakeAzure::start(Script::each(move |request| match request.target.contains("/responses") {
        true => Reply::json(404, missing),
        false => crate::support::answers::answered(),
    }));
    let second = region("second");
    let gateway = TestGateway::with(|estate| {
        estate.tier(0, "first", first.address());
        estate.tier(1, "second", second.addr());
    });
    gateway.post(PATH, &ask("a").to_string()).expect(200);
    gateway.settle();
    assert_eq!(gateway.row().attempts.len(), 2);
    gateway.chat(crate::support::answers::QUESTION).expect(200);
    gateway.settle();
    assert_eq!(gateway.rows()[0].attempts[0].resource, "first", "it is not quarantined");
}

/// A deployment that makes a response and then answers so.
fn reading(reply: Reply) -> crate::support::client::Answer {
    let made = r#"{"id":"resp_1","error":null,"output":[],"usage":{"input_tokens":3,"output_tokens":4}}"#;
    let azure = FakeAzure::start(Script::in_order(vec![Reply::json(200, made), reply]));
    let other = region("other");
    let gateway = TestGateway::with(|estate| {
        estate.tier(0, "east", azure.address());
        estate.tier(1, "other", other.addr());
        estate.0.routing.first_byte_timeout = std::time::Duration::from_millis(400);
    });
    gateway.post(PATH, &ask("a").to_string()).expect(200);
    let answer = gateway.get(&format!("{PATH}/resp_1"));
    // A connection that was left over and turns out to be dead is replaced.
    let asked = azure.requests();
    assert!(asked[1..].iter().all(|request| request.method == "GET") && asked.len() <= 3, "{asked:?}");
    assert!(journal(&other).is_empty(), "nobody else has it");
    answer
}

#[test]
fn what_goes_wrong_with_reading_is_told_as_the_gateways_own() {
    use crate::support::fake_azure::Cut;
    for reply in [
        Reply::json(401, "{}"),
        Reply::json(403, "{}"),
        Reply::json(500, "{}"),
        Reply::json(302, "{}").with_header("location: http://127.0.0.1:1/stolen"),
        Reply::end(Cut::Reset),
        Reply::json(200, "{\"id\":\"resp_1\"}").cut_at(70, Cut::Fin),
        Reply::silence(),
    ] {
        let refusal = reading(reply).expect(503);
        assert_eq!(refusal.code(), "upstream_unavailable");
        assert!(refusal.header("retry-after").is_some());
    }
    let limited = reading(Reply::json(429, "{}").with_header("retry-after-ms: 5000")).expect(429);
    assert_eq!((limited.code().as_str(), limited.header("retry-after")), ("upstream_exhausted", Some("5")));
    // Azure's own word on the response itself.
    for status in [400, 404, 409] {
        assert_eq!(
            reading(Reply::json(status, r#"{"error":{"message":"its own"}}"#)).expect(status).json()["error"]["message"],
            "its own"
        );
    }
}

#[test]
fn an_openai_resource_is_asked_by_its_own_paths() {
    let made = r#"{"id":"resp_1","error":null,"output":[],"usage":{"input_tokens":3,"output_tokens":4}}"#;
    let openai = FakeAzure::start(Script::always(Reply::json(200, made)));
    let gateway = TestGateway::with(|estate| {
        let resource = estate.azure("openai", openai.address());
        resource.kind = aoai_gateway::azure::endpoint::Kind::OpenAi;
        resource.api_version = aoai_gateway::azure::endpoint::ApiVersion::V1;
        resource.endpoint.prefix = "/v1".to_owned();
    });
    gateway.post(PATH, &ask("a").to_string()).expect(200);
    gateway.get(&format!("{PATH}/resp_1/input_items?after=x")).expect(200);
    gateway.get("/openai/responses/resp_1?api-version=2025-04-01-preview").expect(200);
    let targets: Vec<_> = openai.requests().into_iter().map(|request| request.target).collect();
    assert_eq!(targets, ["/v1/responses", "/v1/responses/resp_1/input_items?after=x", "/v1/responses/resp_1"]);
    for request in openai.requests() {
        assert!(request.header("authorization").is_some() && request.header("api-key").is_none());
    }
}

/// A resource that makes a response, and answers what is asked of it later with this status.
fn keeping(status: u16) -> FakeAzure {
    let made = r#"{"id":"resp_1","status":"completed","output":[],"usage":{"input_tokens":3,"output_tokens":1}}"#;
    FakeAzure::start(Script::each(move |request| match request.method.as_str() {
        "POST" => Reply::json(200, made),
        _ => Reply::json(status, "{}").with_header("retry-after: 30"),
    }))
}

#[test]
fn a_limit_met_on_reading_what_is_kept_counts_for_everyone() {
    let azure = keeping(429);
    let gateway = TestGateway::before(azure.address());
    gateway.post(PATH, &ask("a").to_string()).expect(200);
    let refusal = gateway.get(&format!("{PATH}/resp_1")).expect(429);
    let wait: u64 = refusal.header("retry-after-ms").unwrap().parse().unwrap();
    assert!((29_000..=32_000).contains(&wait), "{wait}");
    gateway.get(&format!("{PATH}/resp_1")).expect(429);
    gateway.post(PATH, &ask("b").to_string()).expect(429);
    assert_eq!(azure.requests().len(), 2, "nobody asks within the pause");
}

#[test]
fn failures_of_reading_what_is_kept_open_the_breaker() {
    let azure = keeping(500);
    let gateway = TestGateway::before(azure.address());
    gateway.post(PATH, &ask("a").to_string()).expect(200);
    for _ in 0..3 {
        assert_eq!(gateway.get(&format!("{PATH}/resp_1")).expect(503).code(), "upstream_unavailable");
    }
    let deployment = gateway.table().models[0].deployments().next().unwrap().clone();
    crate::support::gateway::eventually(|| match deployment.gauges.state() {
        aoai_gateway::balance::health::State::Open => Ok(()),
        state => Err(format!("{state:?}")),
    });
}
