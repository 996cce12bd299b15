//! All goes well: turn after turn, over several regions, with books that agree with the regions' own.

use super::*;
use crate::support::fake_azure::{FakeAzure, Reply, Script};
use crate::support::gateway::DEPLOYMENT;
use crate::support::websocket::{Frame, PING};

#[test]
fn what_goes_on_from_a_stored_response_goes_where_that_is() {
    const REGIONS: [&str; 4] = ["east", "west", "north", "south"];
    let regions = REGIONS.map(region);
    let gateway = TestGateway::with(|estate| {
        for (name, region) in REGIONS.iter().zip(&regions) {
            estate.azure(name, region.addr());
        }
    });
    let lines = format!("{}x-request-id: my-session\r\n", gateway.bearer());
    let mut session = try_open(&gateway, PATH, &lines).ok().unwrap();
    for conversation in 0..6 {
        let first = answered(&mut session, &create("Name a colour."));
        // The row was there before the last event.
        assert_eq!(rows(&gateway).len(), conversation * 3 + 1);
        let second = answered(&mut session, &after(&first, create("And another?")));
        answered(&mut session, &after(&second, create("And one more?")));
        let rows = &rows(&gateway)[conversation * 3..];
        assert_eq!(rows.len(), 3);
        assert!(rows.iter().all(|row| resources(row) == resources(&rows[0])), "{rows:?}");
        assert!(rows.iter().all(|row| row.request_id == "my-session" && row.endpoint == "responses" && row.stream));
        assert!(rows.iter().all(|row| row.state == "settled" && row.status == Some(200) && !row.estimated));
        assert!(rows[0].input_tokens < rows[1].input_tokens && rows[1].input_tokens < rows[2].input_tokens);
        let told = gateway.admin("GET", &format!("/requests/{}", rows[1].id), "").expect(200).json();
        let passed = told["attempts"][0]["decision"]["passed_over"].as_array().unwrap();
        assert_eq!(passed.len(), 3);
        assert!(passed.iter().all(|other| other["reason"] == "not_its_resource"), "{told}");
        // What was made here can be read there.
        assert_eq!(gateway.get(&format!("{PATH}/{second}")).expect(200).json()["id"], second.as_str());
    }
    session.close();
    gateway.settle();
    let entries: Vec<_> = regions.iter().flat_map(journal).filter(|entry| entry.method == "POST").collect();
    assert_eq!(entries.len(), 18);
    assert_eq!(booked(&rows(&gateway)), charged(&entries));
    let used: std::collections::BTreeSet<_> =
        rows(&gateway).iter().map(|row| row.attempts[0].resource.clone()).collect();
    assert!(used.len() > 1, "one session uses more than one region: {used:?}");
}

#[test]
fn what_is_posted_is_the_clients_but_for_what_belongs_to_the_socket() {
    const ANSWER: [&str; 3] = [
        "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_1\",\"model\":\"x\"}}\n\n",
        "data: {\"type\":\"response.output_text.delta\",\ndata: \"delta\":\"Zürich\"}\n\n",
        "data: {\"type\":\"response.completed\",\"response\":{\"id\":\"resp_1\",\"usage\":{\"input_tokens\":3,\"output_tokens\":4}}}\n\n",
    ];
    let azure = FakeAzure::start(Script::always(Reply::sse(&ANSWER)));
    let gateway = TestGateway::before(azure.address());
    let mut session = open(&gateway);
    let event =
        r#"{ "type" : "response.create","model":"gpt-4o-mini", "input":"a","generate":true,"x":1e999,"stream":false }"#;
    session.frame(crate::support::websocket::TEXT, event.as_bytes());
    let events = session.until("response.completed");
    assert_eq!(events[0]["response"]["model"], MODEL);
    assert_eq!(events[1]["delta"], "Zürich", "an event of two lines is one message");
    let sent = azure.requests().remove(0);
    assert_eq!(sent.text(), format!(r#"{{"stream":true, "model":"{DEPLOYMENT}", "input":"a","x":1e999 }}"#));
    assert_eq!((sent.method.as_str(), sent.target.as_str()), ("POST", "/openai/v1/responses"));
    assert!(sent.headers.iter().all(|(name, _)| !name.starts_with("sec-websocket")));
    session.close();
    gateway.settle();
    assert_eq!((gateway.row().input_tokens, gateway.row().output_tokens), (3, 4));
}

#[test]
fn an_upstream_that_streams_nothing_is_passed_on_as_its_end() {
    let answer = r#"{"id":"resp_1","object":"response","error":null,"usage":{"input_tokens":3,"output_tokens":4}}"#;
    let azure = FakeAzure::start(Script::always(Reply::json(200, answer)));
    let gateway = TestGateway::before(azure.address());
    let mut session = open(&gateway);
    assert_eq!(session.say(&create("a")).event()["response"]["id"], "resp_1");
    session.close();
}

#[test]
fn turns_are_served_one_after_the_other_and_the_client_is_heard_meanwhile() {
    let azure = crate::responses::paced("east", 5);
    let gateway = TestGateway::before(azure.addr());
    let mut session = open(&gateway);
    for number in 0..3 {
        session.say(&create(&format!("Number {number}.")));
    }
    session.frame(PING, b"there?");
    let (mut events, mut answered) = (Vec::new(), None);
    while events.iter().filter(|event: &&Value| event["type"] == "response.completed").count() < 3 {
        match session.hear() {
            Frame::Text(text) => events.push(serde_json::from_str(&text).unwrap()),
            Frame::Pong(payload) => answered = Some((payload, events.len())),
            other => panic!("{other:?}"),
        }
    }
    let (payload, heard) = answered.expect("a ping was not answered");
    assert!(payload == b"there?" && heard < events.len() / 3, "{heard} of {}", events.len());
    let ids: Vec<_> = events.iter().filter_map(|event| event["response"]["id"].as_str()).collect();
    let mut in_turn = ids.clone();
    in_turn.dedup();
    assert_eq!(in_turn.len(), 3, "no two are mixed: {ids:?}");
    session.close();
    gateway.settle();
    assert_eq!(booked(&rows(&gateway)), charged(&journal(&azure)));
}
