//! `aoai-gateway resources`, a client of the admin plane.

use aoai_gateway::simulator::{Fault, FaultKind, Knobs};
use serde_json::Value;

use crate::support::answers::QUESTION;
use crate::support::process::{ADMIN_KEY, CHAT, EMBEDDINGS, Estate};

#[test]
fn resources_are_listed_tested_drained_and_enabled() {
    let estate = Estate::of(&["eastus2", "west-us-3"], &Knobs::default(), "");
    let gateway = estate.start();
    let url = format!("http://{}", gateway.address);
    let command = |arguments: &[&str]| {
        let mut command = estate.command(&[&["resources"], arguments, &["--url", &url]].concat());
        let output = command.env_remove("GATEWAY_ADMIN_KEY").output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    gateway.chat(&estate.key, QUESTION).expect(200);
    let (code, table, _) = command(&["ls"]);
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!((code, rows.len(), rows[0][0]), (Some(0), 5, "RESOURCE"), "{table}");
    let named: Vec<_> = rows[1..].iter().map(|row| (row[0], row[1], row[3])).collect();
    let expected = ["eastus2", "west-us-3"].map(|region| [(region, CHAT, "ok"), (region, EMBEDDINGS, "ok")]).concat();
    assert_eq!(named, expected, "{table}");
    let (_, list, _) = command(&["ls", "--json"]);
    let list: Value = serde_json::from_str(&list).unwrap();
    let recent: u64 = list.as_array().unwrap().iter().map(|one| one["recent_requests"].as_u64().unwrap()).sum();
    assert_eq!(recent, 1);

    let (code, _, said) = command(&["drain", "west-us-3"]);
    assert!(code == Some(0) && said.contains("west-us-3 is drained"), "{said}");
    assert_eq!(command(&["ls"]).1.matches("\tdrained\t").count(), 2);
    for _ in 0..10 {
        gateway.chat(&estate.key, QUESTION).expect(200);
    }
    assert!(estate.control("west-us-3").journal().len() <= 1);
    let (code, enabled, _) = command(&["enable", "west-us-3", "--json"]);
    let enabled: Value = serde_json::from_str(&enabled).unwrap();
    assert_eq!((code, &enabled["drained"]), (Some(0), &Value::Bool(false)));

    let (code, table, said) = command(&["test", "west-us-3"]);
    assert!(code == Some(0) && table.matches("\tserved\t200\t").count() == 2, "{table}");
    assert!(said.contains("Azure bills"), "{said}");
    estate.control("west-us-3").inject(Fault::new(FaultKind::Refuse));
    let (code, table, _) = command(&["test", "west-us-3"]);
    assert!(code == Some(1) && !table.contains("\tserved\t"), "{table}");
    gateway.stop();
}

#[test]
fn what_a_command_lacks_is_said() {
    let estate = Estate::of(&["eastus2"], &Knobs::default(), "");
    let gateway = estate.start();
    let url = format!("http://{}", gateway.address);
    let fails = |arguments: &[&str], code: i32, words: &str| {
        let mut command = estate.command(&[&["resources"], arguments].concat());
        let output = command.env_remove("GATEWAY_ADMIN_KEY").output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(code) && said.contains(words), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty() && said.starts_with("error: ") && !said.contains(ADMIN_KEY), "{said}");
    };
    fails(&["drain", "eest", "--url", &url], 1, "no resource `eest`");
    fails(&["drain", "../keys", "--url", &url], 1, "no resource");
    fails(&["ls", "--url", &url, "--admin-key", "not-the-admin-key"], 1, "does not know this admin key");
    fails(&["ls", "--url", "127.0.0.1"], 2, "no address of a gateway");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    fails(&["ls", "--url", &format!("http://{nobody}")], 1, "does not answer");
    // Without a key in the settings; the settings' own address is then not asked.
    let common = std::fs::read_to_string(estate.settings().join("00-common.toml")).unwrap();
    estate.write("00-common.toml", &common.replace(&format!("key = \"{ADMIN_KEY}\""), ""));
    fails(&["ls", "--url", &url], 2, "hold no admin key");
    let mut command = estate.command(&["resources", "ls", "--url", &url]);
    assert!(command.env("GATEWAY_ADMIN_KEY", ADMIN_KEY).output().unwrap().status.success());
    gateway.signal("TERM");
    gateway.ended();
}
