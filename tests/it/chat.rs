//! The data plane when all goes well: what reaches Azure, what reaches the client, byte for byte.

use aoai_gateway::azure::endpoint::ApiVersion;
use aoai_gateway::domain::ids::{DeploymentName, ModelName};
use aoai_gateway::settings::model::{Deployment, Model};

use crate::support::answers::{
    ANSWER, QUESTION, STREAMED_QUESTION, answered, azure_stream_without_usage, full_stream, stream_without_usage,
    streamed,
};
use crate::support::client::{Answer, get, post};
use crate::support::fake_azure::{FakeAzure, Reply, Request, Script};
use crate::support::gateway::{AZURE_KEY, DEPLOYMENT, MODEL, TestGateway};

const DATED: &str = "/openai/deployments/gpt-4o-mini/chat/completions?api-version=2024-10-21";

fn azure(reply: Reply) -> FakeAzure {
    FakeAzure::start(Script::always(reply))
}

fn only_request(azure: &FakeAzure) -> Request {
    let mut requests = azure.requests();
    assert_eq!(requests.len(), 1);
    requests.remove(0)
}

#[test]
fn both_dialects_both_credentials_json_and_stream() {
    let azure = FakeAzure::start(Script::each(|request| match request.text().contains("\"stream\":true") {
        true => streamed(&full_stream()),
        false => answered(),
    }));
    let gateway = TestGateway::before(azure.address());
    let credentials = [gateway.bearer(), format!("api-key: {}\r\n", gateway.key)];
    for path in ["/v1/chat/completions", "//v1//chat/completions", "/openai/v1/chat/completions", DATED] {
        for credential in &credentials {
            let answer = gateway.client().send(post(path, credential, QUESTION.as_bytes())).answer().expect(200);
            assert_eq!(answer.text(), ANSWER);
            assert_eq!(answer.header("content-type"), Some("application/json"));
            let answer =
                gateway.client().send(post(path, credential, STREAMED_QUESTION.as_bytes())).answer().expect(200);
            let is_azures = path.starts_with("/openai");
            let events = if is_azures { azure_stream_without_usage() } else { stream_without_usage() };
            assert_eq!(answer.text(), events.concat());
            assert_eq!(answer.header("content-type"), Some("text/event-stream"));
        }
    }
    gateway.settle();
    let rows = gateway.rows();
    assert_eq!(rows.len(), 16);
    for row in rows {
        assert_eq!((row.state.as_str(), row.status, row.estimated), ("settled", Some(200), false), "{row:?}");
        let output = if row.stream { 4 } else { 5 };
        assert_eq!((row.input_tokens, row.output_tokens), (12, output), "{row:?}");
    }
}

#[test]
fn one_connection_serves_many_requests() {
    let azure = azure(answered());
    let gateway = TestGateway::before(azure.address());
    let mut client = gateway.client();
    for _ in 0..20 {
        let answer = client.send(gateway.chat_request(QUESTION)).answer().expect(200);
        assert_eq!(answer.text(), ANSWER);
    }
    assert_eq!(azure.connections(), 1, "the upstream's connection is used again");
}

#[test]
fn a_chunked_body_without_content_length_is_taken() {
    let azure = azure(answered());
    let gateway = TestGateway::before(azure.address());
    let mut client = gateway.client();
    client.send(format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\n{}transfer-encoding: chunked\r\n\r\n",
        gateway.bearer()
    ));
    for piece in QUESTION.as_bytes().chunks(7) {
        client.send(format!("{:x}\r\n", piece.len())).send(piece).send("\r\n");
    }
    assert_eq!(client.send("0\r\n\r\n").answer().expect(200).text(), ANSWER);
    let sent = only_request(&azure);
    assert_eq!(sent.text(), QUESTION);
    assert_eq!(sent.header("content-length"), Some(QUESTION.len().to_string().as_str()));
}

#[test]
fn completions_and_embeddings() {
    let vectors = r#"{"object":"list","data":[{"embedding":[0.5,-1e-9],"index":0}],"model":"m","usage":{"prompt_tokens":7,"total_tokens":7}}"#;
    let azure = azure(Reply::json(200, vectors));
    let gateway = TestGateway::before(azure.address());
    let body = r#"{"input":["a","b"],"model":"gpt-4o-mini"}"#;
    for (path, operation) in [
        ("/v1/embeddings", "embeddings"),
        ("/openai/deployments/mini-one/embeddings?api-version=2024-10-21", "embeddings"),
        ("/v1/completions", "completions"),
        ("/openai/deployments/mini-one/completions?api-version=2024-10-21", "completions"),
    ] {
        let model = if path.starts_with("/v1") { MODEL } else { "m" };
        assert_eq!(gateway.post(path, body).expect(200).text(), vectors.replace("\"m\"", &format!("\"{model}\"")));
        let sent = azure.requests().pop().unwrap();
        assert_eq!(sent.target, format!("/openai/deployments/{DEPLOYMENT}/{operation}?api-version=2024-10-21"));
        assert_eq!(sent.text(), body);
        gateway.settle();
        let row = &gateway.rows()[0];
        assert_eq!((row.endpoint.as_str(), row.input_tokens, row.output_tokens), (operation, 7, 0));
    }
}

#[test]
fn models_are_listed_and_found_by_alias() {
    let azure = azure(answered());
    let gateway = TestGateway::with(|estate| {
        let aliases = vec!["gpt-3.5-turbo".to_owned()];
        estate.0.models.insert(ModelName::from(MODEL), Model { aliases, ..Model::default() });
        let large = Deployment::of(ModelName::from("gpt-4.1"));
        estate.azure("east", azure.address()).deployments.insert(DeploymentName::from("large"), large);
    });
    for path in ["/v1/models", "/openai/models?api-version=2024-10-21", "/openai/v1/models"] {
        let list = gateway.get(path).expect(200).json();
        let ids: Vec<_> = list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
        assert_eq!((list["object"].as_str(), ids), (Some("list"), vec!["gpt-4.1", "gpt-4o-mini"]));
        assert!(list["data"][0]["created"].as_i64().unwrap() > 1_600_000_000);
    }
    assert_eq!(gateway.get("/v1/models/gpt-3.5-turbo").expect(200).json()["object"], "model");
    assert_eq!(gateway.get("/v1/models/nothing").expect(404).code(), "model_not_found");
    let (_, secret) = gateway.new_key(serde_json::json!({ "models": ["gpt-4.1"] }));
    let answer = gateway.client().send(get("/v1/models", &format!("api-key: {secret}\r\n"))).answer().expect(200);
    assert_eq!(answer.json()["data"].as_array().unwrap().len(), 1, "a key sees what it may use");
    let answer = gateway.chat(&QUESTION.replace(MODEL, "gpt-3.5-turbo")).expect(200);
    assert_eq!(answer.text(), ANSWER.replace(MODEL, "gpt-3.5-turbo"));
    assert!(only_request(&azure).target.starts_with("/openai/deployments/mini-one/"), "models never reach Azure");
}

#[test]
fn usage_stays_when_it_was_asked_for() {
    let azure = azure(streamed(&full_stream()));
    let gateway = TestGateway::before(azure.address());
    let body = STREAMED_QUESTION.replace("true", r#"true,"stream_options":{"include_usage":true}"#);
    assert_eq!(gateway.chat(&body).expect(200).text(), full_stream()[1..].concat());
    assert_eq!(only_request(&azure).text(), body, "nothing had to be changed");
}

#[test]
fn bytes_that_nobody_must_change_are_not_changed() {
    let azure = azure(answered());
    let gateway = TestGateway::before(azure.address());
    let odd = "\t{ \"seed\" : 12345678901234567890123, \"x\":1e999,\"a\\u0041\":\"\\ud83d\\ude00\u{1F600}\",\r\n \"model\":\"gpt-4o-mini\" ,\"stop\":[ ] }\n";
    gateway.chat(odd).expect(200);
    gateway.post(DATED, "{}").expect(200);
    let sent = azure.requests();
    assert_eq!((sent[0].text(), sent[1].text()), (odd.to_owned(), "{}".to_owned()));
}

#[test]
fn only_the_spans_that_must_change_do() {
    let azure = azure(streamed(&full_stream()));
    let gateway = TestGateway::before(azure.address());
    let body = r#"{ "model" : "gpt-4o-mini", "stream" : true , "stream_options" : { "x" : 1 }, "t": 0.70000 }"#;
    gateway.chat(body).expect(200);
    let expected = body.replace("{ \"x\"", "{\"include_usage\":true, \"x\"");
    assert_eq!(only_request(&azure).text(), expected);
}

#[test]
fn the_v1_family_gets_the_deployments_name_in_the_body() {
    let azure = azure(answered());
    let gateway = TestGateway::with(|estate| estate.azure("east", azure.address()).api_version = ApiVersion::V1);
    gateway.chat(QUESTION).expect(200);
    gateway.post(DATED, r#"{"messages":[]}"#).expect(200);
    let sent = azure.requests();
    assert_eq!(sent[0].target, "/openai/v1/chat/completions");
    assert_eq!(sent[0].text(), QUESTION.replace(MODEL, DEPLOYMENT));
    assert_eq!(sent[1].text(), r#"{"model":"mini-one","messages":[]}"#);
}

#[test]
fn an_api_version_is_honoured_and_an_old_one_is_not_sent_stream_options() {
    let azure = azure(streamed(&full_stream()));
    let gateway = TestGateway::before(azure.address());
    let path = |version: &str| format!("/openai/deployments/mini-one/chat/completions?api-version={version}");
    let asking = STREAMED_QUESTION.replace("true", r#"true,"stream_options":{"include_usage":true}"#);
    gateway.post(&path("2025-04-01-preview"), STREAMED_QUESTION).expect(200);
    gateway.post(&path("2023-05-15"), STREAMED_QUESTION).expect(200);
    gateway.post(&path("2023-05-15"), &asking).expect(200);
    let sent = azure.requests();
    assert!(sent[0].target.ends_with("?api-version=2025-04-01-preview"));
    assert!(sent[0].text().contains("include_usage"));
    assert!(sent[1].target.ends_with("?api-version=2023-05-15"));
    assert_eq!(sent[1].text(), STREAMED_QUESTION);
    assert!(!sent[2].text().contains("include_usage"), "{}", sent[2].text());
    assert_eq!(gateway.post(&path("latest"), QUESTION).expect(400).code(), "invalid_api_version");
}

#[test]
fn azure_sees_an_allow_list_of_headers() {
    let azure = azure(answered());
    let gateway = TestGateway::before(azure.address());
    let noise: String = (0..20).map(|n| format!("x-custom-{n}: {n}\r\n")).collect();
    let lines = format!(
        "{}api-key: something-else\r\ncookie: a=b\r\nx-stainless-os: Linux\r\nopenai-organization: org\r\n\
         x-forwarded-for: 10.0.0.1\r\norigin: https://chat.example\r\nreferer: https://chat.example/x\r\n\
         x-request-id: order-77\r\n{noise}",
        gateway.bearer()
    );
    gateway.client().send(post("/v1/chat/completions", &lines, QUESTION.as_bytes())).answer().expect(200);
    let sent = only_request(&azure);
    let mut names: Vec<_> = sent.headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    let expected = [
        "accept-encoding",
        "api-key",
        "content-length",
        "content-type",
        "host",
        "user-agent",
        "x-ms-client-request-id",
    ];
    names.retain(|name| !matches!(*name, "date" | "connection"));
    assert_eq!(names, expected);
    assert_eq!(sent.header("api-key"), Some(AZURE_KEY));
    assert_eq!(sent.header("x-ms-client-request-id"), Some("order-77"));
    let all = format!("{:?}", sent.headers);
    assert!(!all.contains(&gateway.key) && !all.contains("something-else"), "a client's credential went upstream");
}

#[test]
fn clients_see_an_allow_list_of_headers() {
    let reply = answered()
        .with_header("x-ratelimit-remaining-requests: 5")
        .with_header("x-ratelimit-limit-tokens: 6")
        .with_header("x-request-id: azures-own")
        .with_header("apim-request-id: 4f6b")
        .with_header("x-ms-region: East US 2")
        .with_header("openai-processing-ms: 12")
        .with_header("set-cookie: secret=1")
        .with_header("x-ms-deployment-name: mini-one")
        .with_header("server: Kestrel");
    let azure = azure(reply);
    let gateway = TestGateway::before(azure.address());
    let answer = gateway.chat(QUESTION).expect(200);
    assert_eq!(answer.header("apim-request-id"), Some("4f6b"));
    assert_eq!(answer.header("x-ms-region"), Some("East US 2"));
    assert_eq!(answer.header("openai-processing-ms"), Some("12"));
    for hidden in ["set-cookie", "x-ms-deployment-name", "server", "x-ratelimit-remaining-requests", "x-gateway-route"]
    {
        assert_eq!(answer.header(hidden), None, "{hidden}");
    }
    assert_eq!(answer.header("x-ratelimit-limit-tokens"), None);
    assert_ne!(answer.header("x-request-id"), Some("azures-own"));
    gateway.settle();
    assert_eq!(gateway.row().attempts[0].upstream_id.as_deref(), Some("4f6b"));
}

#[test]
fn a_sane_request_id_is_kept_and_another_replaced() {
    let azure = azure(answered());
    let gateway = TestGateway::before(azure.address());
    let ask = |id: &str| -> Answer {
        let lines = format!("{}x-request-id: {id}\r\n", gateway.bearer());
        gateway.client().send(post("/v1/chat/completions", &lines, QUESTION.as_bytes())).answer().expect(200)
    };
    assert_eq!(ask("job_1.2-a").header("x-request-id"), Some("job_1.2-a"));
    gateway.settle();
    assert_eq!(gateway.row().request_id, "job_1.2-a");
    for odd in ["", "two words", "a\"b", "<script>", "naïve", &"x".repeat(129)] {
        let answer = ask(odd);
        let id = answer.header("x-request-id").unwrap();
        assert_ne!(id, odd);
        let digits = id.strip_prefix("req_").unwrap();
        assert!(digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    }
    gateway.settle();
    for row in gateway.rows().iter().filter(|row| row.request_id.starts_with("req_")) {
        assert_eq!(row.request_id, row.id.to_string(), "one id is enough where the client has none");
    }
    let mut seen: Vec<_> = gateway.rows().into_iter().map(|row| row.request_id).collect();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), gateway.rows().len(), "new ids are new each time");
}

#[test]
fn answers_tell_their_times_and_the_callers_limits() {
    let azure = azure(answered());
    let gateway = TestGateway::with(|estate| {
        estate.azure("east", azure.address());
        estate.0.server.expose_route = true;
    });
    let (_, secret) = gateway.new_key(serde_json::json!({ "limits": { "rpm": 60 } }));
    let line = format!("api-key: {secret}\r\n");
    let answer = gateway.client().send(post("/v1/chat/completions", &line, QUESTION.as_bytes())).answer().expect(200);
    let timing = answer.header("server-timing").unwrap();
    let parts: Vec<_> = timing.split(", ").collect();
    assert!(parts[0].starts_with("gw;dur=") && parts[1].starts_with("upstream;dur="), "{timing}");
    assert_eq!(parts[2], "attempts;desc=1");
    assert_eq!(answer.header("x-gateway-route"), Some("east/mini-one"));
    assert_eq!(answer.header("x-ratelimit-limit-requests"), Some("60"));
    assert_eq!(answer.header("x-ratelimit-remaining-requests"), Some("14"), "a burst of 15, one taken");
    assert_eq!(answer.header("x-ratelimit-reset-requests"), Some("1000ms"));
}
