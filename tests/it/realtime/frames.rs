//! What clients send, right or wrong.

use super::*;
use crate::support::fake_azure::{FakeAzure, Script};
use crate::support::websocket::{BINARY, CLOSE, Frame, PING, TEXT, masked};

/// Each way to break the protocol has its code, and costs its sender the session only.
#[test]
fn malformed_and_oversized_frames_end_the_session_with_a_code() {
    let (azure, gateway) = world(|estate| estate.0.server.body_limit = 100_000);
    let mut bystander = open(&gateway);
    let huge = |length: u64| [&[TEXT, 0x80 | 127][..], &length.to_be_bytes(), &[0; 4]].concat();
    let fragments: Vec<u8> = [masked(0x01, &[b'x'; 60_000]), masked(0x80, &[b'x'; 60_000])].concat();
    for (name, bytes, code) in [
        ("no mask", unmasked(TEXT, b"{}"), 1002),
        ("a reserved bit", masked(0xc1, b"{}"), 1002),
        ("an unknown code", masked(0x83, b"{}"), 1002),
        ("a fragment of nothing", masked(0x80, b"{}"), 1002),
        ("a message inside a message", [masked(0x01, b"{"), masked(TEXT, b"{}")].concat(), 1002),
        ("a ping in fragments", masked(0x09, b"!"), 1002),
        ("a long ping", masked(PING, &[b'!'; 126]), 1002),
        ("half a close code", masked(CLOSE, &[3]), 1002),
        ("a close code that does not exist", masked(CLOSE, &1005u16.to_be_bytes()), 1002),
        ("no UTF-8", masked(TEXT, b"\"\xff\""), 1007),
        ("too large", masked(TEXT, &[b'x'; 100_001]), 1009),
        ("too large by its own words", huge(1 << 62), 1009),
        ("a length of 64 bits", huge(u64::MAX), 1009),
        ("too large in fragments", fragments, 1009),
    ] {
        let mut session = open(&gateway);
        // It may be refused before it is whole.
        let _ = session.try_write(&bytes);
        assert_eq!(session.end().1, Frame::Close(Some(code)), "{name}");
    }
    bystander.say(&item("Still here.")).wait_for("conversation.item.added");
    bystander.close();
    gateway.settle();
    assert_eq!((azure.control().sessions(), turns(&gateway).len()), (0, 0));
}

#[test]
fn messages_pass_as_they_are() {
    let said = [br#"{ "type":"session.created" , "x" : "\u00e9" }"#.to_vec(), b"no json at all".to_vec(), b"".to_vec()];
    let frames: Vec<u8> = said.iter().flat_map(|text| unmasked(TEXT, text)).collect();
    let more = [frames, unmasked(BINARY, &[0, 255]), unmasked(PING, b"?")].concat();
    // Sixteen bytes of message, four of mask, two of head; then a pong of one byte.
    let azure = FakeAzure::start(Script::each(move |request| switched(request, &more).then_take(22).then_hold()));
    let gateway = TestGateway::with(|estate| region(estate, "east", azure.address(), 1));
    let mut session = try_open(&gateway, PATH, &gateway.bearer()).ok().unwrap();
    for text in said {
        assert_eq!(session.hear(), Frame::Text(String::from_utf8(text).unwrap()));
    }
    assert_eq!(session.hear(), Frame::Binary(vec![0, 255]));
    assert_eq!(session.hear(), Frame::Ping(b"?".to_vec()));
    session.frame(BINARY, b"sixteen bytes ..");
    session.leave();
}

#[test]
fn pings_reach_the_other_end_and_so_does_a_goodbye_without_a_reason() {
    let (azure, gateway) = world(|_| {});
    let mut session = open(&gateway);
    session.frame(PING, b"are you there");
    assert_eq!(session.hear(), Frame::Pong(b"are you there".to_vec()));
    session.frame(CLOSE, b"");
    assert_eq!(session.hear(), Frame::Close(None));
    assert_eq!(session.hear(), Frame::End);
    gateway.settle();
    assert_eq!(azure.control().sessions(), 0);
}

/// Audio in both directions at once, faster than either side reads: nothing is lost, and nobody waits for ever.
#[test]
fn both_directions_flow_at_once() {
    let (azure, gateway) = world(|_| {});
    pace(&azure, 0, 2_000);
    let mut session = open(&gateway);
    session.say(&json!({"type": "session.update", "session": {"turn_detection": null}}));
    session.say(&create());
    let audio = json!({"type": "input_audio_buffer.append", "audio": "w".repeat(64_000)}).to_string();
    for _ in 0..100 {
        session.frame(TEXT, audio.as_bytes());
    }
    session.say(&json!({"type": "input_audio_buffer.commit"}));
    let events = session.until("response.done");
    let mut rest = Vec::new();
    if !events.iter().any(|event| event["type"] == "input_audio_buffer.committed") {
        rest = session.until("input_audio_buffer.committed");
    }
    let spoken = events.iter().chain(&rest).filter(|event| event["type"] == "response.output_audio.delta").count();
    assert_eq!(spoken, 200);
    session.say(&create()).wait_for("response.done");
    session.close();
    gateway.settle();
    let rows = turns(&gateway);
    assert_eq!((rows.len(), booked(&rows)), (2, charged(&azure.control())));
    assert!(rows[1].input_tokens >= 1_000, "6.4 million letters were heard: {:?}", rows[1]);
}
