//! Two dialects before the same deployments: OpenAI's shapes under `/v1`, Azure's bodies untouched under `/openai`, and
//! whatever the deployments have behind them.

mod capabilities;
mod errors;
mod streams;

use aoai_gateway::azure::endpoint::ApiVersion;
use serde_json::Value;

use crate::support::client::Answer;
use crate::support::fake_azure::{FakeAzure, Reply, Script};
use crate::support::gateway::{MODEL, TestGateway};

const OPENAI: &str = "/v1/chat/completions";
const AZURES: [&str; 2] =
    ["/openai/v1/chat/completions", "/openai/deployments/mini-one/chat/completions?api-version=2024-10-21"];

/// The two URL families a resource may have.
fn families() -> [ApiVersion; 2] {
    [ApiVersion::V1, ApiVersion::Dated("2024-10-21".to_owned())]
}

fn before(version: ApiVersion, reply: Reply) -> (FakeAzure, TestGateway) {
    let azure = FakeAzure::start(Script::always(reply));
    let gateway = TestGateway::with(|estate| estate.azure("east", azure.address()).api_version = version);
    (azure, gateway)
}

/// The data of each event, `[DONE]` left out.
#[track_caller]
fn chunks(answer: &Answer) -> Vec<Value> {
    let events = answer.text().split("\n\n").filter(|event| !event.is_empty());
    let data = events.map(|event| event.strip_prefix("data: ").unwrap_or_else(|| panic!("no data in {event:?}")));
    data.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).unwrap()).collect()
}

/// What the official clients need of every chunk of a chat, and nothing of Azure's own making in its place.
#[track_caller]
fn is_openais(chunk: &Value, asked: &str) {
    let choices = chunk["choices"].as_array().unwrap_or_else(|| panic!("no choices in {chunk}"));
    assert!(!choices.is_empty() || chunk["usage"].is_object(), "an empty chunk: {chunk}");
    for choice in choices {
        assert!(choice["delta"].is_object(), "no delta in {chunk}");
        assert!(choice["index"].is_u64() && choice.get("finish_reason").is_some(), "{chunk}");
    }
    assert_eq!(chunk["model"], asked, "{chunk}");
    assert!(chunk["id"].as_str().is_some_and(|id| !id.is_empty()), "{chunk}");
    assert_eq!(chunk["object"], "chat.completion.chunk", "{chunk}");
    assert!(chunk["created"].as_u64().is_some_and(|created| created > 0), "{chunk}");
}

fn text_of(chunks: &[Value]) -> String {
    chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect()
}

fn body(members: &str) -> String {
    format!(r#"{{"model":"{MODEL}","messages":[{{"role":"user","content":"Name a colour."}}]{members}}}"#)
}
