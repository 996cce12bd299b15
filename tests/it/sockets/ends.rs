//! How sessions end: by either side, by their key, by time, and by a shutdown; with each row once.

use std::time::{Duration, Instant};

use aoai_gateway::server::Ended;
use aoai_gateway::settings::model::{Durability, OnDisconnect};
use aoai_gateway::storage::Store;
use aoai_gateway::storage::keys::Revoked;

use super::*;
use crate::responses::paced;
use crate::support::gateway::eventually;
use crate::support::websocket::Frame;

/// A region that takes its time, and a gateway before it.
fn slow(token_ms: u64, change: impl FnOnce(&mut aoai_gateway::settings::model::Settings)) -> (Simulator, TestGateway) {
    let azure = paced("east", token_ms);
    let gateway = TestGateway::with(|estate| {
        estate.azure("east", azure.addr());
        change(&mut estate.0);
    });
    (azure, gateway)
}

#[track_caller]
fn ends_with(session: &mut WebSocket, code: &str, close: u16) -> Vec<Value> {
    let (events, end) = session.end();
    let last = events.last().map_or(Value::Null, |event| event["error"]["code"].clone());
    assert_eq!((last.as_str().unwrap_or("none"), end), (code, Frame::Close(Some(close))));
    events
}

#[test]
fn a_client_that_leaves_takes_its_response_along_and_has_one_row() {
    let (azure, gateway) = slow(200, |_| ());
    for (number, leaves) in
        [WebSocket::leave as fn(WebSocket), WebSocket::reset, WebSocket::close].into_iter().enumerate()
    {
        let mut session = open(&gateway);
        session.say(&create("Name a colour.")).wait_for("response.output_text.delta");
        leaves(session);
        eventually(|| if azure.control().in_flight() == 0 { Ok(()) } else { Err("the upstream goes on".into()) });
        gateway.settle();
        let rows = rows(&gateway);
        assert_eq!(rows.len(), number + 1);
        let row = &rows[number];
        assert_eq!((row.state.as_str(), row.status, row.estimated), ("cancelled", Some(499), true));
        assert_eq!((row.attempts.len(), row.input_tokens > 0), (1, true), "{row:?}");
    }
    let entries = journal(&azure);
    assert!(entries.iter().all(|entry| !entry.completed), "they were cut short: {entries:?}");
}

#[test]
fn what_a_client_has_left_is_read_to_its_end_where_the_settings_say_so() {
    let (azure, gateway) = slow(20, |settings| settings.accounting.on_disconnect = OnDisconnect::Drain);
    let mut session = open(&gateway);
    session.say(&create("Name a colour.")).wait_for("response.created");
    session.leave();
    let entries = journal(&azure);
    gateway.settle();
    let row = gateway.row();
    assert_eq!((row.state.as_str(), row.estimated, entries[0].completed), ("cancelled", false, true));
    assert_eq!(booked(&[row]), charged(&entries));
}

#[test]
fn a_client_that_leaves_before_anything_has_come_has_one_row_too() {
    let azure = crate::support::fake_azure::FakeAzure::start(crate::support::fake_azure::Script::always(
        crate::support::fake_azure::Reply::silence(),
    ));
    let gateway = TestGateway::before(azure.address());
    let mut session = open(&gateway);
    session.say(&create("a"));
    azure.wait_for(|seen| seen.requests.len() == 1);
    session.leave();
    gateway.settle();
    assert_eq!(gateway.row().state, "cancelled");
}

#[test]
fn a_key_that_is_revoked_ends_its_sessions() {
    let (azure, gateway) = slow(200, |_| ());
    let (id, secret) = gateway.new_key(json!({}));
    let (mut stays, mut idle) = (open(&gateway), open_as(&gateway, &secret));
    let mut busy = open_as(&gateway, &secret);
    busy.say(&create("Name a colour.")).wait_for("response.output_text.delta");
    gateway.admin("DELETE", &format!("/keys/{id}"), "");
    let told = ends_with(&mut busy, "invalid_api_key", 1008);
    assert!(told.iter().all(|event| event["type"] != "response.completed"));
    ends_with(&mut idle, "invalid_api_key", 1008);
    eventually(|| if azure.control().in_flight() == 0 { Ok(()) } else { Err("the upstream goes on".into()) });
    assert_eq!(refused(&mut stays, &json!({"type": "still.here"})).0, "unknown_event");
    stays.close();
    gateway.settle();
    assert_eq!(gateway.row().state, "cancelled");
}

/// The old secret of a rotated key serves its grace out, and a key its time; nobody says anything meanwhile.
#[test]
fn what_a_key_may_by_the_clock_ends_its_sessions_too() {
    let (_azure, gateway) = slow(0, |_| ());
    let soon = jiff::Timestamp::now() + Duration::from_secs(5);
    let (_, expiring) = gateway.new_key(json!({"expires_at": soon.to_string()}));
    let (id, old) = gateway.new_key(json!({}));
    let (mut expires, mut rotated) = (open_as(&gateway, &expiring), open_as(&gateway, &old));
    let replaced = Instant::now();
    gateway.admin("POST", &format!("/keys/{id}/rotate"), r#"{"grace":"5s"}"#).expect(200);
    turn(&mut rotated, &create("Name a colour."));
    ends_with(&mut expires, "invalid_api_key", 1008);
    assert!(jiff::Timestamp::now() >= soon);
    ends_with(&mut rotated, "invalid_api_key", 1008);
    assert!(replaced.elapsed() >= Duration::from_millis(4_900), "{:?}", replaced.elapsed());
}

#[test]
fn a_key_that_another_process_revokes_ends_its_sessions() {
    let (_azure, gateway) = slow(0, |_| ());
    let (id, secret) = gateway.new_key(json!({}));
    let mut idle = open_as(&gateway, &secret);
    let command = Store::beside(&gateway.database(), Durability::Process).unwrap();
    assert_eq!(command.revoke_key(id.parse().unwrap()).unwrap(), Revoked::Now);
    ends_with(&mut idle, "invalid_api_key", 1008);
}

/// As operators see it, each kind by itself.
#[test]
fn open_sessions_are_counted() {
    let (_azure, gateway) = slow(0, |_| ());
    let counted = |endpoint: &str| {
        let text = gateway.get("/metrics").expect(200).text().to_owned();
        let name = format!("aoai_gateway_open_websockets{{endpoint=\"{endpoint}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&name)?.parse::<u32>().ok())
    };
    assert_eq!((counted("responses"), counted("realtime")), (Some(0), Some(0)), "before the first");
    let (one, other) = (open(&gateway), open(&gateway));
    assert_eq!((counted("responses"), counted("realtime")), (Some(2), Some(0)));
    one.close();
    other.leave();
    eventually(|| match counted("responses") {
        Some(0) => Ok(()),
        more => Err(format!("{more:?} are counted")),
    });
}

#[test]
fn a_session_lasts_no_longer_than_it_may_and_its_last_response_is_let_finish() {
    let (azure, gateway) = slow(80, |settings| settings.routing.session_limit = Duration::from_secs(3));
    let mut idle = open(&gateway);
    let mut busy = open(&gateway);
    // It takes longer than the session may.
    busy.say(&create("Name a colour.")).say(&create("And another.")).wait_for("response.created");
    let told = ends_with(&mut idle, "websocket_connection_limit_reached", 1001);
    assert_eq!((told.len(), &told[0]["status"]), (1, &json!(400)));
    let told = ends_with(&mut busy, "websocket_connection_limit_reached", 1001);
    let done: Vec<_> = told.iter().filter(|event| event["type"] == "response.completed").collect();
    assert_eq!(done.len(), 1, "the first was let finish, and the second never begun");
    gateway.settle();
    assert_eq!((rows(&gateway).len(), booked(&rows(&gateway))), (1, charged(&journal(&azure))));
}

#[test]
fn a_shutdown_lets_a_response_finish_and_says_goodbye() {
    let (azure, mut gateway) = slow(30, |settings| settings.server.shutdown_grace = Duration::from_secs(60));
    let (mut idle, mut busy) = (open(&gateway), open(&gateway));
    busy.say(&create("Name a colour.")).wait_for("response.created");
    let stopped = std::thread::scope(|scope| {
        let stopping = scope.spawn(|| gateway.stop());
        ends_with(&mut idle, "none", 1001);
        let told = ends_with(&mut busy, "none", 1001);
        assert!(told.iter().any(|event| event["type"] == "response.completed"), "it was let finish");
        stopping.join().unwrap()
    });
    assert_eq!(stopped, Ended::Orderly);
    assert_eq!((rows(&gateway).len(), booked(&rows(&gateway))), (1, charged(&journal(&azure))));
}

#[test]
fn a_shutdown_waits_no_longer_than_its_grace() {
    let (_azure, mut gateway) = slow(200, |settings| settings.server.shutdown_grace = Duration::from_millis(500));
    let mut session = open(&gateway);
    session.say(&create("Name a colour.")).wait_for("response.output_text.delta");
    let stopped = std::thread::scope(|scope| {
        let stopping = scope.spawn(|| gateway.stop());
        let (events, _) = session.end();
        assert_eq!(events[events.len() - 1]["type"], "error", "{events:?}");
        stopping.join().unwrap()
    });
    assert_eq!(stopped, Ended::Orderly);
    let row = &rows(&gateway)[0];
    assert!(row.estimated && row.state != "settled" && row.state != "open", "{row:?}");
}

/// Agents work with their tools between two turns, and answer nothing meanwhile.
#[test]
fn a_silent_client_keeps_its_session() {
    let (_azure, gateway) = slow(0, |settings| settings.routing.stream_idle_timeout = Duration::from_millis(400));
    let mut session = open(&gateway);
    for _ in 0..8 {
        assert_eq!(session.hear(), Frame::Ping(Vec::new()), "its connection is kept alive");
    }
    session.close();
}
