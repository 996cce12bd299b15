//! How sessions end, and what each side is told.

use std::time::{Duration, Instant};

use aoai_gateway::server::Ended;
use aoai_gateway::simulator::SessionEnd;

use super::*;
use crate::support::fake_azure::{Cut, FakeAzure, Script};
use crate::support::gateway::eventually;
use crate::support::websocket::{CLOSE, Frame};

/// The code of the last error event.
fn last_error(events: &[Value]) -> &str {
    let errors = events.iter().rev().find(|event| event["type"] == "error");
    errors.and_then(|event| event["error"]["code"].as_str()).unwrap_or("none")
}

#[test]
fn a_cut_upstream_is_said_and_never_looks_like_a_good_end() {
    let (azure, gateway) = world(|_| {});
    pace(&azure, 20, 1_000);
    let mut session = open(&gateway);
    session.say(&create()).wait_for("response.output_audio.delta");
    assert_eq!(azure.control().end_sessions(1, SessionEnd::Cut), 1);
    let (events, end) = session.end();
    assert_eq!((last_error(&events), end), ("upstream_stream_cut", Frame::Close(Some(1011))));
    gateway.settle();
    let row = &turns(&gateway)[0];
    assert_eq!(
        (row.state.as_str(), row.estimated, row.attempts[0].charged.as_deref()),
        ("failed", true, Some("estimated"))
    );
    assert_eq!(session_row(&gateway).state, "failed");
}

#[test]
fn an_upstreams_goodbye_passes_with_its_code() {
    for (payload, expected) in
        [(&1000u16.to_be_bytes()[..], Some(1000)), (&4001u16.to_be_bytes(), Some(4001)), (&[], None)]
    {
        let payload = payload.to_vec();
        let azure =
            FakeAzure::start(Script::each(move |request| switched(request, &unmasked(CLOSE, &payload)).then_hold()));
        let gateway = TestGateway::with(|estate| region(estate, "east", azure.address(), 1));
        let mut session = try_open(&gateway, PATH, &gateway.bearer()).ok().unwrap();
        assert_eq!(session.hear(), Frame::Close(expected));
        session.frame(CLOSE, &1000u16.to_be_bytes());
        assert_eq!(session.hear(), Frame::End);
        gateway.settle();
        assert_eq!(session_row(&gateway).state, "settled");
    }
}

#[test]
fn what_an_upstream_sends_against_the_rules_ends_the_session_loudly() {
    for frames in [
        unmasked(0xc1, b"{}"),
        unmasked(0x81, b"\xff"),
        [&[0x82, 127][..], &(1u64 << 62).to_be_bytes()].concat(),
        [&[0x81, 0x82, 1, 2, 3, 4][..], b"{}"].concat(),
    ] {
        let azure = FakeAzure::start(Script::each(move |request| switched(request, &frames).then_hold()));
        let gateway = TestGateway::with(|estate| region(estate, "east", azure.address(), 1));
        let mut session = try_open(&gateway, PATH, &gateway.bearer()).ok().unwrap();
        let (events, end) = session.end();
        assert_eq!((last_error(&events), end), ("upstream_stream_cut", Frame::Close(Some(1011))));
    }
}

#[test]
fn a_cut_right_after_the_switch_is_a_cut() {
    for cut in [Cut::Fin, Cut::Reset] {
        let azure = FakeAzure::start(Script::each(move |request| switched(request, b"").then_end(cut)));
        let gateway = TestGateway::with(|estate| region(estate, "east", azure.address(), 1));
        let mut session = try_open(&gateway, PATH, &gateway.bearer()).ok().unwrap();
        assert_eq!(session.end().1, Frame::Close(Some(1011)), "{cut:?}");
    }
}

#[test]
fn a_client_that_leaves_takes_its_upstream_along_at_once() {
    let (azure, gateway) = world(|_| {});
    pace(&azure, 50, 1_000);
    for leaves in [WebSocket::leave as fn(WebSocket), WebSocket::reset, WebSocket::close] {
        let mut session = open(&gateway);
        session.say(&create()).wait_for("response.created");
        let began = Instant::now();
        leaves(session);
        eventually(|| if azure.control().sessions() == 0 { Ok(()) } else { Err("the upstream goes on".into()) });
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }
}

#[test]
fn a_key_that_is_revoked_ends_its_sessions_within_a_second() {
    let (azure, gateway) = world(|_| {});
    pace(&azure, 50, 1_000);
    let (id, secret) = gateway.new_key(json!({}));
    let mut stays = open(&gateway);
    let mut session = open_as(&gateway, &secret);
    session.say(&create()).wait_for("response.created");
    gateway.admin("DELETE", &format!("/keys/{id}"), "");
    let revoked = Instant::now();
    let (events, end) = session.end();
    assert!(revoked.elapsed() < Duration::from_secs(1), "{:?}", revoked.elapsed());
    assert_eq!((last_error(&events), end), ("invalid_api_key", Frame::Close(Some(1008))));
    stays.say(&item("Still here.")).wait_for("conversation.item.added");
    stays.close();
    gateway.settle();
    assert_eq!(turns(&gateway)[0].state, "cancelled");
}

/// The old secret of a rotated key serves its grace out, inside a session too.
#[test]
fn a_rotated_key_keeps_its_sessions_for_its_grace() {
    let (_azure, gateway) = world(|_| {});
    let (id, secret) = gateway.new_key(json!({}));
    let mut session = open_as(&gateway, &secret);
    gateway.admin("POST", &format!("/keys/{id}/rotate"), r#"{"grace":"2s"}"#).expect(200);
    let rotated = Instant::now();
    session.say(&create()).wait_for("response.done");
    let (events, end) = session.end();
    assert_eq!((last_error(&events), end), ("invalid_api_key", Frame::Close(Some(1008))));
    assert!(rotated.elapsed() >= Duration::from_millis(1_900), "{:?}", rotated.elapsed());
}

#[test]
fn a_key_that_expires_does_so_inside_a_session() {
    let (_azure, gateway) = world(|_| {});
    let soon = jiff::Timestamp::now() + Duration::from_secs(2);
    let (_, secret) = gateway.new_key(json!({"expires_at": soon.to_string()}));
    let mut session = open_as(&gateway, &secret);
    let (events, end) = session.end();
    assert_eq!((last_error(&events), end), ("invalid_api_key", Frame::Close(Some(1008))));
    assert!(jiff::Timestamp::now() >= soon);
}

#[test]
fn a_session_lasts_no_longer_than_it_may() {
    let (_azure, gateway) = world(|estate| estate.0.routing.session_limit = Duration::from_millis(400));
    let mut session = open(&gateway);
    let (events, end) = session.end();
    assert_eq!((last_error(&events), end), ("session_expired", Frame::Close(Some(1001))));
    gateway.settle();
    assert_eq!(session_row(&gateway).state, "settled");
}

#[test]
fn a_shutdown_lets_a_response_finish_and_says_goodbye() {
    let (azure, mut gateway) = world(|estate| estate.0.server.shutdown_grace = Duration::from_secs(10));
    pace(&azure, 10, 100);
    let mut idle = open(&gateway);
    let mut busy = open(&gateway);
    busy.say(&create()).wait_for("response.created");
    let began = Instant::now();
    let stopped = std::thread::scope(|scope| {
        let stopping = scope.spawn(|| gateway.stop());
        assert_eq!(idle.end().1, Frame::Close(Some(1001)));
        let (events, end) = busy.end();
        assert!(events.iter().any(|event| event["type"] == "response.done"), "it was let finish");
        assert_eq!((last_error(&events), end), ("none", Frame::Close(Some(1001))));
        stopping.join().unwrap()
    });
    assert_eq!(stopped, Ended::Orderly);
    assert!(began.elapsed() < Duration::from_secs(8), "nobody waited for the grace to end: {:?}", began.elapsed());
    assert_eq!((turns(&gateway).len(), booked(&turns(&gateway))), (1, charged(&azure.control())));
}

#[test]
fn a_shutdown_waits_no_longer_than_its_grace() {
    let (azure, mut gateway) = world(|estate| estate.0.server.shutdown_grace = Duration::from_secs(1));
    pace(&azure, 100, 1_000);
    let mut session = open(&gateway);
    session.say(&create()).wait_for("response.created");
    let stopped = std::thread::scope(|scope| {
        let stopping = scope.spawn(|| gateway.stop());
        let (events, end) = session.end();
        assert_eq!((last_error(&events), end), ("server_shutting_down", Frame::Close(Some(1001))));
        stopping.join().unwrap()
    });
    assert_eq!(stopped, Ended::Orderly);
    let row = &turns(&gateway)[0];
    assert_eq!((row.state.as_str(), row.estimated), ("failed", true));
}

/// An upstream that falls silent is no end: whoever listens may have asked for nothing.
#[test]
fn a_silent_upstream_is_left_to_its_client() {
    let (azure, gateway) = world(|_| {});
    let mut session = open(&gateway);
    azure.control().end_sessions(1, SessionEnd::Hang);
    session.say(&create());
    session.close();
    gateway.settle();
    assert_eq!((session_row(&gateway).state.as_str(), turns(&gateway).len()), ("settled", 0));
}

/// A machine that was switched off sends no FIN; one that is only silent answers when it is asked.
#[test]
fn a_client_that_does_not_answer_any_more_is_given_up() {
    let (azure, gateway) = world(|estate| estate.0.routing.stream_idle_timeout = Duration::from_secs(2));
    let mut there = open(&gateway);
    let mut vanished = open(&gateway);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        match there.hear() {
            Frame::Ping(question) => there.frame(0x8a, &question),
            other => panic!("{other:?}"),
        };
    }
    let (events, end) = vanished.end();
    assert_eq!((last_error(&events), end), ("none", Frame::Close(None)));
    there.say(&item("Still here.")).wait_for("conversation.item.added");
    assert_eq!(azure.control().sessions(), 1);
    there.close();
}
