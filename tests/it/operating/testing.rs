//! `POST /resources/{name}/test`: a real request to each deployment, and what its end means.

use std::net::TcpListener;

use aoai_gateway::domain::ids::{DeploymentName, ModelName};
use aoai_gateway::settings::model::Deployment;
use aoai_gateway::simulator::{SimulatedDeployment, SimulatedResource};
use serde_json::{Value, json};

use super::{resource, throttled};
use crate::support::answers::answered;
use crate::support::fake_azure::{FakeAzure, Reply, Script};
use crate::support::gateway::{AZURE_KEY, TestGateway, simulate, wait};

#[track_caller]
fn test(gateway: &TestGateway, name: &str) -> Value {
    gateway.admin("POST", &format!("/resources/{name}/test"), "").expect(200).json()
}

#[test]
fn every_kind_of_deployment_is_asked_and_nothing_is_booked() {
    let models = ["gpt-4o-mini", "o3-mini", "text-embedding-3-small"];
    let deployments = models.map(|model| SimulatedDeployment::new(&format!("the-{model}"), model));
    let region = SimulatedResource { deployments: deployments.into(), ..SimulatedResource::new("east") };
    let region = simulate(SimulatedResource { api_key: AZURE_KEY.to_owned(), ..region });
    let gateway = TestGateway::with(|estate| {
        let deployment = |model: &str| {
            let settings = Deployment::of(ModelName::from(model));
            (DeploymentName::from(format!("the-{model}")), settings)
        };
        estate.azure("east", region.addr()).deployments = models.map(deployment).into();
    });
    gateway.admin("POST", "/resources/east/drain", "").expect(200);
    let answer = test(&gateway, "east");
    assert_eq!(answer["ok"], true, "{answer}");
    assert!(answer["note"].as_str().unwrap().contains("Azure bills"), "{answer}");
    let told: Vec<_> = answer["deployments"].as_array().unwrap().iter().collect();
    assert_eq!(told.len(), 3);
    let control = region.control();
    wait(control.idle());
    let journal = control.journal();
    assert_eq!(journal.len(), 3);
    for result in told {
        let entry = journal.iter().find(|entry| result["deployment"] == entry.deployment).unwrap();
        assert_eq!(result["upstream_id"], entry.apim_request_id);
        assert_eq!((&result["status"], &result["result"]), (&json!(200), &json!("served")));
        let figures = (&result["input_tokens"], &result["output_tokens"]);
        assert_eq!(figures, (&json!(entry.prompt_tokens), &json!(entry.completion_tokens)), "{result}");
        assert!(entry.prompt_tokens < 20 && entry.completion_tokens <= 64, "{entry:?}");
        assert!(result["ms"].as_f64().unwrap() > 0.0 && result["meaning"] == "It answers.");
    }
    gateway.settle();
    assert_eq!(gateway.rows(), [], "no caller pays for it");
    let east = resource(&gateway, "east");
    assert_eq!((&east["drained"], &east["recent_requests"]), (&json!(true), &json!(0)), "it is not traffic either");
}

#[test]
fn each_failure_is_put_into_words() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = listener.local_addr().unwrap();
    drop(listener);
    let rejected = r#"{"error":{"code":"OperationNotSupported","message":"for your eyes only"}}"#;
    for (reply, reason, status, words) in [
        (Some(Reply::json(401, "{}")), "misconfigured", json!(401), "api_key"),
        (Some(Reply::json(403, "{}")), "misconfigured", json!(403), "network rules"),
        (Some(Reply::json(404, "{}")), "misconfigured", json!(404), "no deployment of this name"),
        (Some(throttled(2_500)), "throttled", json!(429), "a pause of 2.5 s"),
        (Some(Reply::json(503, "{}")), "status", json!(503), "status 503"),
        (Some(Reply::json(400, rejected)), "rejected", json!(400), "refused this very request"),
        (Some(Reply::json(200, "<html>")), "invalid_response", json!(200), "no answer of Azure OpenAI"),
        (None, "connect", Value::Null, "firewall"),
    ] {
        let azure = FakeAzure::start(Script::always(reply.clone().unwrap_or_else(answered)));
        let gateway = TestGateway::before(if reply.is_some() { azure.address() } else { closed });
        let answer = test(&gateway, "east");
        let result = &answer["deployments"][0];
        assert_eq!((&answer["ok"], &result["ok"]), (&json!(false), &json!(false)));
        assert_eq!((&result["result"], &result["status"]), (&json!(reason), &status), "{result}");
        assert!(result["meaning"].as_str().unwrap().contains(words), "{result}");
        assert!(!answer.to_string().contains("for your eyes only") && !answer.to_string().contains(AZURE_KEY));
        if reason == "rejected" {
            assert_eq!(result["detail"], "OperationNotSupported");
        }
        let east = resource(&gateway, "east");
        assert_eq!((&east["health"], &east["last_error"]), (&json!("ok"), &Value::Null), "a test judges no one");
    }
}
