//! Sessions of the simulator itself, before the gateway is tested against them.

use std::net::SocketAddr;

use aoai_gateway::simulator::{Fault, SessionEnd, SimulatedDeployment};
use serde_json::json;

use super::*;
use crate::support::websocket::{CLOSE, Frame, WebSocket, knock};

const PREVIEW: &str = "/openai/realtime?api-version=2025-04-01-preview&deployment=rt";

async fn region() -> Simulator {
    run(resource("realtime").with_deployment(SimulatedDeployment::new("rt", "gpt-realtime"))).await
}

fn open(address: SocketAddr, path: &str) -> Result<WebSocket, u16> {
    knock(address, path, &format!("api-key: {KEY}\r\n")).map_err(|refusal| refusal.status)
}

#[actix_rt::test]
async fn both_families_open_sessions_and_refuse_what_azure_refuses() {
    let simulator = region().await;
    let address = simulator.addr();
    for (path, status) in [
        ("/openai/v1/realtime?model=none", 404),
        ("/openai/v1/realtime?model=gpt-4o-mini", 400),
        ("/openai/realtime?api-version=2024-10-21&deployment=rt", 404),
        ("/openai/realtime?deployment=rt", 404),
    ] {
        assert_eq!(open(address, path).err(), Some(status), "{path}");
    }
    assert_eq!(knock(address, PREVIEW, "api-key: wrong\r\n").err().unwrap().status, 401);
    simulator.control().inject(Fault::throttle(aoai_gateway::simulator::Cause::Call).times(1));
    let refusal = knock(address, PREVIEW, &format!("api-key: {KEY}\r\n")).err().unwrap();
    assert_eq!(refusal.status, 429);
    assert!(refusal.text().contains("onHandshake") && refusal.header("retry-after-ms").is_some());
    for (path, audio) in
        [(PREVIEW, "response.audio.delta"), ("/openai/v1/realtime?model=rt", "response.output_audio.delta")]
    {
        let mut session = open(address, path).unwrap();
        assert_eq!(session.event()["type"], "session.created");
        session.say(&json!({"type": "response.create"})).wait_for(audio);
        session.wait_for("response.done");
        assert_eq!(session.event()["type"], "rate_limits.updated");
        session.close();
    }
    idle(&simulator).await;
}

#[actix_rt::test]
async fn the_journal_has_an_entry_for_each_response_as_it_was_told() {
    let simulator = region().await;
    let mut session = open(simulator.addr(), PREVIEW).unwrap();
    let item = json!({"content": [{"type": "input_text", "text": "12345678"}]});
    session.say(&json!({"type": "conversation.item.create", "item": item}));
    session.say(&json!({"type": "response.create", "response": {"modalities": ["text"]}}));
    let events = session.until("response.done");
    assert!(events.iter().all(|event| !event["type"].as_str().unwrap().contains("audio")), "{events:?}");
    let usage = &events.last().unwrap()["response"]["usage"];
    assert_eq!((&usage["input_tokens"], &usage["output_tokens"]), (&json!(2), &json!(60)));
    let journal = simulator.control().journal();
    assert_eq!((journal[0].status, journal[0].charged), (101, false));
    let told = (journal[1].prompt_tokens, journal[1].completion_tokens, journal[1].completed, journal[1].finished);
    assert_eq!(told, (2, 60, true, true), "before its client knows");
    session.say(&json!({"type": "ping", "event_id": "mine"}));
    assert_eq!(session.wait_for("error")["error"]["event_id"], "mine");
    session.close();
}

#[actix_rt::test]
async fn sessions_end_on_command() {
    let simulator = region().await;
    let control = simulator.control();
    for (how, expected) in [(SessionEnd::Cut, Frame::End), (SessionEnd::Close(1013), Frame::Close(Some(1013)))] {
        let mut session = open(simulator.addr(), PREVIEW).unwrap();
        session.wait_for("session.created");
        assert_eq!((control.sessions(), control.end_sessions(9, how)), (1, 1));
        assert_eq!(session.end().1, expected);
    }
    simulator.control().inject(Fault::cut(aoai_gateway::simulator::Cut::AfterChunks(3)).times(1));
    let mut session = open(simulator.addr(), PREVIEW).unwrap();
    session.say(&json!({"type": "response.create"}));
    let (events, end) = session.end();
    assert_eq!((events.len(), end), (3, Frame::End));
    let mut session = open(simulator.addr(), PREVIEW).unwrap();
    session.wait_for("session.created");
    session.frame(CLOSE, b"");
    assert_eq!(session.hear(), Frame::Close(None));
    idle(&simulator).await;
    let entry = control.journal().into_iter().find(|entry| entry.method == "WS").unwrap();
    assert!(entry.charged && !entry.completed && entry.completion_tokens <= 20, "{entry:?}");
}
