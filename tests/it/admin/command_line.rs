//! `--quota`, `top` and `schema`.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use aoai_gateway::simulator::Knobs;
use serde_json::{Value, json};

use super::commands::{json_of, run};
use crate::support::answers::QUESTION;
use crate::support::process::{ADMIN_KEY, CHAT, Estate};

#[test]
fn a_quota_is_given_changed_shown_and_taken_away() {
    let estate = Estate::of(&["eastus2"], &Knobs::default(), "");
    let life = |name: &str| {
        let quota = "month,tokens=5_000_000,cost_usd=20,time_zone=Europe/Berlin";
        let made = json_of(&estate, &["keys", "add", name, "--quota", quota]);
        let shown = json_of(&estate, &["keys", "show", name])["quota"].clone();
        assert_eq!(
            [&shown["period"], &shown["tokens"], &shown["cost_usd"], &shown["time_zone"]],
            [&json!("month"), &json!(5_000_000), &json!(20.0), &json!("Europe/Berlin")]
        );
        let changed = json_of(&estate, &["keys", "limit", name, "--rpm", "60", "--quota", "day,tokens=5"]);
        assert_eq!((&changed["limits"]["rpm"], &changed["quota"]["tokens"]), (&json!(60), &json!(5)));
        let (_, table, _) = run(&estate, &["keys", "show", name]);
        assert!(table.contains("5 tokens each day"), "{table}");
        // What is not named stays.
        assert_eq!(json_of(&estate, &["keys", "limit", name, "--tpm", "9000"])["quota"]["tokens"], 5);
        json_of(&estate, &["keys", "limit", name, "--quota", "off"]);
        let (_, table, _) = run(&estate, &["keys", "show", name]);
        assert!(table.contains("quota\t-"), "{table}");
        json_of(&estate, &["keys", "limit", name, "--quota", "none,tokens=1"]);
        super::text(&made["secret"])
    };
    let alone = life("alone");
    let gateway = estate.start();
    let together = life("together");
    for secret in [alone, together] {
        let refused = gateway.chat(&secret, QUESTION).expect(429);
        assert_eq!(refused.code(), "insufficient_quota", "it counts where it was given");
    }
    for (quota, words) in [
        ("month", "needs tokens=N"),
        ("fortnight,tokens=1", "`fortnight` is no period"),
        ("month,token=5", "did you mean `tokens`?"),
        ("month,tokens=5,time_zone=Mars/Olympus", "time_zone"),
    ] {
        for command in [["keys", "add", "mistaken"], ["keys", "limit", "together"]] {
            let (code, out, said) = run(&estate, &[&command[..], &["--quota", quota]].concat());
            assert!(code == Some(2) && out.is_empty() && said.contains(words), "{quota}: {said}");
        }
    }
    assert_eq!(json_of(&estate, &["keys", "ls", "--search", "mistaken"]), json!([]));
    gateway.stop();
}

#[test]
fn top_shows_once_or_again_and_again() {
    let estate = Estate::of(&["eastus2", "westus3"], &Knobs::default(), "");
    let gateway = estate.start();
    for _ in 0..4 {
        gateway.chat(&estate.key, QUESTION).expect(200);
    }
    let url = format!("http://{}", gateway.address);
    let (code, text, said) = run(&estate, &["top", "--once", "--url", &url, "--admin-key", ADMIN_KEY]);
    assert_eq!(code, Some(0), "{said}");
    assert!(text.contains(": 0 in flight, 0 waiting, 4 attempts in the last minute\nRESOURCE\t"), "{text}");
    assert!(
        text.contains(&format!("eastus2\t{CHAT}\t{CHAT}\tok\t")) && text.contains("\twestus3")
            || text.contains("\nwestus3"),
        "{text}"
    );
    assert!(!text.contains('\u{1b}'), "nothing that only a terminal understands");
    let (_, line, _) = run(&estate, &["top", "--once", "--json", "--url", &url, "--admin-key", ADMIN_KEY]);
    let once: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((once["resources"].as_array().unwrap().len(), &once["waiting"]), (2, &json!(0)));

    // In a pipe, until nobody reads any more.
    let mut command = estate.command(&["top", "--every", "200ms", "--json", "--url", &url]);
    let mut top = command.env("GATEWAY_ADMIN_KEY", ADMIN_KEY).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(top.stdout.take().unwrap()).lines();
    let moments: Vec<String> = (0..3)
        .map(|_| {
            let picture: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
            super::text(&picture["at"])
        })
        .collect();
    assert!(moments.is_sorted() && moments[0] != moments[2], "{moments:?}");
    drop(lines);
    assert!(top.wait().unwrap().success());
    gateway.stop();

    for (arguments, code, words) in [
        (&["top", "--once", "--url", &url][..], 1, "does not answer"),
        (&["top", "--every", "1ms"], 2, "at least 200ms"),
        (&["top", "--once", "--url", "nonsense"], 2, "no address of a gateway"),
    ] {
        let (found, out, said) = run(&estate, arguments);
        assert!(found == Some(code) && out.is_empty() && said.contains(words), "{arguments:?}: {said}");
    }
}

#[test]
fn the_schema_needs_no_settings() {
    let estate = Estate::of(&[], &Knobs::default(), "");
    estate.write("00-common.toml", "this is no TOML");
    let (code, text, said) = run(&estate, &["schema"]);
    assert_eq!(code, Some(0), "{said}");
    let schema: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(schema["$schema"], "http://json-schema.org/draft-07/schema#");
    let attempts = &schema["properties"]["routing"]["properties"]["attempts"];
    assert_eq!((&attempts["type"], &attempts["maximum"]), (&json!("integer"), &json!(10)));
    assert!(super::text(&attempts["description"]).starts_with("Attempts that may fail"), "{attempts}");
    assert_eq!(schema["properties"]["server"]["additionalProperties"], false);
}
