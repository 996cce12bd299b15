//! Before the switch of protocols: keys, addresses, and refusals.

use super::*;
use crate::support::client::get;
use crate::support::websocket::HANDSHAKE;

#[test]
fn every_form_of_the_key_and_of_the_address_opens_a_session() {
    let (azure, gateway) = world();
    let key = &gateway.key;
    let (bearer, api_key) = (format!("authorization: Bearer {key}\r\n"), format!("api-key: {key}\r\n"));
    let dated = "/openai/responses?api-version=2025-04-01-preview";
    for (path, lines, protocol, model) in [
        (PATH.to_owned(), bearer.clone(), None, Some(MODEL)),
        (PATH.to_owned(), api_key.clone(), None, Some(MODEL)),
        (format!("{PATH}?api-key={key}"), String::new(), None, Some(MODEL)),
        (
            PATH.to_owned(),
            format!("sec-websocket-protocol: realtime, openai-insecure-api-key.{key}\r\n"),
            Some("realtime"),
            Some(MODEL),
        ),
        ("/openai/v1/responses".to_owned(), bearer.clone(), None, None),
        ("/openai/v1/responses".to_owned(), api_key.clone(), None, None),
        (dated.to_owned(), api_key, None, None),
        (format!("{dated}&api-key={key}"), bearer.replace(key.as_str(), key), None, None),
    ] {
        let mut session = try_open(&gateway, &path, &lines).unwrap_or_else(|refusal| panic!("{path}: {refusal:?}"));
        assert_eq!(session.head.header("sec-websocket-protocol"), protocol, "{path}");
        assert!(session.head.header("x-request-id").is_some());
        let events = turn(&mut session, &create("Name a colour."));
        let kinds: Vec<_> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
        assert_eq!(kinds[..2], ["response.created", "response.in_progress"], "{path}");
        assert!(kinds.contains(&"response.output_text.delta"));
        // OpenAI's clients are told the name that they asked for, Azure's what Azure says.
        let named = events[events.len() - 1]["response"]["model"].as_str();
        assert_eq!(named == Some(MODEL), model.is_some(), "{path}: {named:?}");
        session.close();
    }
    gateway.settle();
    let shown = format!("{:?}", journal(&azure));
    assert!(!shown.contains(key.as_str()), "the client's key stays here");
}

#[test]
fn mistakes_are_refused_before_the_switch() {
    let (azure, gateway) = world();
    let bearer = gateway.bearer();
    for lines in [
        String::new(),
        "authorization: Bearer sk-wrong\r\n".to_owned(),
        "api-key: sk-wrong\r\n".to_owned(),
        "sec-websocket-protocol: openai-insecure-api-key.sk-wrong\r\n".to_owned(),
    ] {
        let refusal = try_open(&gateway, PATH, &lines).err().unwrap_or_else(|| panic!("{lines} opened"));
        assert_eq!((refusal.status, refusal.code().as_str()), (401, "invalid_api_key"), "{lines}");
    }
    let refusal = try_open(&gateway, "/openai/responses?api-version=soon", &bearer).err().unwrap();
    assert_eq!((refusal.status, refusal.code().as_str()), (400, "invalid_api_version"));
    let old = HANDSHAKE.replace("version: 13", "version: 8");
    let refusal = gateway.client().send(get(PATH, &format!("{old}{bearer}"))).answer().expect(426);
    assert_eq!(refusal.header("sec-websocket-version"), Some("13"));
    let keyless = HANDSHAKE.replace("sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "");
    let refusal = gateway.client().send(get(PATH, &format!("{keyless}{bearer}"))).answer().expect(400);
    assert_eq!(refusal.code(), "malformed_handshake");
    // Without a wish to switch it is what it always was, and so are the paths that have no sessions.
    assert_eq!(gateway.get(PATH).expect(405).header("allow"), Some("POST"));
    for path in ["/v1/chat/completions", "/v1/responses/compact"] {
        assert_eq!(try_open(&gateway, path, &bearer).err().unwrap().status, 405, "{path}");
    }
    assert!(journal(&azure).is_empty() && gateway.rows().is_empty());
}
