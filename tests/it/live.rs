//! A gateway in operation, the real binary: its settings change, it is stopped, commands work beside it.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use aoai_gateway::simulator::Knobs;
use serde_json::Value;

use crate::support::answers::{QUESTION, STREAMED_QUESTION, answered};
use crate::support::client::{BodyEnd, find, post};
use crate::support::fake_azure::{FakeAzure, Script};
use crate::support::gateway::eventually_within;
use crate::support::process::{CHAT, Estate, Gateway, file_of, key_of};

/// The contract says 2 s for a region and 1 s for a key; a busy machine is not to fail the test.
const SOON: Duration = Duration::from_secs(5);
/// `file:` secrets outside the directory send no events: they are looked at every 5 s.
const AT_THE_NEXT_LOOK: Duration = Duration::from_secs(15);

/// Streams that take about two seconds.
fn unhurried() -> Knobs {
    Knobs { ttft_ms: 5, token_ms: 20, output_tokens: 100, ..Knobs::default() }
}

/// A region in a tier of its own.
fn tier(estate: &Estate, name: &str, priority: u32) {
    let head = format!("[resources.{name}]\n");
    estate.write(&file_of(name), &estate.region(name).replace(&head, &format!("{head}priority = {priority}\n")));
}

/// Asks until it is so; every answer on the way must be a good one.
#[track_caller]
fn asking(gateway: &Gateway, key: &str, within: Duration, what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    eventually_within(within, || {
        gateway.chat(key, QUESTION).expect(200);
        if is_so() { Ok(()) } else { Err(format!("{what}: not yet")) }
    });
    println!("{what}: after {:?}", began.elapsed());
}

#[test]
fn a_new_region_takes_traffic_without_a_restart() {
    let mut estate = Estate::of(&["eastus2"], &Knobs::default(), "");
    estate.build("swedencentral", &Knobs::default());
    let mut gateway = estate.start();
    let region = estate.control("swedencentral");
    asking(&gateway, &estate.key, SOON, "one region", || true);
    assert!(region.journal().is_empty());
    estate.open("swedencentral");
    asking(&gateway, &estate.key, SOON, "a new region has traffic", || !region.journal().is_empty());
    let line = gateway.says(|line| line["message"] == "settings in force");
    assert_eq!((line["added"].as_u64(), line["deployments"].as_u64()), (Some(1), Some(4)), "{line}");
    assert_eq!(gateway.metric("aoai_gateway_settings_last_reload_successful"), 1.0);
    gateway.stop();
}

#[test]
fn a_broken_file_changes_nothing_and_says_so_until_it_is_repaired() {
    let mut estate = Estate::of(&["eastus2"], &Knobs::default(), "");
    estate.build("westus3", &Knobs::default());
    let mut gateway = estate.start();
    let loaded_at = |gateway: &Gateway| gateway.metric("aoai_gateway_settings_last_reload_success_timestamp_seconds");
    let successful = |gateway: &Gateway| gateway.metric("aoai_gateway_settings_last_reload_successful");
    let first = loaded_at(&gateway);
    estate.write(&file_of("westus3"), &estate.region("westus3").replace("endpoint", "endpont"));

    let place = format!("{}:2:", file_of("westus3"));
    let refused = |line: &Value| line["message"].as_str().is_some_and(|text| text.starts_with("settings refused"));
    let line = gateway.says(|line| refused(line) && line["message"].as_str().unwrap().contains(&place));
    assert!(line["message"].as_str().unwrap().contains("endpont") && line["level"] == "ERROR", "{line}");
    gateway.says(|line| line["message"].as_str().is_some_and(|text| text.contains("previous settings stay in force")));
    assert!(!gateway.said().iter().any(|line| line.contains(&key_of("westus3"))));
    // The log may be a moment ahead of the figures.
    eventually_within(SOON, || if successful(&gateway) == 0.0 { Ok(()) } else { Err("a success".into()) });
    assert_eq!(loaded_at(&gateway), first);
    let ready = gateway.admin("/readyz").expect(200).json();
    assert!(ready["settings"].as_str().unwrap().contains("refused"), "{ready}");
    let mistakes = |ready: &Value| ready["settings_errors"].as_array().unwrap().len();
    let before = mistakes(&ready);
    assert!(ready["settings_errors"].to_string().contains(&place), "{ready}");
    gateway.chat(&estate.key, QUESTION).expect(200);
    let check = estate.command(&["check"]).output().unwrap();
    let found = String::from_utf8_lossy(&check.stdout).into_owned() + &String::from_utf8_lossy(&check.stderr);
    assert!(check.status.code() == Some(2) && found.contains("endpont"), "{found}");

    // A second mistake elsewhere is added; the first stays in force.
    estate.write("30-more.toml", "[routing]\nattempts = \"many\"\n");
    gateway.says(|line| refused(line) && line["message"].as_str().unwrap().contains("30-more.toml:2:"));
    eventually_within(SOON, || match mistakes(&gateway.admin("/readyz").expect(200).json()) {
        count if count == before + 1 => Ok(()),
        count => Err(format!("{count} mistakes, {before} before")),
    });
    estate.write("30-more.toml", "[routing]\nattempts = 3\n");
    estate.open("westus3");
    let region = estate.control("westus3");
    asking(&gateway, &estate.key, SOON, "the repaired region has traffic", || !region.journal().is_empty());
    gateway.says(|line| line["message"] == "settings in force");
    assert_eq!(successful(&gateway), 1.0);
    assert!(loaded_at(&gateway) > first);
    let ready = gateway.admin("/readyz").expect(200).json();
    assert!(ready["settings"] == "ok" && ready.get("settings_errors").is_none(), "{ready}");
    gateway.signal("TERM");
    assert_eq!(gateway.ended().code, Some(0));
}

#[test]
fn a_removed_region_gets_nothing_more_and_finishes_what_it_has() {
    let estate = Estate::of(&["eastus2", "swedencentral"], &unhurried(), "");
    tier(&estate, "eastus2", 1);
    tier(&estate, "swedencentral", 2);
    let mut gateway = estate.start();
    let (leaving, staying) = (estate.control("eastus2"), estate.control("swedencentral"));
    let mut client = gateway.client();
    let line = format!("authorization: Bearer {}\r\n", estate.key);
    client.send(post("/v1/chat/completions", &line, STREAMED_QUESTION.as_bytes()));
    let mut answer = client.head();
    client.read_until(&mut answer, |body| find(body, b"content").is_some());
    assert_eq!((leaving.in_flight(), staying.in_flight()), (1, 0));

    estate.close("eastus2");
    let told = gateway.says(|line| line["message"] == "settings in force");
    assert_eq!(told["removed"], 1);
    for _ in 0..10 {
        gateway.chat(&estate.key, &QUESTION.replacen('{', "{\"max_tokens\":1,", 1)).expect(200);
    }
    assert_eq!((leaving.journal().len(), staying.journal().len()), (1, 10));
    assert!(
        !gateway.admin("/metrics").text().contains("upstream_state{deployment=\"gpt-4o-mini\",resource=\"eastus2\"")
    );
    assert_eq!(leaving.in_flight(), 1, "the stream was to outlast all this");
    client.finish(&mut answer);
    assert!(answer.end == BodyEnd::Whole && answer.body.ends_with(b"data: [DONE]\n\n"));
    gateway.stop();
    assert!(leaving.journal()[0].completed);
    assert!(estate.store().verify().unwrap().holds());
}

#[test]
fn what_only_a_restart_changes_says_so() {
    let estate = Estate::of(&["eastus2"], &Knobs::default(), "");
    let mut gateway = estate.start();
    estate.write("05-server.toml", "[server]\nworkers = 3\nlisten = \"127.0.0.1:1\"\n");
    let changes = |part: &'static str| {
        move |line: &Value| {
            let text = line["message"].as_str().unwrap_or_default();
            text.contains(part) && text.contains("restart")
        }
    };
    gateway.says(changes("server.workers"));
    gateway.says(|line| line["message"] == "settings in force");
    gateway.chat(&estate.key, QUESTION).expect(200);
    gateway.stop();
}

#[test]
fn keys_of_resources_are_rotated_by_edit_and_by_secret_file() {
    let azure = FakeAzure::start(Script::always(answered()));
    let estate = Estate::of(&[], &Knobs::default(), "");
    let secret = estate.folder().join("secret");
    let resource = |key: &str| {
        let endpoint = format!("endpoint = \"http://{}\"\napi_key = \"{key}\"\n", azure.address());
        format!("[resources.east]\n{endpoint}[resources.east.deployments]\n{CHAT} = \"{CHAT}\"\n")
    };
    let last = || azure.requests().last().and_then(|request| request.header("api-key").map(str::to_owned));
    estate.write(&file_of("east"), &resource("first-key-in-clear"));
    let gateway = estate.start();
    gateway.chat(&estate.key, QUESTION).expect(200);
    assert_eq!(last().as_deref(), Some("first-key-in-clear"));
    estate.write(&file_of("east"), &resource("second-key-in-clear"));
    let is = |key: &'static str| move || last().as_deref() == Some(key);
    asking(&gateway, &estate.key, SOON, "the key of the edited file is used", is("second-key-in-clear"));
    std::fs::write(&secret, "third-key-in-a-file\n").unwrap();
    estate.write(&file_of("east"), &resource(&format!("file:{}", secret.display())));
    asking(&gateway, &estate.key, SOON, "the key of the secret's file is used", is("third-key-in-a-file"));
    std::fs::write(&secret, "fourth-key-in-a-file\n").unwrap();
    asking(&gateway, &estate.key, AT_THE_NEXT_LOOK, "the secret's new key is used", is("fourth-key-in-a-file"));
    gateway.stop();
}

#[test]
fn a_wrong_key_is_repaired_by_an_edit() {
    let estate = Estate::of(&["eastus2"], &Knobs::default(), "");
    let gateway = estate.start();
    estate.write(&file_of("eastus2"), &estate.region("eastus2").replace(&key_of("eastus2"), "not-its-key"));
    let status = |wanted: u16| {
        eventually_within(SOON, || match gateway.chat(&estate.key, QUESTION).status {
            status if status == wanted => Ok(()),
            status => Err(format!("{status} instead of {wanted}")),
        });
    };
    // Azure's 401 is the operator's to repair, never the client's.
    status(503);
    estate.open("eastus2");
    status(200);
    gateway.signal("TERM");
    let ended = gateway.ended();
    assert!(ended.code == Some(0) && ended.errors.len() == 1, "{ended:?}");
    assert!(ended.errors[0].contains("check its api_key") && !ended.errors[0].contains("not-its-key"), "{ended:?}");
}

#[test]
fn a_stop_finishes_streams_refuses_the_new_and_settles_all() {
    const STREAMS: usize = 8;
    let estate = Estate::new(&unhurried(), "[server]\nshutdown_grace = \"20s\"\n");
    let mut gateway = estate.start();
    let line = format!("authorization: Bearer {}\r\n", estate.key);
    let mut idle = gateway.client();
    idle.send(crate::support::client::get("/healthz", "")).answer().expect(200);
    let mut streams: Vec<_> = (0..STREAMS)
        .map(|_| {
            let mut client = gateway.client();
            client.send(post("/v1/chat/completions", &line, STREAMED_QUESTION.as_bytes()));
            let mut answer = client.head();
            client.read_until(&mut answer, |body| find(body, b"content").is_some());
            (client, answer)
        })
        .collect();
    gateway.signal("TERM");
    let told = gateway.says(|line| line["message"] == "shutting down");
    assert_eq!(told["in_flight"].as_u64(), Some(STREAMS as u64), "{told}");
    eventually_within(SOON, || match TcpStream::connect(gateway.address) {
        Err(_) => Ok(()),
        Ok(_) => Err("a new connection is taken".to_owned()),
    });
    assert!(idle.rest().is_empty(), "an idle connection is closed without a word");
    for (client, answer) in &mut streams {
        client.finish(answer);
        assert!(answer.end == BodyEnd::Whole && answer.body.ends_with(b"data: [DONE]\n\n"), "{}", answer.text());
    }
    let (ended, said) = gateway.last_words();
    assert_eq!((ended.code, ended.errors), (Some(0), Vec::new()), "{}", said.join("\n"));
    let verdict: Value = serde_json::from_slice(&estate.run(&["verify", "--json"]).stdout).unwrap();
    assert_eq!((verdict["requests"].as_u64(), verdict["open"].as_u64()), (Some(STREAMS as u64), Some(0)), "{verdict}");
    let charged: u64 = estate.journals().iter().map(|entry| entry.completion_tokens).sum();
    let used: Value = serde_json::from_slice(&estate.run(&["usage", "--json"]).stdout).unwrap();
    let output: u64 = used.as_array().unwrap().iter().map(|row| row["output_tokens"].as_u64().unwrap()).sum();
    assert_eq!(output, charged, "{used}");
}

#[test]
fn one_gateway_a_database_and_commands_beside_it() {
    let estate = Estate::of(&["eastus2"], &Knobs::default(), "");
    let gateway = estate.start();
    for _ in 0..3 {
        gateway.chat(&estate.key, QUESTION).expect(200);
    }
    let (code, said) = estate.run_to_its_end(&["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!(code, Some(1), "{said}");
    let told = said.lines().find(|line| line.starts_with("error: ")).unwrap();
    assert!(told.contains("another gateway") && told.contains("gateway.db") && told.contains("database.url"), "{told}");

    let text = |arguments: &[&str]| String::from_utf8(estate.run(arguments).stdout).unwrap();
    let json = |arguments: &[&str]| -> Value { serde_json::from_str(&text(arguments)).unwrap() };
    assert!(text(&["keys", "ls"]).contains("load"));
    assert!(text(&["keys", "show", "load"]).contains("load"));
    assert!(!text(&["keys", "ls", "--json"]).contains(&estate.key));
    assert!(text(&["usage"]).contains('3'));
    let verdict = json(&["verify", "--json"]);
    assert_eq!((&verdict["gateway_running"], verdict["requests"].as_u64()), (&Value::Bool(true), Some(3)), "{verdict}");
    gateway.chat(&estate.key, QUESTION).expect(200);
    gateway.stop();
    assert_eq!(json(&["verify", "--json"])["gateway_running"], false);
}

#[test]
fn keys_made_and_revoked_beside_a_gateway_count_at_once() {
    let estate = Estate::of(&["eastus2"], &Knobs::default(), "");
    let gateway = estate.start();
    let within = |key: &str, wanted: u16| {
        let began = Instant::now();
        eventually_within(SOON, || match gateway.chat(key, QUESTION).status {
            status if status == wanted => Ok(()),
            status => Err(format!("{status} instead of {wanted}")),
        });
        println!("{wanted} after {:?}", began.elapsed());
    };
    let key = estate.add_key("for a while");
    within(&key, 200);
    estate.run(&["keys", "revoke", "for a while"]);
    within(&key, 401);
    gateway.chat(&estate.key, QUESTION).expect(200);
    gateway.stop();
}
