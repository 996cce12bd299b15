//! Another model answers when no deployment of the one asked for can, if the settings say so and the key may use it.

use aoai_gateway::domain::ids::{DeploymentName, ModelName};
use aoai_gateway::domain::money::Price;
use aoai_gateway::settings::model::{Deployment, Model};
use serde_json::json;

use crate::support::answers::{ANSWER, QUESTION, answered};
use crate::support::client::post;
use crate::support::fake_azure::{FakeAzure, Reply, Script};
use crate::support::gateway::{MODEL, TestGateway};

const OTHER: &str = "gpt-4.1-mini";
const PRICE: Price = Price::of(1_000, 1_000, 2_000);

/// The model's own resource, and another with a deployment of the other model.
fn start(own: &FakeAzure, other: &FakeAzure) -> TestGateway {
    TestGateway::with(|estate| {
        estate.azure("own", own.address());
        let deployment = Deployment { model: ModelName::from(OTHER), ..estate.deployment() };
        estate.azure("other", other.address()).deployments = [(DeploymentName::from("other-one"), deployment)].into();
        let asked = Model { fallback: vec![ModelName::from(OTHER)], ..Model::default() };
        let answers = Model { price: PRICE, ..Model::default() };
        estate.0.models.extend([(ModelName::from(MODEL), asked), (ModelName::from(OTHER), answers)]);
    })
}

fn fake(reply: Reply) -> FakeAzure {
    FakeAzure::start(Script::always(reply))
}

#[test]
fn the_other_model_answers_at_its_own_price() {
    let (own, other) = (fake(Reply::json(500, "{}")), fake(answered()));
    let gateway = start(&own, &other);
    assert_eq!(gateway.chat(QUESTION).expect(200).text(), ANSWER);
    gateway.settle();
    let row = gateway.row();
    assert_eq!((row.model.as_str(), row.state.as_str()), (MODEL, "settled"), "the row names what was asked for");
    let tried: Vec<_> = row.attempts.iter().map(|attempt| attempt.deployment.as_str()).collect();
    assert_eq!(tried, ["mini-one", "other-one"]);
    let tokens = (row.input_tokens as f64, row.output_tokens as f64);
    let price = (tokens.0 * 1_000.0 + tokens.1 * 2_000.0) / 1e12;
    assert!((row.cost_usd - price).abs() < 1e-15 && price > 0.0, "{row:?}");
    assert_eq!(other.requests()[0].header("api-key").map(str::is_empty), Some(false));
    let metrics = gateway.get("/metrics");
    let counted =
        format!("requests_total{{code=\"200\",endpoint=\"chat.completions\",model=\"{OTHER}\",outcome=\"ok\"}} 1");
    assert!(metrics.text().contains(&counted), "{}", metrics.text());
}

#[test]
fn a_model_that_can_answer_does() {
    let (own, other) = (fake(answered()), fake(answered()));
    let gateway = start(&own, &other);
    for _ in 0..20 {
        gateway.chat(QUESTION).expect(200);
    }
    assert_eq!((own.requests().len(), other.requests().len()), (20, 0));
}

#[test]
fn a_key_is_answered_by_no_model_that_it_may_not_use() {
    let (own, other) = (fake(Reply::json(500, "{}")), fake(answered()));
    let gateway = start(&own, &other);
    let (_, secret) = gateway.new_key(json!({ "models": [MODEL] }));
    let lines = format!("authorization: Bearer {secret}\r\n");
    let answer = gateway.client().send(post("/v1/chat/completions", &lines, QUESTION.as_bytes())).answer();
    assert_eq!(answer.expect(503).code(), "upstream_unavailable");
    assert!(other.requests().is_empty());
}

#[test]
fn a_fallback_that_asked_for_a_pause_is_left_alone_by_direct_requests_too() {
    let own = fake(Reply::json(500, "{}"));
    let other = fake(Reply::json(429, "{}").with_header("retry-after: 30"));
    let gateway = start(&own, &other);
    gateway.chat(QUESTION).expect(429);
    gateway.chat(&QUESTION.replace(MODEL, OTHER)).expect(429);
    gateway.chat(QUESTION).expect(429);
    assert_eq!(other.requests().len(), 1, "whoever asks");
}
