//! Liveness, readiness, and the one line at `/`.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use aoai_gateway::simulator::Knobs;

use crate::support::answers::{QUESTION, answered};
use crate::support::client::{Answer, Client, get};
use crate::support::fake_azure::{FakeAzure, Reply, Script};
use crate::support::gateway::{TestGateway, eventually};
use crate::support::process::{ADMIN_KEY, Estate};

fn ready(gateway: &TestGateway) -> Answer {
    gateway.client().send(get("/readyz", "")).answer()
}

#[track_caller]
fn not_ready(gateway: &TestGateway, detail: &str) {
    let body = ready(gateway).expect(503).json();
    assert_eq!(body["status"], "not ready");
    assert!(body["detail"].as_str().unwrap().contains(detail), "{body}");
}

#[test]
fn the_front_door_says_one_line_and_heads_have_no_body() {
    let azure = FakeAzure::start(Script::always(answered()));
    let gateway = TestGateway::before(azure.address());
    let root = gateway.client().send(get("/", "")).answer().expect(200);
    assert!(root.text().starts_with("aoai-gateway ") && root.text().matches('\n').count() == 1, "{}", root.text());
    let health = gateway.client().send(get("/healthz", "")).answer().expect(200);
    assert_eq!(health.json()["status"], "ok");
    for path in ["/", "/healthz", "/readyz", "/metrics", "/v1/models"] {
        let mut client = gateway.client();
        let bearer = gateway.bearer();
        client.send(format!("HEAD {path} HTTP/1.1\r\nhost: g\r\n{bearer}\r\n"));
        let head = client.head();
        assert_eq!(head.status, 200, "{path}");
        let length: usize = head.header("content-length").unwrap().parse().unwrap();
        assert!(length > 0 && head.header("x-request-id").is_some(), "{path}");
        // What comes next is the next answer, not a body.
        assert_eq!(client.send(get("/healthz", "")).answer().expect(200).json()["status"], "ok");
    }
}

#[test]
fn without_a_region_it_lives_and_says_what_to_do() {
    let gateway = TestGateway::with(|_| ());
    gateway.client().send(get("/healthz", "")).answer().expect(200);
    not_ready(&gateway, "add a region file");
    assert_eq!(gateway.chat(QUESTION).status, 404);
    let listed = gateway.get("/v1/models").expect(200).json();
    assert_eq!(listed["data"].as_array().map(Vec::len), Some(0), "{listed}");
}

#[test]
fn while_every_deployment_cools_it_is_not_ready() {
    let busy = Reply::json(429, "{}").with_header("retry-after-ms: 1500");
    let azure = FakeAzure::start(Script::in_order(vec![busy, answered()]));
    let gateway = TestGateway::before(azure.address());
    assert_eq!(ready(&gateway).expect(200).json()["usable_deployments"], 1);
    let refused = gateway.chat(QUESTION).expect(429);
    assert_eq!(refused.code(), "upstream_exhausted");
    not_ready(&gateway, "no deployment is usable");
    gateway.client().send(get("/healthz", "")).answer().expect(200);
    eventually(|| match ready(&gateway).status {
        200 => Ok(()),
        status => Err(format!("{status} after the cooldown")),
    });
    gateway.chat(QUESTION).expect(200);
}

#[test]
fn while_it_drains_it_lives_and_is_not_ready() {
    let azure = FakeAzure::start(Script::always(answered()));
    let gateway = TestGateway::before(azure.address());
    gateway.house.condition.drain();
    not_ready(&gateway, "shutting down");
    gateway.client().send(get("/healthz", "")).answer().expect(200);
    gateway.chat(QUESTION).expect(200);
}

#[test]
fn the_admin_plane_and_metrics_may_have_a_port_of_their_own() {
    let estate = Estate::of(&["eastus2"], &Knobs::default(), "");
    let common = std::fs::read_to_string(estate.settings().join("00-common.toml")).unwrap();
    estate.write("00-common.toml", &common.replace("[admin]\n", "[admin]\nlisten = \"127.0.0.1:0\"\n"));
    let mut gateway = estate.start_with(|_| ());
    let line = gateway.says(|line| line["message"].as_str().is_some_and(|text| text.contains("the admin plane")));
    let admin: SocketAddr = line["address"].as_str().unwrap().parse().unwrap();
    assert!(admin.port() != gateway.address.port() && admin.ip() == Ipv4Addr::LOCALHOST);
    let bearer = format!("authorization: Bearer {ADMIN_KEY}\r\n");
    let there = |path: &str| Client::connect(admin).send(get(path, &bearer)).answer();
    for path in ["/metrics", "/admin/v1/keys"] {
        assert_eq!(gateway.get(path, &bearer).expect(404).code(), "unknown_path");
        there(path).expect(200);
    }
    for path in ["/", "/healthz", "/readyz"] {
        gateway.get(path, "").expect(200);
        there(path).expect(200);
    }
    there("/v1/models").expect(404);
    gateway.chat(&estate.key, QUESTION).expect(200);
    gateway.stop();
}

#[test]
fn an_unused_gateway_starts_and_stops_quickly() {
    let estate = Estate::of(&["eastus2"], &Knobs::default(), "");
    let gateway = estate.start();
    println!("ready after {:?}", gateway.ready);
    assert!(gateway.ready < Duration::from_secs(5));
    gateway.stop();
}
