//! The HTTP control plane, the command line that speaks to it, and resources that come and go.

use std::time::Duration;

use aoai_gateway::cli::simulate::{SimulateArgs, run as command};
use aoai_gateway::simulator::start;
use clap::Parser;
use serde_json::{Value, json};

use super::client::{Client, End};
use super::{ask, chat, dated, idle, resource, run, streamed};

#[actix_web::test]
async fn the_journal_is_read_and_emptied_over_http() {
    let simulator = run(resource("control")).await;
    let mut client = Client::to(&simulator);
    for _ in 0..3 {
        client.post(&dated("gpt-4o-mini", "chat/completions"), &chat("hi"));
    }
    let entries = client.get("/_simulator/journal?since=1").json();
    let sequences: Vec<u64> = entries.as_array().unwrap().iter().map(|e| e["sequence"].as_u64().unwrap()).collect();
    assert_eq!(sequences, [2, 3]);
    assert_eq!(entries[0]["completion_tokens"], 60);
    let sums = client.get("/_simulator/journal/sums").json();
    assert_eq!((&sums["gpt-4o-mini"]["charged"], &sums["gpt-4o-mini"]["prompt_tokens"]), (&json!(3), &json!(24)));
    client.method("DELETE", "/_simulator/journal");
    assert_eq!(client.get("/_simulator/journal").json(), json!([]));
    assert_eq!(client.get("/_simulator/journal?since=x").status(), 400);
    let state = client.get("/_simulator").json();
    assert_eq!(
        (&state["name"], &state["requests_seen"], &state["requests_in_flight"]),
        (&json!("control"), &json!(3), &json!(0))
    );
    assert_eq!(state["deployments"][0]["name"], "gpt-35-turbo-instruct");
}

#[actix_web::test]
async fn faults_and_knobs_are_set_over_http() {
    let simulator = run(resource("control")).await;
    let mut client = Client::to(&simulator);
    let mut fault = |body: Value| client.post("/_simulator/faults", &body);
    let answer = fault(json!({"kind": "throttle", "for": "30s", "cause": "capacity"}));
    assert_eq!((answer.status(), &answer.json()["id"]), (201, &json!(1)));
    assert_eq!(ask(&simulator, &chat("hi")).status(), 429);
    assert_eq!(fault(json!({"kind": "heal"})).status(), 200);
    fault(json!({"kind": "cut", "after_chunks": 3, "ending": "clean", "count": 1}));
    assert_eq!(ask(&simulator, &streamed("hi")).events().len(), 3);
    assert_eq!(ask(&simulator, &streamed("hi")).end, End::Whole);
    for (body, said) in [
        (json!({"kind": "explode"}), "not 'explode'"),
        (json!({"kind": "fail", "stauts": 500}), "unknown field `stauts`"),
        (json!({"kind": "fail", "for": "soon"}), "for takes a duration"),
        (json!({"kind": "fail", "status": 99}), "200 to 599"),
    ] {
        let answer = fault(body);
        assert_eq!(answer.status(), 400);
        assert!(answer.text().contains(said), "{}", answer.text());
    }
    fault(json!({"kind": "shrink", "factor": 0.5}));
    let listed = client.get("/_simulator/faults").json();
    assert_eq!(
        (listed.as_array().unwrap().len(), &listed[0]["kind"], &listed[0]["factor"]),
        (1, &json!("shrink"), &json!(0.5))
    );
    assert_eq!(client.method("DELETE", "/_simulator/faults/99").status(), 404);
    client.method("DELETE", "/_simulator/faults");
    assert_eq!(client.get("/_simulator/faults").json(), json!([]));

    let body = json!({"output_tokens": 5}).to_string();
    client.write(&format!("PATCH /_simulator/knobs HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    assert_eq!(client.read().json()["output_tokens"], 5);
    assert_eq!(ask(&simulator, &chat("hi")).usage()["completion_tokens"], 5);
    let body = json!({"output_token": 5}).to_string();
    client.write(&format!("PATCH /_simulator/knobs HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    assert_eq!(client.read().status(), 400);
    assert!(client.get("/_simulator/nothing").text().contains("GET /_simulator/journal/sums"));
}

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: SimulateArgs,
}

#[actix_web::test]
async fn the_verbs_of_the_command_line_break_and_heal() {
    let simulator = run(resource("control")).await;
    let url = simulator.url();
    let verb = |line: &str| {
        let words = std::iter::once("simulate").chain(line.split(' '));
        format!("{:?}", command(Line::try_parse_from(words).unwrap().args))
    };
    let success = format!("{:?}", std::process::ExitCode::SUCCESS);
    assert_eq!(verb(&format!("fail {url} --status 503 --body html")), success);
    assert_eq!(ask(&simulator, &chat("hi")).header("content-type"), Some("text/html"));
    assert_eq!(verb(&format!("heal {url}")), success);
    assert_eq!(verb(&format!("cut {url}/ --after-bytes 10 --count 1")), success);
    assert_eq!(ask(&simulator, &chat("hi")).body.len(), 10);
    assert_eq!(verb(&format!("slow {url} --ttft-ms 150 --token-ms 1 --count 1")), success);
    let began = std::time::Instant::now();
    assert_eq!(ask(&simulator, &chat("hi")).status(), 200);
    assert!(began.elapsed() >= Duration::from_millis(210), "150 ms to the first byte and 60 tokens");
    assert_eq!(verb(&format!("throttle {url} --for 1m30s --deployment gpt-4o-mini")), success);
    assert_eq!(ask(&simulator, &chat("hi")).number("retry-after"), 90);
    simulator.stop().await;
    assert_ne!(verb(&format!("heal {url}")), success);
}

#[actix_web::test]
async fn two_resources_in_one_process_know_nothing_of_each_other() {
    let (one, two) = (run(resource("one")).await, run(resource("two")).await);
    one.control().inject(aoai_gateway::simulator::Fault::fail(500));
    assert_eq!((ask(&one, &chat("hi")).status(), ask(&two, &chat("hi")).status()), (500, 200));
    idle(&one).await;
    idle(&two).await;
    assert_eq!((one.control().journal().len(), two.control().journal()[0].charged), (1, true));
}

#[actix_web::test]
async fn a_stopped_resource_is_gone_and_can_come_back_at_its_address() {
    let simulator = run(resource("control")).await;
    let (addr, control) = (simulator.addr(), simulator.control());
    control.inject(aoai_gateway::simulator::Fault::new(aoai_gateway::simulator::FaultKind::Hang));
    let mut hanging = Client::to(&simulator);
    hanging.send(&dated("gpt-4o-mini", "chat/completions"), &[], &chat("hi"));
    while control.in_flight() == 0 {
        std::thread::yield_now();
    }
    tokio::time::timeout(Duration::from_secs(10), simulator.stop()).await.expect("it stops");
    assert_ne!(hanging.read().end, End::Whole);
    assert!(std::net::TcpStream::connect(addr).is_err());
    assert_eq!((control.in_flight(), control.journal()[0].finished), (0, true));
    let again = start(addr, resource("control")).await.unwrap();
    assert_eq!(ask(&again, &chat("hi")).status(), 200);
    assert!(start(addr, resource("control")).await.is_err(), "the address is taken");
}

#[actix_web::test]
async fn requests_come_chunked_pipelined_and_with_expectations() {
    let simulator = run(resource("control")).await;
    let mut client = Client::to(&simulator);
    let (target, body) = (dated("gpt-4o-mini", "chat/completions"), chat("hi").to_string());
    let key = super::KEY;
    let (first, rest) = body.split_at(7);
    client.write(&format!(
        "POST {target} HTTP/1.1\r\napi-key: {key}\r\nTransfer-Encoding: chunked\r\n\r\n7\r\n{first}\r\n{:x}\r\n{rest}\r\n0\r\n\r\n",
        rest.len()
    ));
    assert_eq!(client.read().status(), 200);
    client.send(&target, &[], &streamed("one"));
    client.send(&target, &[], &chat("two"));
    assert_eq!((client.read().events().len(), client.read().status()), (65, 200));
    client.write(&format!(
        "POST {target} HTTP/1.1\r\napi-key: {key}\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        body.len()
    ));
    client.read_some(25);
    client.write(&body);
    let interim = client.read_head();
    assert_eq!(interim, "HTTP/1.1 100 Continue");
    assert_eq!(client.read().status(), 200);
}
