//! Azure's refusals that are the client's own: OpenAI's envelope in one dialect, untouched in the other.

use serde_json::json;

use super::*;
use crate::support::answers::content;
use crate::support::client::{find, post};
use crate::support::fake_azure::{Gate, chunk};

#[track_caller]
fn envelope(answer: &Answer, status: u16) -> Value {
    assert_eq!((answer.status, answer.header("content-type")), (status, Some("application/json")), "{}", answer.text());
    let error = answer.json()["error"].clone();
    for (name, null) in [("message", false), ("type", false), ("param", true), ("code", true)] {
        let value = error.get(name).unwrap_or_else(|| panic!("no {name} in {error}"));
        assert!(value.is_string() || (null && value.is_null()), "{name} in {error}");
    }
    error
}

#[test]
fn whatever_azure_says_a_client_of_openai_gets_the_envelope() {
    let filtered = r#"{"error":{"message":"The response was filtered.","type":null,"param":"prompt","code":"content_filter","status":400,"innererror":{"code":"ResponsibleAIPolicyViolation","content_filter_result":{"hate":{"filtered":true,"severity":"high"}}}}}"#;
    for (status, sent, message, code) in [
        (400, filtered, "The response was filtered.", json!("content_filter")),
        (400, r#"{"error":{"code":"400","message":"Bad \u0022thing\u0022"}}"#, "Bad \"thing\"", Value::Null),
        (400, r#"{ "error": { "code": 400, "message": "m" } }"#, "m", Value::Null),
        (422, r#"{"statusCode":422,"message":"flat"}"#, "flat", Value::Null),
        (400, "<html>no</html>", "status 400", Value::Null),
        (431, "", "status 431", Value::Null),
    ] {
        for version in families() {
            let (azure, gateway) = before(version, Reply::json(status, sent));
            let error = envelope(&gateway.post(OPENAI, &body("")), status);
            assert!(error["message"].as_str().unwrap().contains(message), "{error}");
            assert_eq!((&error["code"], &error["type"]), (&code, &json!("invalid_request_error")), "{sent}");
            if sent == filtered {
                assert_eq!(error["innererror"]["content_filter_result"]["hate"]["severity"], "high", "kept");
                gateway.settle();
                assert!(gateway.rows()[0].input_tokens > 0, "Azure bills the prompt all the same");
            }
            for path in AZURES {
                assert_eq!(gateway.post(path, &body("")).expect(status).text(), sent, "{path}");
            }
            assert_eq!(azure.requests().len(), 3, "nobody else is asked");
        }
    }
    let fine = r#"{"error":{"message":"m","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#;
    let (_azure, gateway) = before(families()[1].clone(), Reply::json(400, fine));
    assert_eq!(gateway.post(OPENAI, &body("")).expect(400).text(), fine, "not a byte more than must be");
}

#[test]
fn an_error_inside_a_stream_has_the_envelope_too() {
    const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let word = content("Teal");
    let error = "data: {\"error\":{\"code\":\"500\",\"message\":\"broke\"}}\n\n";
    for (path, told) in [
        (OPENAI, json!({"message": "broke", "type": "server_error", "param": null, "code": null})),
        (AZURES[1], json!({"message": "broke", "code": "500"})),
    ] {
        let gate = Gate::default();
        let reply = Reply::raw(HEAD).then(chunk(word.as_bytes())).then_wait(&gate).then(chunk(error.as_bytes()));
        let (_azure, gateway) = before(families()[1].clone(), reply.then("0\r\n\r\n"));
        let mut client = gateway.client();
        client.send(post(path, &gateway.bearer(), body(r#","stream":true"#).as_bytes()));
        let mut answer = client.head();
        client.read_until(&mut answer, |body| find(body, b"Teal").is_some());
        gate.open();
        client.finish(&mut answer);
        let events = answer.text().split("\n\n").filter_map(|event| event.strip_prefix("data: "));
        let values = events.filter_map(|data| serde_json::from_str::<Value>(data).ok());
        let errors: Vec<_> = values.filter(|value| value["error"].is_object()).collect();
        assert_eq!(errors[0]["error"], told, "{path}: {}", answer.text());
    }
}

#[test]
fn refusals_about_what_is_kept_have_the_envelope_too() {
    let made = r#"{"id":"resp_1","status":"completed","output":[],"usage":{"input_tokens":3,"output_tokens":1}}"#;
    let refusal = r#"{"error":{"code":"404","message":"Response with id 'resp_1' not found."}}"#;
    let azure = FakeAzure::start(Script::each(move |request| match request.method.as_str() {
        "POST" => Reply::json(200, made),
        _ => Reply::json(404, refusal),
    }));
    let gateway = TestGateway::before(azure.address());
    gateway.post("/v1/responses", &format!(r#"{{"model":"{MODEL}","input":"a"}}"#)).expect(200);
    let error = envelope(&gateway.get("/v1/responses/resp_1"), 404);
    assert_eq!((&error["code"], &error["type"]), (&Value::Null, &json!("invalid_request_error")));
    assert_eq!(gateway.get("/openai/v1/responses/resp_1").expect(404).text(), refusal);
}
