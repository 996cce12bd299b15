//! `/metrics` after all kinds of traffic: what Prometheus' own tool says of it, the contract's names, bounded labels.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Command, Stdio};

use aoai_gateway::simulator::{Fault, FaultKind, Knobs};
use serde_json::json;

use crate::support::answers::{QUESTION, STREAMED_QUESTION};
use crate::support::client::{get, post};
use crate::support::process::{ADMIN_KEY, CHAT, EMBEDDINGS, Estate, Gateway};

const PREFIX: &str = "aoai_gateway_";

/// Name, type and labels, as far as they apply by now.
const CONTRACT: [(&str, &str, &[&str]); 25] = [
    ("requests_total", "counter", &["endpoint", "model", "code", "outcome"]),
    ("request_duration_seconds", "histogram", &["endpoint", "model", "stream"]),
    ("time_to_first_token_seconds", "histogram", &["model", "resource"]),
    ("overhead_seconds", "histogram", &[]),
    ("tokens_total", "counter", &["model", "resource", "type"]),
    ("cost_usd_total", "counter", &["model"]),
    ("inflight_requests", "gauge", &[]),
    ("open_websockets", "gauge", &["endpoint"]),
    ("upstream_attempts_total", "counter", &["resource", "deployment", "code", "reason"]),
    ("upstream_state", "gauge", &["resource", "deployment", "state"]),
    ("upstream_cooldown_seconds", "gauge", &["resource", "deployment"]),
    ("upstream_tokens_limit", "gauge", &["resource", "deployment"]),
    ("upstream_tokens_remaining", "gauge", &["resource", "deployment"]),
    ("upstream_cached_tokens_ratio", "gauge", &["model", "resource"]),
    ("upstream_cache_saved_usd_total", "counter", &["resource", "deployment"]),
    ("limit_rejections_total", "counter", &["limit"]),
    ("quota_alarms_total", "counter", &["percent"]),
    ("settings_last_reload_successful", "gauge", &[]),
    ("settings_last_reload_success_timestamp_seconds", "gauge", &[]),
    ("ledger_pending", "gauge", &[]),
    ("ledger_committed_total", "counter", &[]),
    ("ledger_commit_seconds", "histogram", &[]),
    ("database_errors_total", "counter", &[]),
    ("build_info", "gauge", &["version"]),
    ("process_resident_memory_bytes", "gauge", &[]),
];

/// Successes, streams, failures, refusals of every kind.
fn traffic(estate: &Estate, gateway: &Gateway) {
    let key = &estate.key;
    gateway.chat(key, QUESTION).expect(200);
    gateway.chat(key, STREAMED_QUESTION).expect(200);
    let bearer = format!("authorization: Bearer {key}\r\n");
    let embed = format!("{{\"model\":\"{EMBEDDINGS}\",\"input\":\"x\"}}");
    gateway.client().send(post("/v1/embeddings", &bearer, embed.as_bytes())).answer().expect(200);
    // Long enough to be cached, and asked twice.
    let long = QUESTION.replace("Name a colour.", &"Name a colour. ".repeat(500));
    for _ in 0..2 {
        gateway.chat(key, &long).expect(200);
    }
    let fault = Fault {
        kind: FaultKind::Fail { status: 500, body: aoai_gateway::simulator::FailBody::Json },
        deployment: None,
        lasting: None,
        count: Some(1),
        probability: 1.0,
    };
    estate.control("eastus2").inject(fault);
    for _ in 0..6 {
        gateway.chat(key, QUESTION).expect(200);
    }
    gateway.chat("sk-unknown", QUESTION).expect(401);
    gateway.chat(key, "{").expect(400);
    gateway.chat(key, "{\"model\":\"none\"}").expect(404);
    gateway.get("/v1/nothing", &bearer).expect(404);
    let limited = estate.run(&["keys", "add", "limited", "--rpm", "1", "--json"]);
    let limited: serde_json::Value = serde_json::from_slice(&limited.stdout).unwrap();
    let limited = limited["secret"].as_str().unwrap();
    crate::support::gateway::eventually(|| match gateway.chat(limited, QUESTION).status {
        429 => Ok(()),
        status => Err(format!("{status} and no limit")),
    });
    let made = json!({ "name": "poor", "quota": { "period": "day", "tokens": 0 } }).to_string();
    let admin = format!("authorization: Bearer {ADMIN_KEY}\r\n");
    let made = gateway.client().send(post("/admin/v1/keys", &admin, made.as_bytes())).answer().expect(201).json();
    gateway.chat(made["secret"].as_str().unwrap(), QUESTION).expect(429);
}

fn exposed(gateway: &Gateway) -> String {
    let answer = gateway.admin("/metrics").expect(200);
    assert!(answer.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    answer.text().to_owned()
}

/// A series without its value: name and labels.
fn series(text: &str) -> BTreeSet<String> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect()
}

/// Label names and values of one series.
fn labels(series: &str) -> BTreeMap<String, String> {
    let Some((_, labels)) = series.split_once('{') else { return BTreeMap::new() };
    let pairs = labels.trim_end_matches('}').split("\",").filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once("=\"").unwrap())
        .map(|(name, value)| (name.to_owned(), value.trim_end_matches('"').to_owned()))
        .collect()
}

fn promtool(text: &str) -> String {
    let mut process = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| {
            panic!("promtool cannot be run ({error}): tests/prepare installs it, on Debian with the package prometheus")
        });
    process.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = process.wait_with_output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "{said}");
    said
}

#[test]
fn promtool_has_nothing_to_say() {
    let estate = Estate::of(&["eastus2", "swedencentral"], &Knobs::default(), "");
    let gateway = estate.start();
    assert_eq!(promtool(&exposed(&gateway)), "", "before any traffic");
    traffic(&estate, &gateway);
    assert_eq!(promtool(&exposed(&gateway)), "");
    gateway.signal("TERM");
    assert_eq!(gateway.ended().code, Some(0));
}

/// An alarm on an increase sees nothing when a series begins with its first event.
#[test]
fn refusals_are_counted_from_zero() {
    let estate = Estate::of(&["eastus2"], &Knobs::default(), "");
    let gateway = estate.start();
    let text = exposed(&gateway);
    for limit in ["rpm", "concurrency", "tpm", "request_size", "quota_reserved", "quota_tokens", "quota_cost"] {
        let line = format!("{PREFIX}limit_rejections_total{{limit=\"{limit}\"}} 0\n");
        assert!(text.contains(&line), "no line {line:?}");
    }
}

#[test]
fn every_metric_of_the_contract_is_there_with_its_labels() {
    let estate = Estate::of(&["eastus2", "swedencentral"], &Knobs::default(), "");
    let gateway = estate.start();
    traffic(&estate, &gateway);
    let text = exposed(&gateway);
    for (name, kind, wanted) in CONTRACT {
        let name = if name.starts_with("process_") { name.to_owned() } else { format!("{PREFIX}{name}") };
        assert!(text.contains(&format!("# TYPE {name} {kind}\n")), "no {kind} {name} in {text}");
        assert!(text.contains(&format!("# HELP {name} ")), "{name}");
        let sample = if kind == "histogram" { format!("{name}_count") } else { name.clone() };
        let of = |line: &&String| line.split('{').next() == Some(&sample);
        let all = series(&text);
        let found: Vec<_> = all.iter().filter(of).collect();
        assert!(!found.is_empty(), "no sample of {sample}");
        for one in found {
            let names: BTreeSet<_> = labels(one).into_keys().collect();
            assert_eq!(names, wanted.iter().map(|label| (*label).to_owned()).collect(), "{one}");
        }
    }
    let counted = |labels: &str| gateway.metric(&format!("{PREFIX}{labels}"));
    let of = |code: &str, model: &str, outcome: &str| {
        format!(
            "requests_total{{code=\"{code}\",endpoint=\"chat.completions\",model=\"{model}\",outcome=\"{outcome}\"}}"
        )
    };
    assert!(counted(&of("200", CHAT, "ok")) >= 8.0);
    assert!(counted(&of("401", "", "refused")) >= 1.0);
    assert_eq!(counted(&of("400", "", "refused")), 1.0);
    assert_eq!(counted(&of("404", "", "refused")), 1.0, "its model's name is the client's own text");
    let rejected = |limit: &str| counted(&format!("limit_rejections_total{{limit=\"{limit}\"}}"));
    assert_eq!(counted(&of("429", "", "refused")), rejected("rpm") + rejected("quota_tokens"));
    assert_eq!(rejected("quota_tokens"), 1.0);
    assert_eq!(counted("quota_alarms_total{percent=\"100\"}"), 0.0, "nothing of it was ever there to be used");
    assert_eq!(counted("database_errors_total"), 0.0);
    // A cached token costs half of another.
    let tokens = |kind: &str| {
        let all =
            text.lines().filter(|line| line.starts_with(&format!("{PREFIX}tokens_total{{")) && line.contains(kind));
        all.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum::<f64>()
    };
    let saved = text.lines().filter(|line| line.starts_with(&format!("{PREFIX}upstream_cache_saved_usd_total{{")));
    let saved: f64 = saved.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum();
    let cached = tokens("type=\"cached_input\"");
    assert!(cached >= 1_024.0 && (saved - cached * 0.075e-6).abs() < 1e-9, "{saved} for {cached} tokens");
    assert_eq!(counted("inflight_requests"), 0.0);
    gateway.signal("TERM");
    assert_eq!(gateway.ended().code, Some(0));
}

#[test]
fn labels_hold_nothing_of_a_client_and_do_not_grow() {
    let estate = Estate::of(&["eastus2", "swedencentral"], &Knobs::default(), "");
    let gateway = estate.start();
    traffic(&estate, &gateway);
    let before = series(&exposed(&gateway));
    for n in 0..100 {
        let canary = format!("canary-{n}");
        let lines = format!(
            "authorization: Bearer {}\r\nx-request-id: {canary}\r\nuser-agent: {canary}\r\norigin: http://{canary}\r\n",
            estate.key
        );
        let body = format!("{{\"model\":\"gpt-4o-mini\",\"user\":\"{canary}\",\"messages\":[]}}");
        // What is refused before its body was read ends its connection.
        let ask = |request: &[u8]| gateway.client().send(request).answer();
        ask(&post(&format!("/v1/chat/completions?{canary}"), &lines, body.as_bytes()));
        ask(&post("/v1/chat/completions", &lines, body.replace("gpt-4o-mini", &canary).as_bytes())).expect(404);
        ask(&post(&format!("/v1/{canary}"), &lines, b"{}")).expect(404);
        ask(&get(&format!("/v1/models/{canary}"), &lines)).expect(404);
        let deployment = format!("/openai/deployments/{canary}/chat/completions?api-version=2024-10-21");
        ask(&post(&deployment, &lines, b"{}")).expect(404);
        ask(format!("CANARY{n} /v1/chat/completions HTTP/1.1\r\nhost: g\r\n\r\n").as_bytes()).expect(405);
        gateway.chat(&canary, QUESTION).expect(401);
    }
    let after = series(&exposed(&gateway));
    let new: Vec<_> = after.difference(&before).collect();
    // A refusal of the simulator's and a wrong method have codes of their own.
    assert!(new.len() < 20, "{} new series: {new:#?}", new.len());
    let models = ["", CHAT, EMBEDDINGS];
    for one in &after {
        for text in ["canary", &*estate.key, ADMIN_KEY, "key-of", "colour"] {
            assert!(!one.to_lowercase().contains(text), "{one}");
        }
        let labels = labels(one);
        assert!(labels.values().all(|value| value.len() < 40), "{one}");
        assert!(labels.get("model").is_none_or(|model| models.contains(&model.as_str())), "{one}");
    }
    gateway.signal("TERM");
    assert_eq!(gateway.ended().code, Some(0));
}
