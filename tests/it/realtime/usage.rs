//! What sessions cost: each response one row, exact where Azure said so, estimated where it could not.

use aoai_gateway::domain::ids::ModelName;
use aoai_gateway::domain::money::Price;
use aoai_gateway::settings::model::Model;

use super::*;
use crate::support::gateway::eventually;
use crate::support::websocket::{Frame, masked};

#[test]
fn every_response_is_a_row_of_its_own_before_its_client_knows() {
    let (azure, gateway) = world(|_| {});
    let mut session =
        try_open(&gateway, PATH, &format!("{}x-request-id: my-session\r\n", gateway.bearer())).ok().unwrap();
    let mut cached_audio = 0;
    for turn in 1..=3 {
        session.say(&item("What is the weather like, and why?")).say(&create());
        let events = session.until("response.done");
        let done = &events.last().unwrap()["response"]["usage"];
        let rows = turns(&gateway);
        assert_eq!(rows.len(), turn, "the row was there before the event");
        let row = &rows[turn - 1];
        assert_eq!((row.state.as_str(), row.status, row.estimated), ("settled", Some(200), false));
        assert_eq!((row.request_id.as_str(), row.model.as_str()), ("my-session", MODEL));
        let figures = [row.input_tokens, row.cached_input_tokens, row.output_tokens];
        let told = [&done["input_tokens"], &done["input_token_details"]["cached_tokens"], &done["output_tokens"]];
        assert_eq!(figures.map(Value::from).iter().collect::<Vec<_>>(), told);
        let tokens = |place: &str| done.pointer(place).and_then(Value::as_i64).unwrap();
        // What was heard and comes from the cache is one of the cached tokens, and of no other kind.
        cached_audio += tokens("/input_token_details/cached_tokens_details/audio_tokens");
        let heard = tokens("/input_token_details/audio_tokens")
            - tokens("/input_token_details/cached_tokens_details/audio_tokens");
        let said = tokens("/output_token_details/audio_tokens");
        assert_eq!((row.audio_input_tokens, row.audio_output_tokens), (heard, said));
        assert!(row.audio_output_tokens > 0, "{row:?}");
        assert_eq!(row.attempts[0].charged.as_deref(), Some("exact"));
        assert_eq!(row.attempts[0].upstream_id.as_deref(), events.last().unwrap()["response"]["id"].as_str());
        assert!(row.ttfb_ms.is_some());
        let audio = |event: &&Value| event["type"] == "response.output_audio.delta";
        assert_eq!(events.iter().filter(audio).count(), 6);
        assert!(events.iter().any(|event| event["delta"].as_str().is_some_and(|delta| delta.len() == 25_600)));
    }
    assert!(cached_audio > 0);
    session.close();
    gateway.settle();
    assert_eq!(booked(&turns(&gateway)), charged(&azure.control()));
    let row = session_row(&gateway);
    let figures = (row.state.as_str(), row.status, row.input_tokens + row.output_tokens, row.request_id.as_str());
    assert_eq!(figures, ("settled", Some(101), 0, "my-session"));
}

#[test]
fn what_it_costs_follows_from_the_price() {
    let (_azure, gateway) = world(|estate| {
        // Picodollars a token: 4 and 16 dollars a million.
        let price = Price { input: 4_000_000, output: 16_000_000, audio_output: Some(64_000_000), ..Price::default() };
        estate.0.models.insert(ModelName::from(MODEL), Model { price, ..Model::default() });
    });
    let mut session = open(&gateway);
    session.say(&item("Hello!")).say(&create()).wait_for("response.done");
    session.close();
    let row = &turns(&gateway)[0];
    let (said, written) = (row.audio_output_tokens, row.output_tokens - row.audio_output_tokens);
    assert!(said > 0 && written > 0, "{row:?}");
    let expected = (row.input_tokens as f64 * 4.0 + written as f64 * 16.0 + said as f64 * 64.0) / 1e6;
    assert!((row.cost_usd - expected).abs() < 1e-9 && row.cost_usd > 0.0, "{row:?}");
}

#[test]
fn an_upstream_that_answers_speech_by_itself_is_booked_alike() {
    let (azure, gateway) = world(|_| {});
    let mut session = open(&gateway);
    let audio = |letter: &str| json!({"type": "input_audio_buffer.append", "audio": letter.repeat(32_000)});
    session.say(&audio("w")).say(&audio("w")).say(&audio("A"));
    session.wait_for("response.done");
    session.close();
    gateway.settle();
    let rows = turns(&gateway);
    assert_eq!((rows.len(), booked(&rows)), (1, charged(&azure.control())));
    assert_eq!(rows[0].input_tokens, 15, "96,000 letters are a second and a half");
}

#[test]
fn an_interrupted_response_costs_what_was_said() {
    let (azure, gateway) = world(|_| {});
    pace(&azure, 20, 600);
    let mut session = open(&gateway);
    session.say(&create()).wait_for("response.output_audio.delta");
    session.say(&json!({"type": "response.cancel"}));
    assert_eq!(session.wait_for("response.done")["response"]["status"], "cancelled");
    session.close();
    gateway.settle();
    let rows = turns(&gateway);
    assert_eq!((rows.len(), booked(&rows)), (1, charged(&azure.control())));
    assert!(rows[0].output_tokens < 600 && !rows[0].estimated);
}

#[test]
fn a_wish_that_was_refused_costs_nothing_and_the_next_one_counts_once() {
    let (azure, gateway) = world(|_| {});
    pace(&azure, 5, 100);
    let mut session = open(&gateway);
    session.say(&create()).wait_for("response.created");
    session.say(&json!({"type": "response.create", "event_id": "too-soon"}));
    assert_eq!(session.wait_for("error")["error"]["event_id"], "too-soon");
    session.wait_for("response.done");
    session.say(&create()).wait_for("response.done");
    session.close();
    gateway.settle();
    assert_eq!((turns(&gateway).len(), booked(&turns(&gateway))), (2, charged(&azure.control())));
}

/// Wherever a client is cut off, each response is one row, and an estimate says so.
#[test]
fn a_client_cut_at_any_moment_is_booked_once() {
    let (azure, gateway) = world(|_| {});
    pace(&azure, 2, 100);
    let moments = ["session.created", "response.created", "response.output_audio.delta", "response.done"];
    for (round, moment) in moments.iter().enumerate() {
        for leaves in [WebSocket::leave as fn(WebSocket), WebSocket::reset] {
            let before = turns(&gateway).len();
            let mut session = try_open(&gateway, PATH, &gateway.bearer()).ok().unwrap();
            if round > 0 {
                session.wait_for("session.created");
                session.say(&create());
            }
            session.wait_for(moment);
            leaves(session);
            eventually(|| match azure.control().sessions() {
                0 => Ok(()),
                left => Err(format!("{left} upstream sessions are still open")),
            });
            gateway.settle();
            let rows = turns(&gateway);
            assert_eq!(rows.len() - before, usize::from(round > 0), "{moment}");
            if let Some(row) = rows.last().filter(|_| round > 0) {
                let ended = if *moment == "response.done" { ("settled", false) } else { ("cancelled", true) };
                assert_eq!((row.state.as_str(), row.estimated), ended, "{moment}");
            }
        }
    }
}

/// Where nobody says what was said, it is counted: half a second in each audio event, a word in each five letters.
#[test]
fn an_estimate_is_close_to_what_was_generated() {
    let (azure, gateway) = world(|_| {});
    pace(&azure, 10, 1_000);
    let mut session = open(&gateway);
    session.say(&create());
    for _ in 0..10 {
        session.wait_for("response.output_audio_transcript.delta");
    }
    session.leave();
    gateway.settle();
    crate::support::gateway::wait(azure.control().idle());
    let row = &turns(&gateway)[0];
    let generated = i64::try_from(charged(&azure.control()).1).unwrap();
    assert!(row.estimated && row.state == "cancelled", "{row:?}");
    // Ten tokens an event; one or two may have been on their way.
    assert!((row.output_tokens - generated).abs() <= generated / 3 + 20, "{} of {generated}", row.output_tokens);
    assert!(row.output_tokens >= 100, "{row:?}");
}

#[test]
fn text_in_fragments_is_one_message() {
    let (azure, gateway) = world(|_| {});
    let mut session = open(&gateway);
    let event = create().to_string();
    let (first, second) = event.as_bytes().split_at(9);
    session.write(&[masked(0x01, first), masked(0x89, b"!"), masked(0x80, second)].concat());
    let is_pong = |frame: &Frame| *frame == Frame::Pong(b"!".to_vec());
    while !is_pong(&session.hear()) {}
    session.wait_for("response.done");
    session.close();
    gateway.settle();
    assert_eq!(booked(&turns(&gateway)), charged(&azure.control()));
}
