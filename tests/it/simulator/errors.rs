//! Azure's errors, word for word.

use aoai_gateway::simulator::{SimulatedDeployment, SimulatedResource, Sku};
use serde_json::{Value, json};

use super::client::{Answer, Client};
use super::{KEY, chat, dated, resource, run};

const CHAT: &str = "/openai/deployments/gpt-4o-mini/chat/completions";

fn error(answer: &Answer) -> Value {
    answer.json()["error"].clone()
}

#[actix_web::test]
async fn a_wrong_key_is_the_front_ends_401() {
    let simulator = run(resource("errors")).await;
    let answer = Client::to(&simulator).with_key("wrong").post(&format!("{CHAT}?api-version=2024-10-21"), &chat("hi"));
    assert_eq!(answer.status_line, "HTTP/1.1 401 PermissionDenied");
    assert_eq!(
        (answer.header("content-length"), answer.header("content-type")),
        (Some("224"), Some("application/json"))
    );
    assert!(answer.header("apim-request-id").is_some() && answer.header("x-ms-region").is_none());
    assert!(answer.text().starts_with(
        r#"{"error":{"code":"401","message":"Access denied due to invalid subscription key or wrong API endpoint. Make sure"#
    ));
}

#[actix_web::test]
async fn bearer_tokens_are_entras_on_dated_paths_and_keys_too_on_v1() {
    let mut resource = resource("errors");
    resource.access_tokens.push("aaa.bbb.ccc".to_owned());
    let simulator = run(resource).await;
    let mut client = Client::to(&simulator);
    let dated = dated("gpt-4o-mini", "chat/completions");
    let mut v1 = chat("hi");
    v1["model"] = "gpt-4o-mini".into();
    let mut with = |header: &str, target: &str| client.post_with(target, &[header], &v1);
    let key = format!("Authorization: Bearer {KEY}");
    assert_eq!(with(&key, "/openai/v1/chat/completions").status(), 200);
    assert_eq!(with("Authorization: Bearer aaa.bbb.ccc", "/openai/v1/chat/completions").status(), 200);
    assert_eq!(with("Authorization: Bearer aaa.bbb.ccc", &dated).status(), 200);
    for (header, target) in [(key.as_str(), dated.as_str()), ("X: y", &dated), ("Authorization: Bearer a.b.c", &dated)]
    {
        let answer = with(header, target);
        assert_eq!(answer.status_line, "HTTP/1.1 401 Unauthorized");
        assert_eq!(
            answer.text(),
            r#"{"statusCode":401,"message":"Unauthorized. Access token is missing, invalid, audience is incorrect (https://cognitiveservices.azure.com), or have expired."}"#
        );
    }
    let wrong = with("Authorization: Bearer sk-wrong", "/openai/v1/chat/completions");
    assert_eq!(error(&wrong)["code"], "401");
}

#[actix_web::test]
async fn paths_and_versions_that_do_not_exist_are_not_found() {
    let simulator = run(resource("errors")).await;
    let mut client = Client::to(&simulator);
    for target in [
        CHAT.to_owned(),
        format!("{CHAT}?api-version=2024-10-22"),
        format!("{CHAT}?api-version=preview"),
        "/openai/deployments/gpt-4o-mini/moderations?api-version=2024-10-21".to_owned(),
        "/v1/chat/completions".to_owned(),
    ] {
        let answer = client.post(&target, &chat("hi"));
        assert_eq!(answer.status_line, "HTTP/1.1 404 Not Found", "{target}");
        assert_eq!(answer.text(), r#"{"error":{"code":"404","message": "Resource not found"}}"#);
        assert_eq!(answer.header("x-ms-region"), Some("East US 2"));
    }
    assert_eq!(client.post(&format!("/{CHAT}?api-version=2024-10-21"), &chat("hi")).status(), 200);
    let answer = client.post("/openai/v1/chat/completions?api-version=2024-10-21", &chat("hi"));
    assert_eq!((answer.status(), error(&answer)["code"].as_str()), (400, Some("BadRequest")));
}

#[actix_web::test]
async fn an_unknown_deployment_is_pretty_and_has_no_content_type() {
    let simulator = run(resource("errors")).await;
    let mut client = Client::to(&simulator);
    let mut v1 = chat("hi");
    v1["model"] = "nothing".into();
    for answer in [
        client.post(&dated("nothing", "chat/completions"), &chat("hi")),
        client.post("/openai/v1/chat/completions", &v1),
    ] {
        assert_eq!(answer.status_line, "HTTP/1.1 404 Not Found");
        assert_eq!(answer.header("content-type"), None);
        assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
        assert_eq!(
            answer.text(),
            "{\n  \"error\": {\n    \"type\": \"invalid_request_error\",\n    \"code\": \"DeploymentNotFound\",\n    \
             \"message\": \"The API deployment for this resource does not exist. If you created the deployment within \
             the last 5 minutes, please wait a moment and try again.\"\n  }\n}"
        );
    }
}

#[actix_web::test]
async fn more_than_ten_custom_headers_are_too_many() {
    let simulator = run(resource("errors")).await;
    let mut client = Client::to(&simulator);
    let key = format!("api-key: {KEY}");
    let custom: Vec<String> = (0..11).map(|number| format!("x-stainless-{number}: a")).collect();
    let mut headers: Vec<&str> = vec![&key, "Accept: */*", "User-Agent: test"];
    headers.extend(custom.iter().map(String::as_str));
    let target = dated("gpt-4o-mini", "chat/completions");
    assert_eq!(client.post_with(&target, &headers, &chat("hi")).status(), 431);
    headers.pop();
    assert_eq!(client.post_with(&target, &headers, &chat("hi")).status(), 200);
}

#[actix_web::test]
async fn requests_that_make_no_sense_are_400() {
    let simulator = run(resource("errors")).await;
    let mut client = Client::to(&simulator);
    let mut to = |deployment: &str, operation: &str, body: Value| {
        let answer = client.post(&dated(deployment, operation), &body);
        assert_eq!(answer.status(), 400, "{body}");
        assert!(answer.header("x-ms-region").is_some());
        error(&answer)
    };
    let mut reasoning = chat("hi");
    reasoning["max_tokens"] = 5.into();
    assert_eq!(
        to("gpt-5-nano", "chat/completions", reasoning),
        json!({
            "message": "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
            "type": "invalid_request_error",
            "param": "max_tokens",
            "code": "unsupported_parameter",
        })
    );
    assert_eq!(to("gpt-4o-mini", "chat/completions", json!({}))["code"], "missing_required_parameter");
    assert_eq!(
        to("text-embedding-3-small", "chat/completions", chat("hi")),
        json!({
            "code": "OperationNotSupported",
            "message": "The chatCompletion operation does not work with the specified model, text-embedding-3-small. Please choose different model and try again. You can learn more about which models can be used with each operation here: https://go.microsoft.com/fwlink/?linkid=2197993.",
        })
    );
    assert_eq!(to("gpt-4o-mini", "completions", json!({"prompt": "hi"}))["code"], "OperationNotSupported");
    assert!(to("gpt-4o-mini", "chat/completions", json!([]))["message"].as_str().unwrap().contains("JSON payload"));
}

#[actix_web::test]
async fn stream_options_are_refused_in_the_words_of_their_time() {
    let simulator = run(resource("errors")).await;
    let mut client = Client::to(&simulator);
    let mut at = |version: &str| client.post(&format!("{CHAT}?api-version={version}"), &super::streamed("hi"));
    assert_eq!(
        at("2024-06-01").text(),
        r#"{"error":{"message":"Unknown parameter: 'stream_options'.","type":"invalid_request_error","param":"stream_options","code":"unknown_parameter"}}"#
    );
    assert_eq!(
        at("2024-02-01").text(),
        r#"{"error":{"message":"Unrecognized request argument supplied: stream_options","type":"invalid_request_error","param":null,"code":null}}"#
    );
    assert_eq!(at("2024-09-01-preview").status(), 200);
}

#[actix_web::test]
async fn a_prompt_beyond_the_context_is_400_sooner_on_provisioned_deployments() {
    let mut small = SimulatedDeployment::new("small", "gpt-4.1").with_limits(1_000_000_000, 1_000_000);
    small.context = Some(100);
    let sku = Sku::Provisioned { input_tpm: 1_000_000_000, output_weight: 4 };
    let provisioned = SimulatedDeployment::new("provisioned", "gpt-4.1").with_sku(sku);
    let simulator = run(resource("errors").with_deployment(small).with_deployment(provisioned)).await;
    let mut client = Client::to(&simulator);
    let answer = client.post(&dated("small", "chat/completions"), &chat(&"x".repeat(400)));
    assert_eq!(answer.status(), 400);
    assert_eq!(
        error(&answer),
        json!({
            "message": "This model's maximum context length is 100 tokens. However, your messages resulted in 107 tokens. Please reduce the length of the messages.",
            "type": "invalid_request_error",
            "param": "messages",
            "code": "context_length_exceeded",
        })
    );
    let long = chat(&"x".repeat(130_000 * 4));
    assert_eq!(client.post(&dated("provisioned", "chat/completions"), &long).status(), 400);
    assert_eq!(client.post(&dated("gpt-4.1", "chat/completions"), &long).status(), 200);
}

#[actix_web::test]
async fn a_filtered_prompt_is_400_also_for_a_stream_and_is_billed() {
    let simulator = run(resource("errors")).await;
    let answer = super::ask(&simulator, &super::streamed("please simulate:filter-prompt now"));
    assert_eq!((answer.status(), answer.header("content-type")), (400, Some("application/json")));
    let error = error(&answer);
    assert_eq!(
        (&error["code"], &error["type"], &error["status"]),
        (&json!("content_filter"), &Value::Null, &json!(400))
    );
    assert_eq!(error["innererror"]["code"], "ResponsibleAIPolicyViolation");
    assert_eq!(error["innererror"]["content_filter_result"]["sexual"], json!({"filtered": true, "severity": "high"}));
    super::idle(&simulator).await;
    let entry = simulator.control().journal().remove(0);
    assert_eq!((entry.status, entry.charged, entry.prompt_tokens, entry.completion_tokens), (400, true, 16, 0));
}

#[actix_web::test]
async fn what_is_refused_before_the_model_is_not_billed() {
    let simulator = run(SimulatedResource { name: "unbilled".to_owned(), ..resource("errors") }).await;
    let mut client = Client::to(&simulator);
    client.post(CHAT, &chat("hi"));
    client.post(&dated("nothing", "chat/completions"), &chat("hi"));
    client.post(&dated("gpt-4o-mini", "chat/completions"), &json!({}));
    client.post_with(&dated("gpt-4o-mini", "chat/completions"), &["api-key: wrong"], &chat("hi"));
    super::idle(&simulator).await;
    let seen: Vec<_> = simulator.control().journal().iter().map(|e| (e.status, e.charged, e.prompt_tokens)).collect();
    assert_eq!(seen, [(404, false, 0), (404, false, 0), (400, false, 0), (401, false, 0)]);
}
