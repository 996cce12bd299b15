//! A caller's limits inside a session: what they do not allow is said in an event, and the session stays.

use super::*;

/// Turns until one is refused; gives how many were not, and the refusal.
#[track_caller]
fn until_refused(session: &mut WebSocket, event: &Value) -> (usize, Value) {
    for served in 0..30 {
        session.say(event);
        loop {
            let event = session.event();
            match event["type"].as_str() {
                Some("response.completed") => break,
                Some("error") => return (served, event),
                _ => {}
            }
        }
    }
    panic!("thirty responses were allowed");
}

#[test]
fn requests_per_minute_count_in_the_session() {
    let (azure, gateway) = world();
    // Four at once: the handshake and three responses.
    let (_, secret) = gateway.new_key(json!({"limits": {"rpm": 4}}));
    let mut session = open_as(&gateway, &secret);
    assert_eq!(session.head.header("x-ratelimit-remaining-requests"), Some("3"));
    let (served, told) = until_refused(&mut session, &create("Name a colour."));
    assert_eq!((served, &told["status"], &told["error"]["code"]), (3, &json!(429), &json!("rate_limit_exceeded")));
    assert_eq!(told["error"]["type"], "requests");
    assert!(told["headers"]["retry-after-ms"].is_string(), "{told}");
    session.close();
    let refusal = try_open(&gateway, PATH, &format!("api-key: {secret}\r\n")).err().unwrap();
    assert_eq!((refusal.status, refusal.code().as_str()), (429, "rate_limit_exceeded"));
    gateway.settle();
    assert_eq!((rows(&gateway).len(), booked(&rows(&gateway))), (3, charged(&journal(&azure))));
}

#[test]
fn tokens_and_quotas_count_in_the_session_by_what_was_really_said() {
    for (members, code) in [
        (json!({"limits": {"rpm": "unlimited", "tpm": 5_000}}), "rate_limit_exceeded"),
        (json!({"quota": {"period": "day", "tokens": 5_000}}), "insufficient_quota"),
    ] {
        let (azure, gateway) = world();
        let (_, secret) = gateway.new_key(members);
        let mut session = open_as(&gateway, &secret);
        let mut event = create("Name a colour.");
        event["max_output_tokens"] = json!(4_500);
        let (served, told) = until_refused(&mut session, &event);
        assert_eq!(told["error"]["code"], code, "{told}");
        assert!(served > 2, "it was not refused for what it might have cost");
        session.close();
        gateway.settle();
        assert_eq!((rows(&gateway).len(), booked(&rows(&gateway))), (served, charged(&journal(&azure))));
    }
}

#[test]
fn a_session_is_one_request_in_flight_and_its_responses_are_in_it() {
    let (_azure, gateway) = world();
    let (_, secret) = gateway.new_key(json!({"limits": {"concurrency": 1}}));
    let mut session = open_as(&gateway, &secret);
    answered(&mut session, &create("a"));
    let refusal = try_open(&gateway, PATH, &format!("api-key: {secret}\r\n")).err().unwrap();
    assert_eq!(refusal.status, 429);
    session.close();
    gateway.settle();
    open_as(&gateway, &secret).close();
}

#[test]
fn anothers_response_is_as_unknown_as_none() {
    let (azure, gateway) = world();
    let (_, secret) = gateway.new_key(json!({}));
    let mut session = open(&gateway);
    let id = answered(&mut session, &create("A secret."));
    let mut other = open_as(&gateway, &secret);
    for id in [id.as_str(), "resp_unknown"] {
        let told = other.say(&after(id, create("What was it?"))).event();
        let expected = (&json!("error"), &json!(400), &json!("previous_response_not_found"));
        assert_eq!((&told["type"], &told["status"], &told["error"]["code"]), expected);
        assert_eq!(told["error"]["param"], "previous_response_id");
    }
    assert_eq!(journal(&azure).len(), 1, "nobody was asked");
    answered(&mut session, &after(&id, create("What was it?")));
    session.close();
    other.close();
}

#[test]
fn models_and_regions_of_the_key_hold_for_each_turn() {
    let (first, second) = (region("east"), region("west"));
    let gateway = TestGateway::with(|estate| {
        estate.tier(0, "east", first.addr()).region = Some("eastus".into());
        estate.tier(1, "west", second.addr()).region = Some("westus".into());
    });
    let (_, there) = gateway.new_key(json!({"regions": ["westus"]}));
    let mut session = open_as(&gateway, &there);
    answered(&mut session, &create("a"));
    session.close();
    assert!(journal(&first).is_empty());
    let (_, nothing) = gateway.new_key(json!({"models": ["gpt-4.1"]}));
    let mut session = open_as(&gateway, &nothing);
    assert_eq!(refused(&mut session, &create("a")), ("model_not_allowed".into(), 403));
    session.close();
}
