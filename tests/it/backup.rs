//! A copy of the database is taken while the gateway serves, and a gateway goes on from it.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use aoai_gateway::settings::model::Durability;
use aoai_gateway::simulator::Knobs;
use aoai_gateway::storage::Store;

use crate::support::client::{Client, post};
use crate::support::gateway::eventually;
use crate::support::process::Estate;

const CHAT: &str = r#"{"model":"gpt-4o-mini","messages":[{"role":"user","content":"hello"}],"max_tokens":8}"#;

fn rows(gateway: &crate::support::process::Gateway) -> usize {
    let rows = gateway.admin("/admin/v1/requests?limit=200").expect(200).json();
    rows["data"].as_array().unwrap().len()
}

#[test]
fn a_copy_that_was_taken_under_load_is_whole_and_serves() {
    let estate = Estate::new(&Knobs::default(), "");
    let gateway = estate.start();
    let copy = estate.folder().join("copy.db");
    let before = 5;
    for _ in 0..before {
        gateway.chat(&estate.key, CHAT).expect(200);
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let (address, done) = (gateway.address, &done);
            let line = format!("authorization: Bearer {}\r\n", estate.key);
            scope.spawn(move || {
                while !done.load(Relaxed) {
                    let request = post("/v1/chat/completions", &line, CHAT.as_bytes());
                    Client::connect(address).send(request).answer().expect(200);
                }
            });
        }
        let output = estate.command(&["backup"]).arg(&copy).output().unwrap();
        done.store(true, Relaxed);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    });
    let verdict = Store::existing(&copy, Durability::Process).unwrap().verify().unwrap();
    assert!(verdict.holds(), "{verdict:?}");
    assert!(verdict.requests >= before, "{verdict:?}");
    // What is there already is not written over.
    let again = estate.command(&["backup"]).arg(&copy).output().unwrap();
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(again.status.code() == Some(1) && said.contains("it exists"), "{said}");

    gateway.chat(&estate.key, CHAT).expect(200);
    gateway.stop();
    // As the documentation of a restore says.
    for rest in ["gateway.db-wal", "gateway.db-shm"] {
        let _ = std::fs::remove_file(estate.folder().join(rest));
    }
    std::fs::copy(&copy, estate.database()).unwrap();
    let gateway = estate.start();
    let restored = rows(&gateway);
    assert_eq!(restored as i64, verdict.requests.min(200));
    gateway.chat(&estate.key, CHAT).expect(200);
    eventually(
        || if rows(&gateway) == (restored + 1).min(200) { Ok(()) } else { Err("the request is not there".into()) },
    );
    estate.run(&["verify"]);
    gateway.stop();
}
