//! `kind = "openai"`: whoever speaks OpenAI's API can be a tier.

use aoai_gateway::azure::endpoint::{ApiVersion, Kind};
use aoai_gateway::domain::ids::DeploymentName;
use serde_json::Value;

use crate::support::answers::{
    ANSWER, QUESTION, STREAMED_QUESTION, answered, full_stream, stream_without_usage, streamed,
};
use crate::support::fake_azure::{FakeAzure, Reply, Request, Script};
use crate::support::gateway::{AZURE_KEY, Estate, TestGateway};

/// The last resort: its base path is `/v1`, and its model has a name that Azure would not take.
fn local_server(estate: &mut Estate, server: &FakeAzure) {
    let resource = estate.tier(9, "local", server.address());
    resource.kind = Kind::OpenAi;
    resource.endpoint.prefix = "/v1".to_owned();
    resource.api_version = ApiVersion::V1;
    resource.deployments =
        resource.deployments.values().map(|d| (DeploymentName::from("llama3.1:8b"), d.clone())).collect();
}

fn answering() -> FakeAzure {
    FakeAzure::start(Script::each(|request| match request.text().contains("\"stream\":true") {
        true => streamed(&full_stream()),
        false => answered().with_header("x-request-id: req-of-the-last-resort"),
    }))
}

/// Everything about a request that makes it OpenAI's and not Azure's.
#[track_caller]
fn is_openais(request: &Request) -> Value {
    assert_eq!((request.method.as_str(), request.target.as_str()), ("POST", "/v1/chat/completions"));
    assert_eq!(request.header("authorization"), Some(&*format!("Bearer {AZURE_KEY}")));
    assert_eq!(request.header("api-key"), None);
    assert!(request.header("x-client-request-id").is_some() && request.header("x-ms-client-request-id").is_none());
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    assert_eq!(body["model"], "llama3.1:8b");
    body
}

#[test]
fn it_serves_when_azure_does_not_whole_and_streamed() {
    let azure = FakeAzure::start(Script::always(Reply::json(503, "{}")));
    let local = answering();
    let gateway = TestGateway::with(|estate| {
        estate.azure("east", azure.address());
        local_server(estate, &local);
    });
    assert_eq!(gateway.chat(QUESTION).expect(200).text(), ANSWER);
    assert_eq!(gateway.chat(STREAMED_QUESTION).expect(200).text(), stream_without_usage().concat());
    let requests = local.requests();
    assert_eq!(requests.len(), 2);
    is_openais(&requests[0]);
    // Usage is asked for behind the client's back, and was hidden above.
    assert_eq!(is_openais(&requests[1])["stream_options"]["include_usage"], true);
    gateway.settle();
    for row in gateway.rows() {
        let last = row.attempts.last().unwrap();
        assert_eq!((row.attempts.len(), last.resource.as_str(), last.deployment.as_str()), (2, "local", "llama3.1:8b"));
        assert_eq!((row.input_tokens, row.estimated), (12, false));
    }
}

#[test]
fn while_azure_serves_it_is_left_alone() {
    let azure = FakeAzure::start(Script::always(answered()));
    let local = answering();
    let gateway = TestGateway::with(|estate| {
        estate.azure("east", azure.address());
        local_server(estate, &local);
    });
    for _ in 0..5 {
        gateway.chat(QUESTION).expect(200);
    }
    assert_eq!((azure.requests().len(), local.connections()), (5, 0));
}

#[test]
fn clients_of_azures_dialect_are_served_by_it_too() {
    let local = answering();
    let gateway = TestGateway::with(|estate| local_server(estate, &local));
    let path = "/openai/deployments/gpt-4o-mini/chat/completions?api-version=2025-04-01-preview";
    assert_eq!(gateway.post(path, QUESTION).expect(200).text(), ANSWER);
    is_openais(&local.requests()[0]);
}
