//! Who is asked, how often, how long someone is left alone, and what the client is told when nobody can serve.

use std::time::{Duration, Instant};

use aoai_gateway::domain::ids::ResourceName;

use crate::support::answers::{ANSWER, QUESTION, STREAMED_QUESTION, answered};
use crate::support::client::Answer;
use crate::support::fake_azure::{Cut, FakeAzure, Gate, Reply, Script};
use crate::support::gateway::{MODEL, TestGateway, eventually};

fn start(replies: &[Reply]) -> Vec<FakeAzure> {
    replies.iter().map(|reply| FakeAzure::start(Script::always(reply.clone()))).collect()
}

/// Resources `r0`, `r1`, …, each in a tier of its own.
fn in_tiers(azures: &[FakeAzure]) -> TestGateway {
    TestGateway::with(|estate| {
        for (index, azure) in azures.iter().enumerate() {
            estate.tier(index as u32, &format!("r{index}"), azure.address());
        }
    })
}

fn throttled(milliseconds: u32) -> Reply {
    Reply::json(429, "{}").with_header(&format!("retry-after-ms: {milliseconds}"))
}

fn failing() -> Reply {
    Reply::json(500, "{}")
}

fn counts(azures: &[FakeAzure]) -> Vec<usize> {
    azures.iter().map(|azure| azure.requests().len()).collect()
}

#[track_caller]
fn refused(answer: Answer, status: u16, code: &str) -> Answer {
    let answer = answer.expect(status);
    assert_eq!(answer.code(), code);
    let kind = if status == 429 { "requests" } else { "server_error" };
    assert_eq!(answer.json()["error"]["type"], kind);
    answer
}

fn wait_ms(answer: &Answer) -> u64 {
    answer.header("retry-after-ms").unwrap().parse().unwrap()
}

#[test]
fn a_backends_401_403_and_404_never_reach_the_client_and_quarantine_it() {
    for status in [401, 403, 404] {
        let body = r#"{"error":{"code":"DeploymentNotFound","message":"no such thing"}}"#;
        let azures = start(&[Reply::json(status, body), answered()]);
        let gateway = in_tiers(&azures);
        for question in [QUESTION, QUESTION, QUESTION] {
            assert_eq!(gateway.chat(question).expect(200).text(), ANSWER);
            gateway.settle();
        }
        assert_eq!(counts(&azures), [1, 3], "quarantined after the first {status}");
        let metrics = gateway.get("/metrics").expect(200);
        let line = "aoai_gateway_upstream_state{deployment=\"mini-one\",resource=\"r0\",state=\"quarantined\"} 1";
        assert!(metrics.text().contains(line), "{}", metrics.text());
        drop(gateway);

        let azures = start(&[Reply::json(status, body)]);
        let gateway = in_tiers(&azures);
        for question in [QUESTION, STREAMED_QUESTION] {
            let answer = refused(gateway.chat(question), 503, "upstream_unavailable");
            assert!(!answer.text().contains("no such thing"));
            assert!((1..=60_000).contains(&wait_ms(&answer)));
            gateway.settle();
        }
        assert_eq!(counts(&azures), [1]);
    }
}

#[test]
fn each_form_of_a_429s_time_is_believed() {
    let said = |line: &str, body: &str| match line {
        "" => Reply::json(429, body),
        line => Reply::json(429, body).with_header(line),
    };
    let sentence = r#"{"error":{"code":"429","message":"Rate limit. Please retry after 9 seconds."}}"#;
    for (reply, milliseconds) in [
        (said("retry-after-ms: 2500", "{}"), 2_500),
        (said("retry-after: 4", "{}"), 4_000),
        (said("retry-after: 0.5", "{}"), 500),
        (said("retry-after: 30", "{}").with_header("retry-after-ms: 1500"), 1_500),
        (said("", sentence), 9_000),
        (said("", "{}"), 10_000),
        (said("retry-after: Wed, 21 Oct 2015 07:28:00 GMT", "{}"), 10_000),
        (said("retry-after: 86400", "{}"), 120_000),
    ] {
        let azures = start(&[reply]);
        let gateway = in_tiers(&azures);
        let answer = refused(gateway.chat(QUESTION), 429, "upstream_exhausted");
        let (told, seconds) = (wait_ms(&answer), answer.header("retry-after").unwrap().to_owned());
        // A pause is lengthened by up to a twentieth, at most a quarter of a second: gateways come back one by one.
        let longest = milliseconds + (milliseconds / 20).min(250);
        assert!(told <= longest && told + 400 >= milliseconds, "told {told}, Azure said {milliseconds}");
        assert_eq!(seconds, told.div_ceil(1000).to_string());
        gateway.settle();
        let row = gateway.row();
        assert_eq!((row.state.as_str(), row.status), ("failed", Some(429)));
        assert_eq!(row.attempts[0].charged.as_deref(), Some("none"));
    }
}

#[test]
fn when_all_are_throttled_the_soonest_counts() {
    let azures = start(&[throttled(8_000), throttled(3_000), throttled(60_000)]);
    let gateway = in_tiers(&azures);
    for _ in 0..3 {
        let answer = refused(gateway.chat(QUESTION), 429, "upstream_exhausted");
        let told = wait_ms(&answer);
        assert!((2_000..=3_150).contains(&told), "{told}");
        gateway.settle();
    }
    assert_eq!(counts(&azures), [1, 1, 1], "nobody is asked inside its cooldown");
}

#[test]
fn one_throttled_and_one_broken_is_a_429_and_only_broken_ones_a_503() {
    let azures = start(&[throttled(2_000), failing()]);
    let gateway = in_tiers(&azures);
    refused(gateway.chat(QUESTION), 429, "upstream_exhausted");
    drop(gateway);
    let azures = start(&[failing(), Reply::json(503, "{}")]);
    let gateway = in_tiers(&azures);
    let answer = refused(gateway.chat(STREAMED_QUESTION), 503, "upstream_unavailable");
    assert!(wait_ms(&answer) >= 1);
    gateway.settle();
    assert_eq!(gateway.row().state, "failed");
}

#[test]
fn only_nonsense_is_a_502() {
    let azures = start(&[Reply::json(302, ""), Reply::end(Cut::Fin), Reply::raw("garbage\r\n\r\n").then_end(Cut::Fin)]);
    let gateway = in_tiers(&azures);
    let answer = refused(gateway.chat(QUESTION), 502, "upstream_invalid_response");
    assert_eq!((answer.header("x-should-retry"), wait_ms(&answer)), (Some("true"), 1_000));
    gateway.settle();
    assert_eq!(gateway.row().attempts.len(), 3);
}

#[test]
fn at_most_so_many_attempts() {
    let azures = start(&[failing(), failing(), failing(), failing(), failing(), answered()]);
    let gateway = in_tiers(&azures);
    refused(gateway.chat(QUESTION), 503, "upstream_unavailable");
    assert_eq!(counts(&azures), [1, 1, 1, 1, 0, 0], "four by default");
}

#[test]
fn deployments_that_are_full_use_up_no_attempts_and_each_is_asked_once() {
    let busy = throttled(60_000);
    let azures = start(&[busy.clone(), busy.clone(), busy.clone(), busy.clone(), busy, answered()]);
    let gateway = in_tiers(&azures);
    assert_eq!(gateway.chat(QUESTION).expect(200).text(), ANSWER);
    assert_eq!(counts(&azures), [1, 1, 1, 1, 1, 1], "five that are full, and four attempts by default");
    gateway.chat(QUESTION).expect(200);
    assert_eq!(counts(&azures), [1, 1, 1, 1, 1, 2]);
    drop(gateway);

    let azures = start(&[throttled(60_000), failing(), failing(), failing(), failing(), answered()]);
    let gateway = in_tiers(&azures);
    refused(gateway.chat(QUESTION), 429, "upstream_exhausted");
    assert_eq!(counts(&azures), [1, 1, 1, 1, 1, 0], "failures count");
}

#[test]
fn who_has_waited_for_a_full_deployment_does_not_try_for_ever() {
    let azures = start(&[throttled(200)]);
    let gateway = TestGateway::with(|estate| {
        estate.tier(0, "r0", azures[0].address());
        estate.0.routing.max_wait = Duration::from_secs(40);
    });
    refused(gateway.chat(QUESTION), 429, "upstream_exhausted");
    assert_eq!(counts(&azures), [5], "once at first, and four attempts after a wait");
}

#[test]
fn no_attempt_begins_after_the_deadline() {
    let slow = failing().after(Duration::from_millis(300));
    let azures = start(&[slow, answered()]);
    let gateway = TestGateway::with(|estate| {
        estate.tier(0, "r0", azures[0].address());
        estate.tier(1, "r1", azures[1].address());
        estate.0.routing.deadline_to_headers = Duration::from_millis(200);
    });
    refused(gateway.chat(QUESTION), 503, "upstream_unavailable");
    assert_eq!(counts(&azures), [1, 0]);
}

#[test]
fn the_next_tier_is_used_when_the_first_is_full() {
    let gate = Gate::default();
    let azures = start(&[answered().after_gate(&gate), answered()]);
    let gateway = TestGateway::with(|estate| {
        let first = estate.tier(0, "r0", azures[0].address());
        first.deployments.values_mut().for_each(|deployment| deployment.max_in_flight = Some(1));
        estate.tier(1, "r1", azures[1].address());
    });
    let mut held = gateway.client();
    held.send(gateway.chat_request(QUESTION));
    azures[0].wait_for(|seen| seen.requests.len() == 1);
    for _ in 0..3 {
        gateway.chat(QUESTION).expect(200);
    }
    assert_eq!(counts(&azures), [1, 3]);
    gate.open();
    held.answer().expect(200);
    gateway.settle();
    gateway.chat(QUESTION).expect(200);
    assert_eq!(counts(&azures), [2, 3], "the first tier comes first again");
}

#[test]
fn a_full_pool_is_busy_not_down() {
    let gate = Gate::default();
    let azures = start(&[answered().after_gate(&gate)]);
    let gateway = TestGateway::with(|estate| {
        let only = estate.azure("r0", azures[0].address());
        only.deployments.values_mut().for_each(|deployment| deployment.max_in_flight = Some(1));
    });
    let mut held = gateway.client();
    held.send(gateway.chat_request(QUESTION));
    azures[0].wait_for(|seen| seen.requests.len() == 1);
    refused(gateway.chat(QUESTION), 429, "upstream_exhausted");
    gate.open();
    held.answer().expect(200);
}

/// Of the one resource `r0`: how long it is left alone.
fn pause(gateway: &TestGateway) -> Duration {
    let table = gateway.table();
    let deployment = table.model(MODEL).unwrap().deployments().next().unwrap().clone();
    assert_eq!(deployment.resource, ResourceName::from("r0"));
    deployment.gauges.ready_at().since(aoai_gateway::domain::time::now())
}

#[test]
fn a_cooldown_is_kept_and_one_probe_at_a_time_ends_it() {
    let gate = Gate::default();
    let azure = FakeAzure::start(Script::each({
        let gate = gate.clone();
        move |request| match request.index {
            0 => throttled(300),
            1 => answered().after_gate(&gate),
            _ => answered(),
        }
    }));
    let gateway = TestGateway::with(|estate| estate.azure("r0", azure.address()).weight);
    refused(gateway.chat(QUESTION), 429, "upstream_exhausted");
    let began = Instant::now();
    gateway.settle();
    // Many ask inside the cooldown, none gets through.
    while began.elapsed() < Duration::from_millis(200) {
        refused(gateway.chat(QUESTION), 429, "upstream_exhausted");
    }
    assert_eq!(azure.requests().len(), 1);
    eventually(|| match pause(&gateway) {
        Duration::ZERO => Ok(()),
        left => Err(format!("{left:?} left of 300 ms")),
    });
    // Afterwards one is let through, and until it is answered no other.
    let mut probe = gateway.client();
    probe.send(gateway.chat_request(QUESTION));
    azure.wait_for(|seen| seen.requests.len() == 2);
    for _ in 0..5 {
        refused(gateway.chat(QUESTION), 429, "upstream_exhausted");
    }
    assert_eq!(azure.requests().len(), 2);
    gate.open();
    probe.answer().expect(200);
    gateway.settle();
    // Closed again: several at once.
    eventually(|| match gateway.chat(QUESTION).status {
        200 => Ok(()),
        status => Err(format!("still {status} after a served probe")),
    });
}

#[test]
fn three_faults_in_a_row_open_the_breaker_and_a_served_probe_closes_it() {
    let azure = FakeAzure::start(Script::each(|request| if request.index < 3 { failing() } else { answered() }));
    let gateway = TestGateway::with(|estate| {
        estate.azure("r0", azure.address());
        estate.0.routing.cooldown = Duration::from_millis(200);
    });
    for _ in 0..3 {
        refused(gateway.chat(QUESTION), 503, "upstream_unavailable");
    }
    eventually(|| if pause(&gateway) > Duration::ZERO { Ok(()) } else { Err("the breaker is closed".to_owned()) });
    let answer = eventually(|| match gateway.chat(QUESTION) {
        answer if answer.status == 200 => Ok(answer),
        answer => Err(format!("still {}", answer.status)),
    });
    assert_eq!(answer.text(), ANSWER);
    assert_eq!(azure.requests().len(), 4, "while it was open, nothing was sent");
    gateway.chat(QUESTION).expect(200);
}

#[test]
fn a_suspicious_request_spoils_no_ones_health() {
    let azures = start(&[failing(), failing(), failing()]);
    let gateway = in_tiers(&azures);
    refused(gateway.chat(QUESTION), 503, "upstream_unavailable");
    gateway.settle();
    let table = gateway.table();
    let faults = || -> Vec<u32> {
        table.model(MODEL).unwrap().deployments().map(|deployment| deployment.gauges.consecutive_faults()).collect()
    };
    // The third deployment saw a request that had failed twice before, in the same way.
    eventually(|| if faults() == [1, 1, 0] { Ok(()) } else { Err(format!("faults: {:?}", faults())) });
    assert_eq!(counts(&azures), [1, 1, 1]);
}

#[test]
fn weights_share_a_tier() {
    let azures = start(&[answered(), answered()]);
    let gateway = TestGateway::with(|estate| {
        estate.azure("r0", azures[0].address()).weight = 300;
        estate.azure("r1", azures[1].address()).weight = 100;
    });
    let mut client = gateway.client();
    for _ in 0..200 {
        client.send(gateway.chat_request(QUESTION)).answer().expect(200);
    }
    let shares = counts(&azures);
    assert_eq!(shares.iter().sum::<usize>(), 200);
    // How much depends on how quickly each happened to answer; the shares by weight are a test of `balance::select`.
    assert!(shares.iter().all(|share| *share >= 2), "both take part: {shares:?}");
}

const FILTERED: &str = "data: {\"error\":{\"message\":\"The response was filtered.\",\"type\":null,\"param\":\"prompt\",\
                        \"code\":\"content_filter\",\"status\":400}}\n\n";

#[test]
fn a_filtered_prompt_is_the_clients_own_also_inside_a_stream() {
    let word = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Teal\"}}]}\n\n";
    for events in [&[FILTERED][..], &[FILTERED, "data: [DONE]\n\n"], &[word, FILTERED]] {
        let azures = start(&[Reply::sse(events), answered()]);
        let gateway = in_tiers(&azures);
        for _ in 0..4 {
            let answer = gateway.chat(STREAMED_QUESTION).expect(200);
            let sent: String = events.iter().filter(|event| !event.contains("[DONE]")).copied().collect();
            let sent = sent.replace("\"type\":null", "\"type\":\"invalid_request_error\"");
            assert_eq!(answer.text(), sent, "and a proper end");
            gateway.settle();
        }
        assert_eq!(counts(&azures), [4, 0], "nobody else would answer it, and nobody is to blame");
        let rows = gateway.rows();
        assert!(rows.iter().all(|row| row.state == "settled" && row.attempts.len() == 1), "{rows:?}");
        assert!(rows[0].input_tokens > 0, "Azure has read the prompt, and bills it");
    }
}
