//! A metric that is there and never moves is worse than none: each is made to move by what it counts.

use std::collections::BTreeMap;

use aoai_gateway::simulator::{Fault, Knobs};
use diesel::RunQueryDsl;
use serde_json::json;

use crate::support::answers::{QUESTION, STREAMED_QUESTION, answered};
use crate::support::client::post;
use crate::support::fake_azure::{FakeAzure, Gate, Reply, Script};
use crate::support::gateway::{TestGateway, eventually};
use crate::support::process::{ADMIN_KEY, Estate, Gateway};
use crate::support::sqlite;

type Figures = BTreeMap<String, f64>;

/// All series by name, labels left out: sums.
fn figures(text: &str) -> Figures {
    let mut figures = Figures::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let name = series.split('{').next().unwrap().trim_start_matches("aoai_gateway_");
        *figures.entry(name.to_owned()).or_default() += value.parse::<f64>().unwrap();
    }
    figures
}

fn of(gateway: &Gateway) -> Figures {
    figures(gateway.admin("/metrics").expect(200).text())
}

#[test]
fn counters_and_histograms_grow_with_what_they_count() {
    let estate = Estate::of(&["eastus2", "westus3"], &Knobs::default(), "[routing]\nmax_wait = \"0s\"\n");
    let mut gateway = estate.start();
    let before = of(&gateway);
    let poor = json!({ "name": "poor", "quota": { "period": "day", "tokens": 0 } }).to_string();
    let line = format!("authorization: Bearer {ADMIN_KEY}\r\n");
    let made = gateway.client().send(post("/admin/v1/keys", &line, poor.as_bytes())).answer().expect(201).json();
    for question in [QUESTION, STREAMED_QUESTION] {
        gateway.chat(&estate.key, question).expect(200);
    }
    gateway.chat(made["secret"].as_str().unwrap(), QUESTION).expect(429);
    for region in ["eastus2", "westus3"] {
        estate.control(region).inject(Fault::fail(500));
    }
    gateway.chat(&estate.key, QUESTION).expect(503);
    let after = eventually(|| match of(&gateway) {
        after if after["ledger_committed_total"] >= before["ledger_committed_total"] + 3.0 => Ok(after),
        _ => Err("not all is committed".to_owned()),
    });
    let grown =
        |name: &str| after.get(name).copied().unwrap_or_default() - before.get(name).copied().unwrap_or_default();
    // Two served, one refused, one failed; the failed one was tried at both.
    for (name, by) in [
        ("requests_total", 4.0),
        ("request_duration_seconds_count", 3.0),
        ("time_to_first_token_seconds_count", 1.0),
        ("upstream_attempts_total", 4.0),
        ("limit_rejections_total", 1.0),
        ("ledger_committed_total", 3.0),
    ] {
        assert_eq!(grown(name), by, "{name}");
    }
    for name in [
        "request_duration_seconds_sum",
        "time_to_first_token_seconds_sum",
        "overhead_seconds_count",
        "overhead_seconds_sum",
        "tokens_total",
        "cost_usd_total",
        "ledger_commit_seconds_count",
        "ledger_commit_seconds_sum",
        "process_cpu_seconds_total",
    ] {
        assert!(grown(name) > 0.0 || name.starts_with("process"), "{name} has not moved");
    }
    assert_eq!(after["build_info"], 1.0);
    assert!(after["process_resident_memory_bytes"] > 1e6);

    // What a reload says of itself.
    let last = after["settings_last_reload_success_timestamp_seconds"];
    estate.write("90-more.toml", "[routing]\nattempts = 3\n");
    gateway.says(|line| line["message"] == "settings in force");
    let reloaded = of(&gateway);
    assert!(reloaded["settings_last_reload_success_timestamp_seconds"] > last);
    assert_eq!(reloaded["settings_last_reload_successful"], 1.0);
    estate.write("90-more.toml", "[routing]\natempts = 3\n");
    gateway.says(|line| line["message"].as_str().is_some_and(|text| text.starts_with("settings refused")));
    assert_eq!(of(&gateway)["settings_last_reload_successful"], 0.0);
    gateway.signal("TERM");
    assert_eq!(gateway.ended().code, Some(0));
}

#[test]
fn gauges_show_what_is_so_at_the_moment() {
    let gate = Gate::default();
    let reply = |left: u32| {
        answered()
            .with_header("x-ratelimit-limit-tokens: 1000")
            .with_header(&format!("x-ratelimit-remaining-tokens: {left}"))
    };
    let azure = FakeAzure::start(Script::each({
        let gate = gate.clone();
        move |request| match request.index {
            0 => reply(900).after_gate(&gate),
            1 => reply(800),
            _ => Reply::json(429, "{}").with_header("retry-after: 30"),
        }
    }));
    let gateway = TestGateway::with(|estate| {
        let east = estate.azure("east", azure.address());
        east.deployments.values_mut().for_each(|deployment| deployment.max_in_flight = Some(1));
        estate.0.routing.max_wait = std::time::Duration::from_secs(20);
    });
    let now = |name: &str| figures(gateway.get("/metrics").text()).get(name).copied().unwrap_or_default();
    let state = |state: &str| {
        let line = format!("upstream_state{{deployment=\"mini-one\",resource=\"east\",state=\"{state}\"}} 1");
        gateway.get("/metrics").text().contains(&line)
    };
    let is = |name: &str, wanted: f64| {
        eventually(|| match now(name) {
            found if found == wanted => Ok(()),
            found => Err(format!("{name} is {found}, not {wanted}")),
        });
    };
    let names = ["inflight_requests", "waiting_requests", "ledger_pending", "upstream_cooldown_seconds"];
    assert_eq!(names.map(now), [0.0; 4]);
    let mut held = gateway.client();
    held.send(gateway.chat_request(QUESTION));
    azure.wait_for(|seen| seen.requests.len() == 1);
    let mut waiting = gateway.client();
    waiting.send(gateway.chat_request(QUESTION));
    is("waiting_requests", 1.0);
    is("inflight_requests", 2.0);
    assert!(now("ledger_pending") > 0.0, "its end is not written yet");
    gate.open();
    held.answer().expect(200);
    waiting.answer().expect(200);
    gateway.settle();
    assert_eq!(["inflight_requests", "waiting_requests", "ledger_pending"].map(now), [0.0; 3]);
    assert_eq!((now("upstream_tokens_limit"), now("upstream_tokens_remaining")), (1_000.0, 800.0));
    assert!(state("closed"));
    assert_eq!(now("ledger_committed_total"), gateway.all_rows().len() as f64, "what was let in is what is kept");
    gateway.chat(QUESTION).expect(429);
    eventually(|| if now("upstream_cooldown_seconds") > 20.0 { Ok(()) } else { Err("it does not cool".to_owned()) });
    // The worker that was refused has it cool at once; what state that is, its owner says.
    eventually(|| if state("cooling") { Ok(()) } else { Err("it is not said to cool".to_owned()) });
    assert!(!state("closed"));
    assert_eq!(now("upstream_tokens_limit"), 1_000.0);
}

#[test]
fn an_error_of_the_database_is_counted() {
    let azure = FakeAzure::start(Script::always(answered()));
    let gateway = TestGateway::before(azure.address());
    let errors = || figures(gateway.get("/metrics").text())["database_errors_total"];
    assert_eq!(errors(), 0.0);
    let mut database = sqlite::connect(&gateway.database());
    diesel::sql_query("ALTER TABLE audit RENAME TO elsewhere").execute(&mut database).unwrap();
    // Nobody but an admin asks for it.
    for count in 1..=3 {
        gateway.admin("GET", "/audit", "").expect(503);
        assert_eq!(errors(), f64::from(count));
    }
    diesel::sql_query("ALTER TABLE elsewhere RENAME TO audit").execute(&mut database).unwrap();
    gateway.chat(QUESTION).expect(200);
}
