//! Conversations of which nothing is stored: their session remembers them, and no resource has to.

use aoai_gateway::simulator::Fault;

use super::*;
use crate::support::client::post;
use crate::support::fake_azure::{FakeAzure, Reply, Script};

#[test]
fn a_conversation_goes_on_in_another_region_when_its_own_fails() {
    let (first, second, gateway) = tiers();
    let mut session = open(&gateway);
    let start = answered(&mut session, &unstored("Name a colour, and remember that my name is Ada."));
    let fault = first.control().inject(Fault::fail(503));
    let next = answered(&mut session, &after(&start, unstored("What is my name?")));
    first.control().remove(fault);
    let last = answered(&mut session, &after(&next, unstored("And the colour?")));
    let rows = rows(&gateway);
    assert_eq!((resources(&rows[0]), resources(&rows[1])), (vec!["east"], vec!["east", "west"]));
    // All that was said is read again: each prompt holds the one before it, and its answer.
    for pair in rows.windows(2) {
        assert!(pair[1].input_tokens > pair[0].input_tokens + pair[0].output_tokens / 2, "{rows:?}");
    }
    let entries = [journal(&first), journal(&second)].concat();
    assert_eq!(booked(&rows), charged(&entries));
    // Only the latest is remembered, here and nowhere else.
    assert_eq!(refused(&mut session, &after(&start, unstored("?"))), ("previous_response_not_found".into(), 400));
    let posted = json!({"model": MODEL, "input": "?", "previous_response_id": last});
    let refusal = gateway.post(PATH, &posted.to_string()).expect(404);
    assert_eq!(refusal.code(), "previous_response_not_found");
    let mut other = open(&gateway);
    assert_eq!(refused(&mut other, &after(&last, unstored("?"))).0, "previous_response_not_found");
    // A refusal changes nothing, and what is stored now can be gone on from everywhere.
    let stored = answered(&mut session, &after(&last, create("Write it down.")));
    answered(&mut other, &after(&stored, create("What did you write?")));
    session.close();
    other.close();
}

/// Not even one that an upstream has begun and given up.
#[test]
fn a_response_that_failed_is_nothing_to_go_on_from() {
    let event = |data: Value| format!("data: {data}\n\n");
    let begun = event(json!({"type": "response.output_text.delta", "delta": "a"}));
    let ends = |kind: &str, id: &str, error: Value| {
        let response =
            json!({"id": id, "error": error, "output": [], "usage": {"input_tokens": 1, "output_tokens": 1}});
        Reply::sse(&[&begun, &event(json!({"type": kind, "response": response}))])
    };
    let azure = FakeAzure::start(Script::in_order(vec![
        ends("response.completed", "resp_1", Value::Null),
        ends("response.failed", "resp_2", json!({"code": "server_error", "message": "m"})),
        ends("response.incomplete", "resp_3", Value::Null),
    ]));
    let gateway = TestGateway::before(azure.address());
    let mut session = open(&gateway);
    let first = answered(&mut session, &unstored("a"));
    session.say(&after(&first, unstored("b"))).wait_for("response.failed");
    session.say(&after(&first, unstored("c"))).wait_for("response.incomplete");
    let sent: Value = serde_json::from_str(&azure.requests()[2].text()).unwrap();
    let said: Vec<_> = sent["input"].as_array().unwrap().iter().map(|item| item["content"].clone()).collect();
    assert_eq!(said, ["a", "c"]);
    assert_eq!(refused(&mut session, &after("resp_2", unstored("d"))).0, "previous_response_not_found");
    session.close();
}

#[test]
fn what_is_told_again_is_what_was_said() {
    let answer = |id: &str, text: &str| {
        let item = json!({"type": "message", "id": "msg_1", "role": "assistant", "content": text});
        let lost = json!({"type": "reasoning", "id": "rs_1", "summary": []});
        let response = json!({"id": id, "output": [lost, item], "usage": {"input_tokens": 1, "output_tokens": 1}});
        let delta = json!({"type": "response.output_text.delta", "delta": text});
        let done = json!({"type": "response.completed", "response": response});
        Reply::sse(&[&format!("data: {delta}\n\n"), &format!("data: {done}\n\n")])
    };
    let azure = FakeAzure::start(Script::in_order(vec![answer("resp_1", "b"), answer("resp_2", "d")]));
    let gateway = TestGateway::before(azure.address());
    let mut session = open(&gateway);
    let first = answered(&mut session, &unstored("a"));
    let mut second = after(&first, unstored(""));
    second["input"] = json!([{"type": "function_call_output", "call_id": "call_1", "output": "c"}]);
    answered(&mut session, &second);
    let sent: Value = serde_json::from_str(&azure.requests()[1].text()).unwrap();
    let said = json!([
        {"type": "message", "role": "user", "content": "a"},
        {"type": "message", "role": "assistant", "content": "b"},
        {"type": "function_call_output", "call_id": "call_1", "output": "c"},
    ]);
    assert_eq!((&sent["input"], &sent["previous_response_id"], &sent["store"]), (&said, &Value::Null, &json!(false)));
    session.close();
}

#[test]
fn a_beginning_costs_nothing_and_is_read_with_the_first_turn() {
    let (azure, gateway) = world();
    let mut session = open(&gateway);
    let mut warm = create("My name is Ada, and I like long introductions of which nothing is to be forgotten.");
    warm["generate"] = json!(false);
    let events = turn(&mut session, &warm);
    assert_eq!(events.len(), 2, "{events:?}");
    let response = &events[1]["response"];
    assert_eq!(
        (&response["status"], &response["model"], &response["output"]),
        (&json!("completed"), &json!(MODEL), &json!([]))
    );
    let id = response["id"].as_str().unwrap().to_owned();
    let row = gateway.row();
    assert_eq!((row.state.as_str(), row.status, row.input_tokens, row.attempts.len()), ("settled", Some(200), 0, 0));
    assert!(journal(&azure).is_empty(), "nobody was asked");
    answered(&mut session, &after(&id, unstored("Hello.")));
    let told = rows(&gateway).remove(1).input_tokens;
    let alone = answered(&mut session, &unstored("Hello."));
    assert!(told > rows(&gateway).remove(2).input_tokens + 10, "{told}");
    // It may come later in a conversation, and must be one that the key may have.
    let mut more = after(&alone, warm.clone());
    let more_id = answered(&mut session, &more);
    answered(&mut session, &after(&more_id, unstored("And now?")));
    more["previous_response_id"] = json!("resp_unknown");
    assert_eq!(refused(&mut session, &more).0, "previous_response_not_found");
    warm["model"] = json!("none");
    assert_eq!(refused(&mut session, &warm), ("model_not_found".into(), 404));
    session.close();
    gateway.settle();
    assert_eq!(booked(&rows(&gateway)), charged(&journal(&azure)));
}

/// A posted request has no such member.
#[test]
fn the_members_of_the_socket_are_not_those_of_a_posted_request() {
    let (_azure, gateway) = world();
    let body = create("a").to_string();
    gateway.client().send(post(PATH, &gateway.bearer(), body.as_bytes())).answer().expect(400);
}
