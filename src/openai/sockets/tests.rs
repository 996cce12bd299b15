use serde_json::{Value, json};

use super::*;

fn turn(event: &str, memory: Option<&Memory>) -> Turn {
    read(&Bytes::from(event.to_owned()), memory).unwrap_or_else(|refused| panic!("{refused:?} of {event}"))
}

fn refused(event: &str) -> Refused {
    read(&Bytes::from(event.to_owned()), None).unwrap_err()
}

fn body(turn: &Turn) -> Value {
    serde_json::from_slice(&turn.body).unwrap_or_else(|error| panic!("{error} in {:?}", turn.body))
}

fn done(response: Value) -> Bytes {
    json!({"type": "response.completed", "response": response}).to_string().into()
}

#[test]
fn an_event_becomes_a_body_wherever_its_members_stand() {
    for event in [
        r#"{"type":"response.create","model":"m","input":"a"}"#,
        r#"{"model":"m","type":"response.create","input":"a"}"#,
        r#" { "model" : "m" , "input" : "a" , "type" : "response.create" } "#,
        r#"{"type":"response.create","stream":false,"generate":true,"model":"m","input":"a"}"#,
        r#"{"model":"m","stream":true,"input":"a","generate":null,"type":"response.create"}"#,
        r#"{"stream":true,"model":"m","input":"a","type":"response.create","generate":true}"#,
        r#"{"t\u0079pe":"response.create","model":"m","input":"a"}"#,
    ] {
        assert_eq!(body(&turn(event, None)), json!({"stream": true, "model": "m", "input": "a"}), "{event}");
    }
    assert_eq!(&turn(r#"{"type":"response.create"}"#, None).body[..], br#"{"stream":true}"#);
    let text = r#"{"type":"response.create", "x":1e999, "input": [ 1 ]}"#;
    assert_eq!(&turn(text, None).body[..], br#"{"stream":true, "x":1e999, "input": [ 1 ]}"#, "the rest is as it was");
    assert_eq!(turn(r#"{"type":"response.create","generate":false}"#, None).output, Output::Unwanted);
}

#[test]
fn what_is_no_turn_is_refused() {
    assert_eq!(refused(r#"{"type":"response.cancel"}"#), Refused::Unknown("response.cancel".into()));
    assert_eq!(refused("{}"), Refused::Unknown(String::new()));
    assert_eq!(refused(r#"{"type":"response.create","background":true}"#), Refused::Unsupported("background"));
    assert_eq!(refused(r#"{"type":"response.create","stream_id":"a"}"#), Refused::Unsupported("stream_id"));
    let twice = Refused::Malformed(PeekError::Duplicate("input"));
    assert_eq!(refused(r#"{"type":"response.create","input":"a","input":[]}"#), twice);
    for text in ["", "{", "[]", r#""response.create""#, r#"{"type":"response.create"}x"#] {
        assert!(matches!(refused(text), Refused::Malformed(PeekError::Invalid(_))), "{text}");
    }
    assert!(matches!(refused(r#"{"type":7}"#), Refused::Malformed(PeekError::Type { name: "type", .. })));
    turn(r#"{"type":"response.create","background":false,"stream_id":null}"#, None);
}

#[test]
fn what_is_not_stored_is_told_again() {
    let first = turn(r#"{"type":"response.create","model":"m","store":false,"input":"Hi \"there\""}"#, None);
    let answer =
        json!({"id": "resp_1", "output": [{"type": "message", "id": "msg_1", "role": "assistant", "content": "b"}]});
    let memory = Memory::of_answer(&first, &done(answer)).unwrap();
    let event =
        r#"{"type":"response.create","store":false,"previous_response_id":"resp_1","input":[ {"c":1} ],"model":"m"}"#;
    let second = turn(event, Some(&memory));
    let said = json!([
        {"type": "message", "role": "user", "content": "Hi \"there\""},
        {"type": "message", "id": "msg_1", "role": "assistant", "content": "b"},
        {"c": 1},
    ]);
    assert_eq!(body(&second), json!({"stream": true, "store": false, "model": "m", "input": said}));
    // Only the latest is remembered, and nothing is added to what names another, or none.
    for event in [event.replace("resp_1", "resp_0"), event.replace("\"resp_1\"", "null")] {
        assert_eq!(body(&turn(&event, Some(&memory)))["input"], json!([{"c": 1}]));
    }
    let third = Memory::of_answer(&second, &done(json!({"id": "resp_2", "output": []}))).unwrap();
    let event = r#"{"previous_response_id":"resp_2","type":"response.create"}"#;
    assert_eq!(body(&turn(event, Some(&third))), json!({"stream": true, "input": said}));
    let odd = Bytes::from_static(br#"{"previous_response_id":"resp_2","type":"response.create","input":7}"#);
    assert!(matches!(read(&odd, Some(&third)), Err(Refused::Malformed(PeekError::Type { name: "input", .. }))));
}

#[test]
fn what_is_stored_is_left_to_where_it_is() {
    let remembers = |event: &str| Memory::of_answer(&turn(event, None), &done(json!({"id": "resp_2", "output": []})));
    assert_eq!(remembers(r#"{"type":"response.create","input":"a"}"#), None);
    assert_eq!(remembers(r#"{"type":"response.create","store":false,"conversation":"conv_1","input":"a"}"#), None);
    // What goes on from a stored one without being stored itself keeps its name.
    let memory = remembers(r#"{"type":"response.create","store":false,"previous_response_id":"resp_1","input":"a"}"#);
    let next = turn(r#"{"type":"response.create","previous_response_id":"resp_2","input":"b"}"#, memory.as_ref());
    let (told, a) = (body(&next), json!({"type": "message", "role": "user", "content": "a"}));
    assert_eq!((&told["previous_response_id"], &told["input"][0]), (&json!("resp_1"), &a));
    let unfinished = Bytes::from_static(br#"{"type":"response.failed","response":{"id":"resp_2","output":[]}}"#);
    let unstored = turn(r#"{"type":"response.create","store":false,"input":"a"}"#, None);
    assert_eq!(Memory::of_answer(&unstored, &unfinished), None);
    let long = format!(r#"{{"type":"response.create","store":false,"input":"{}"}}"#, "a".repeat(9 << 20));
    assert_eq!(remembers(&long), None);
}

#[test]
fn reasoning_is_told_again_where_it_can_be_read() {
    let unstored = turn(r#"{"type":"response.create","store":false,"input":[]}"#, None);
    let told = |output: Value| {
        let memory = Memory::of_answer(&unstored, &done(json!({"output": output, "id": "resp_1"}))).unwrap();
        let next = r#"{"type":"response.create","previous_response_id":"resp_1","input":[]}"#;
        body(&turn(next, Some(&memory)))["input"].take()
    };
    let call = json!({"arguments": "{}", "call_id": "call_1", "id": "fc_1", "type": "function_call"});
    let sealed = json!({"encrypted_content": "gAAA", "id": "rs_1", "type": "reasoning"});
    assert_eq!(told(json!([sealed, call])), json!([sealed, call]));
    let unnamed = json!({"arguments": "{}", "call_id": "call_1", "type": "function_call"});
    let search = json!({"id": "ws_1", "type": "web_search_call"});
    let unsealed = json!({"encrypted_content": null, "id": "rs_1", "type": "reasoning"});
    assert_eq!(told(json!([unsealed, call, search])), json!([unnamed, search]));
    assert_eq!(told(json!([{"id": "m", "type": "message"}, unsealed])), json!([{"type": "message"}]));
}

#[test]
fn a_beginning_without_an_answer_is_remembered() {
    let warm = turn(r#"{"type":"response.create","generate":false,"model":"m","input":"a"}"#, None);
    let memory = Memory::of_beginning(&warm, "resp_w").unwrap();
    let next = turn(r#"{"type":"response.create","previous_response_id":"resp_w","input":"b"}"#, Some(&memory));
    let said: Vec<_> = body(&next)["input"].as_array().unwrap().iter().map(|item| item["content"].clone()).collect();
    assert_eq!(said, ["a", "b"]);
    let [begun, done] = events::prepared(&warm, "resp_w", "m", crate::domain::time::WallTime(2_500_000));
    let (begun, done): (Value, Value) = (serde_json::from_str(&begun).unwrap(), serde_json::from_str(&done).unwrap());
    assert_eq!(
        (&begun["response"]["status"], &done["response"]["status"]),
        (&json!("in_progress"), &json!("completed"))
    );
    assert_eq!((&done["response"]["created_at"], &done["response"]["usage"]["total_tokens"]), (&json!(2), &json!(0)));
}

#[test]
fn refusals_keep_their_words() {
    let told = events::refusal_of_upstream(400, br#"{"error":{"code":"content_filter","innererror":{}}}"#);
    assert_eq!(&told[..], br#"{"type":"error","status":400,"error":{"code":"content_filter","innererror":{}}}"#);
    let told: Value = serde_json::from_slice(&events::refusal_of_upstream(404, b"no such \"thing\"")).unwrap();
    assert_eq!(told["error"]["message"], "no such \"thing\"");
}
