//! Provisioned deployments: shorter prompts than the model takes, and tokens that cost nothing.

use aoai_gateway::domain::money::Price;
use aoai_gateway::domain::sku::Sku;
use aoai_gateway::settings::model::{Model, Resource};
use aoai_gateway::simulator::{self, SimulatedDeployment, SimulatedResource, Simulator};
use serde_json::{Value, json};

use crate::support::answers::{ANSWER, QUESTION, STREAMED_QUESTION, answered};
use crate::support::client::{BodyEnd, post};
use crate::support::fake_azure::{Cut, FakeAzure, Reply, Script};
use crate::support::gateway::{AZURE_KEY, DEPLOYMENT, Estate, MODEL, TestGateway, simulate, wait};

const PRICE: Price = Price::of(150_000, 75_000, 600_000);
const TOO_LONG: &str = r#"{"error":{"message":"This model's maximum context length is 100 tokens.","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#;

/// A simulated deployment that takes prompts of so many tokens.
fn region(name: &str, sku: simulator::Sku, context: u64) -> Simulator {
    let mut deployment = SimulatedDeployment::new(DEPLOYMENT, MODEL).with_limits(60_000_000, 600_000).with_sku(sku);
    deployment.context = Some(context);
    let resource = SimulatedResource::new(name).with_deployment(deployment);
    simulate(SimulatedResource { api_key: AZURE_KEY.to_owned(), ..resource })
}

fn provisioned(name: &str, context: u64) -> Simulator {
    region(name, simulator::Sku::Provisioned { input_tpm: 60_000_000, output_weight: 4 }, context)
}

fn standard(name: &str, context: u64) -> Simulator {
    region(name, simulator::Sku::Standard, context)
}

/// As the settings make it of `sku = "provisioned"`.
fn declare(resource: &mut Resource) {
    for deployment in resource.deployments.values_mut() {
        (deployment.sku, deployment.priority) = (Sku::Provisioned, 0);
    }
}

fn price(estate: &mut Estate) {
    estate.0.models.insert(MODEL.into(), Model { price: PRICE, ..Model::default() });
}

/// Some 300 tokens.
fn long(question: &str) -> String {
    question.replace("Name a colour.", &"colour ".repeat(300))
}

/// The statuses with which a region answered.
fn statuses(simulator: &Simulator) -> Vec<u16> {
    wait(simulator.control().idle());
    simulator.control().journal().iter().map(|entry| entry.status).collect()
}

#[track_caller]
fn health(gateway: &TestGateway, resource: &str) -> (Value, Value) {
    gateway.settle();
    let mut shown = gateway.admin("GET", &format!("/resources/{resource}"), "").expect(200).json();
    let mut deployment = shown["deployments"][0].take();
    assert_eq!(deployment["sku"], "provisioned");
    (deployment["health"].take(), deployment["consecutive_faults"].take())
}

#[test]
fn what_is_too_long_for_provisioned_capacity_goes_to_a_standard_deployment() {
    let (small, other, large) = (provisioned("small", 100), provisioned("other", 100), standard("large", 100_000));
    let gateway = TestGateway::with(|estate| {
        declare(estate.azure("small", small.addr()));
        let second = estate.azure("second", other.addr());
        declare(second);
        second.deployments.values_mut().for_each(|deployment| deployment.priority = 1);
        estate.tier(2, "large", large.addr());
    });
    for question in [QUESTION, STREAMED_QUESTION].repeat(3) {
        let answer = gateway.chat(&long(question)).expect(200);
        assert!(answer.header("server-timing").unwrap().ends_with("attempts;desc=2"), "each of them asks once");
    }
    assert_eq!((statuses(&small), statuses(&other)), (vec![400; 6], vec![]), "one like it is not asked");
    assert_eq!(statuses(&large), [200; 6]);
    assert_eq!(health(&gateway, "small"), (json!("ok"), json!(0)), "the prompt's length is no fault");
    let row = &gateway.rows()[0];
    let attempts: Vec<_> = row
        .attempts
        .iter()
        .map(|one| (one.resource.as_str(), one.status, one.reason.as_deref(), one.charged.as_deref()))
        .collect();
    let expected =
        [("small", Some(400), Some("rejected"), Some("none")), ("large", Some(200), Some("served"), Some("exact"))];
    assert_eq!((attempts.as_slice(), row.state.as_str()), (&expected[..], "settled"));
    let request = gateway.admin("GET", &format!("/requests/{}", row.id), "").expect(200).json();
    let passed = &request["attempts"][1]["decision"]["passed_over"];
    assert_eq!((&passed[0]["reason"], &passed[1]["reason"]), (&json!("already_tried"), &json!("prompt_too_long")));
    // A short one is still served where it is paid for.
    gateway.chat(QUESTION).expect(200);
    assert_eq!(statuses(&small).last(), Some(&200));
}

#[test]
fn what_the_standard_deployment_refuses_too_is_the_clients() {
    let (small, large) = (provisioned("small", 100), standard("large", 200));
    let further = standard("further", 100_000);
    let gateway = TestGateway::with(|estate| {
        declare(estate.azure("small", small.addr()));
        estate.tier(1, "large", large.addr());
        estate.tier(2, "further", further.addr());
    });
    let answer = gateway.chat(&long(QUESTION)).expect(400);
    assert_eq!(answer.code(), "context_length_exceeded");
    assert!(answer.text().contains("maximum context length is 200 tokens"), "the last word: {}", answer.text());
    assert_eq!((statuses(&small), statuses(&large), statuses(&further)), (vec![400], vec![400], vec![]));
    gateway.settle();
    let row = gateway.row();
    assert_eq!((row.state.as_str(), row.status, row.input_tokens, row.attempts.len()), ("settled", Some(400), 0, 2));
}

/// The refusal of a provisioned deployment reaches a client of Azure's dialect to the byte, and nobody else is asked.
#[track_caller]
fn is_passed_on(body: &str, change: impl FnOnce(&mut Estate)) {
    let first = FakeAzure::start(Script::always(Reply::json(400, body)));
    let second = FakeAzure::start(Script::always(answered()));
    let gateway = TestGateway::with(|estate| {
        declare(estate.azure("first", first.address()));
        estate.tier(1, "second", second.address());
        change(estate);
    });
    for question in [QUESTION, STREAMED_QUESTION] {
        let path = format!("/openai/deployments/{MODEL}/chat/completions?api-version=2024-10-21");
        assert_eq!(gateway.post(&path, question).expect(400).text(), body);
    }
    assert_eq!((first.requests().len(), second.requests().len()), (2, 0));
    assert_eq!(health(&gateway, "first"), (json!("ok"), json!(0)));
    assert!(gateway.rows().iter().all(|row| row.attempts.len() == 1 && row.status == Some(400)));
}

#[test]
fn other_refusals_and_those_nobody_could_do_better_are_passed_on() {
    is_passed_on(r#"{"error":{"code":"invalid_value","message":"context_length_exceeded"}}"#, |_| ());
    is_passed_on(r#"{"error":{"code":"content_filter","message":"no"}}"#, |_| ());
    is_passed_on(TOO_LONG, |estate| drop(estate.0.resources.remove("second")));
    // Nobody standard is left.
    is_passed_on(TOO_LONG, |estate| {
        let second = estate.0.resources.get_mut("second").unwrap();
        second.deployments.values_mut().for_each(|deployment| deployment.sku = Sku::Provisioned);
    });
    is_passed_on(TOO_LONG, |estate| estate.0.routing.attempts = 1);
}

#[test]
fn only_the_settings_say_what_is_provisioned() {
    let reply = Reply::json(400, TOO_LONG).with_header("azure-openai-deployment-utilization: 12.0%");
    let (first, second) = (FakeAzure::start(Script::always(reply)), FakeAzure::start(Script::always(answered())));
    let gateway = TestGateway::with(|estate| {
        estate.tier(0, "first", first.address());
        estate.tier(1, "second", second.address());
    });
    assert_eq!(gateway.chat(QUESTION).expect(400).text(), TOO_LONG);
    assert!(second.requests().is_empty());
}

#[test]
fn a_standard_deployment_that_is_busy_is_said_to_be_busy() {
    let first = FakeAzure::start(Script::always(Reply::json(400, TOO_LONG)));
    let busy = Reply::json(429, "{}").with_header("retry-after-ms: 5000");
    let second = FakeAzure::start(Script::in_order(vec![busy, answered()]));
    let gateway = TestGateway::with(|estate| {
        declare(estate.azure("first", first.address()));
        estate.tier(1, "second", second.address());
    });
    let answer = gateway.chat(QUESTION).expect(429);
    let told: u64 = answer.header("retry-after-ms").unwrap().parse().unwrap();
    assert_eq!(answer.code(), "upstream_exhausted");
    assert!((4_000..=5_250).contains(&told), "what the standard one said: {told}");
}

#[test]
fn a_keys_regions_hold_for_the_standard_deployment_too() {
    let first = FakeAzure::start(Script::always(Reply::json(400, TOO_LONG)));
    let second = FakeAzure::start(Script::always(answered()));
    let gateway = TestGateway::with(|estate| {
        let resource = estate.azure("first", first.address());
        resource.region = Some("swedencentral".into());
        declare(resource);
        estate.tier(1, "second", second.address()).region = Some("eastus2".into());
    });
    let (_, key) = gateway.new_key(json!({ "regions": ["swedencentral"] }));
    let lines = format!("authorization: Bearer {key}\r\n");
    let answer = gateway.client().send(post("/v1/chat/completions", &lines, QUESTION.as_bytes())).answer();
    assert_eq!(answer.expect(400).text(), TOO_LONG);
    assert!(second.requests().is_empty());
    assert_eq!(gateway.chat(QUESTION).expect(200).text(), ANSWER);
}

#[test]
fn tokens_of_provisioned_capacity_are_counted_and_cost_nothing() {
    let (flat, paid) = (provisioned("flat", 100), standard("paid", 100_000));
    let gateway = TestGateway::with(|estate| {
        declare(estate.azure("flat", flat.addr()));
        estate.tier(1, "paid", paid.addr());
        price(estate);
    });
    gateway.chat(QUESTION).expect(200);
    gateway.chat(STREAMED_QUESTION).expect(200);
    gateway.chat(&long(QUESTION)).expect(200);
    gateway.settle();
    let rows = gateway.rows();
    let costs: Vec<_> = rows.iter().rev().map(|row| (row.flat_cost, row.cost_usd > 0.0)).collect();
    assert_eq!(costs, [(true, false), (true, false), (false, true)]);
    assert!(rows.iter().all(|row| row.input_tokens > 0 && row.output_tokens > 0), "{rows:?}");
    let shown = gateway.admin("GET", "/requests", "").expect(200).json();
    assert_eq!((&shown["data"][0]["flat_cost"], &shown["data"][1]["flat_cost"]), (&json!(false), &json!(true)));
    let usage = gateway.admin("GET", "/usage?group_by=resource", "").expect(200).json();
    let of = |name: &str| usage["data"].as_array().unwrap().iter().find(|row| row["resource"] == name).unwrap().clone();
    let (flat, paid) = (of("flat"), of("paid"));
    assert_eq!((&flat["requests"], &flat["flat_cost"], &flat["cost_usd"]), (&json!(2), &json!(2), &json!(0.0)));
    assert_eq!((&paid["requests"], &paid["flat_cost"]), (&json!(1), &json!(0)));
    assert!(flat["input_tokens"].as_u64() > Some(0) && paid["cost_usd"].as_f64() > Some(0.0), "{usage}");
}

#[test]
fn a_stream_of_provisioned_capacity_that_breaks_costs_nothing_either() {
    let whole = crate::support::answers::streamed(&crate::support::answers::full_stream());
    let length = whole.bytes().len();
    let azure = FakeAzure::start(Script::always(whole.cut_at(length - 60, Cut::Fin)));
    let gateway = TestGateway::with(|estate| {
        declare(estate.azure("flat", azure.address()));
        price(estate);
    });
    assert_eq!(gateway.chat(STREAMED_QUESTION).end, BodyEnd::Cut);
    gateway.settle();
    let row = gateway.row();
    assert_eq!((row.state.as_str(), row.estimated, row.flat_cost, row.cost_usd), ("failed", true, true, 0.0));
    assert!(row.input_tokens > 0);
}
