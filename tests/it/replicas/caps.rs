//! Three gateways and one quota: together they never spend more than it allows, also while one of them is frozen, and
//! what is left of it is there for all.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use aoai_gateway::simulator::Knobs;
use serde_json::json;

use super::CHAT;
use crate::support::client::{Client, get, post};
use crate::support::gateway::{eventually, eventually_within};
use crate::support::postgres::Server;
use crate::support::process::{ADMIN_KEY, Estate, Gateway};

const TOKENS: u64 = 2_000;
/// So many served by the third, before it is frozen; the others do not use the quota up before.
const BEFORE: u64 = 5;
/// Longer than anything here takes, also where others keep the machine busy; who is frozen answers nobody meanwhile.
const LONG: Duration = Duration::from_secs(90);

/// What one gateway answered so far.
#[derive(Default)]
struct Answers {
    served: AtomicU64,
    refused_in_a_row: AtomicU64,
}

fn ask(gateway: SocketAddr, line: &str, answers: &Answers, slowest: &Answers, done: &AtomicBool) {
    while !done.load(Relaxed) {
        let (own, least) = (answers.served.load(Relaxed), slowest.served.load(Relaxed));
        if least < BEFORE && own > least + BEFORE {
            std::thread::sleep(Duration::from_millis(1)); // bounded: until the slowest has caught up
            continue;
        }
        let mut client = Client::connect(gateway);
        client.send(post("/v1/chat/completions", line, CHAT.as_bytes())).has_answer(LONG);
        let answer = client.answer();
        match answer.status {
            200 => {
                answers.served.fetch_add(1, Relaxed);
                answers.refused_in_a_row.store(0, Relaxed);
            }
            429 => {
                assert_eq!(answer.code(), "insufficient_quota", "{}", answer.text());
                answers.refused_in_a_row.fetch_add(1, Relaxed);
                // bounded: as a client that tries again, only sooner
                std::thread::sleep(Duration::from_millis(50));
            }
            status => panic!("{status}: {}", answer.text()),
        }
    }
}

fn spent(estate: &Estate) -> u64 {
    estate.journals().iter().map(|entry| entry.prompt_tokens + entry.completion_tokens).sum()
}

#[test]
fn three_gateways_never_spend_more_than_one_quota_while_one_is_frozen() {
    let (server, estate) = (Server::start(), Estate::new(&Knobs::default(), ""));
    estate.share(&server.database());
    let start = |name: &str| {
        estate.start_with(|command| {
            command.env("GATEWAY__ACCOUNTING__JOURNAL", format!("{name}.db"));
        })
    };
    let gateways: Vec<Gateway> = ["one", "two", "three"].map(start).into();
    let body = json!({
        "name": "shared", "limits": { "rpm": "unlimited", "tpm": "unlimited", "concurrency": "unlimited" },
        "quota": { "period": "month", "tokens": TOKENS },
    });
    let admin = format!("authorization: Bearer {ADMIN_KEY}\r\n");
    let made =
        gateways[0].client().send(post("/admin/v1/keys", &admin, body.to_string().as_bytes())).answer().expect(201);
    let line = format!("authorization: Bearer {}\r\n", made.json()["secret"].as_str().unwrap());
    for gateway in &gateways {
        eventually(|| match gateway.client().send(get("/v1/models", &line)).answer().status {
            200 => Ok(()),
            status => Err(format!("the new key gets {status}")),
        });
    }
    let answers: Vec<Answers> = gateways.iter().map(|_| Answers::default()).collect();
    let (all, done) = (&answers, AtomicBool::new(false));
    std::thread::scope(|scope| {
        for (gateway, answers) in gateways.iter().zip(&answers) {
            let (address, line, slowest, done) = (gateway.address, &line, &all[2], &done);
            for _ in 0..3 {
                scope.spawn(move || ask(address, line, answers, slowest, done));
            }
        }
        struct End<'a>(&'a AtomicBool);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.store(true, Relaxed);
            }
        }
        let _end = End(&done);
        let refused = |which: &[usize]| {
            let counts: Vec<_> = which.iter().map(|n| answers[*n].refused_in_a_row.load(Relaxed)).collect();
            if counts.iter().all(|count| *count > 40) { Ok(()) } else { Err(format!("refused in a row: {counts:?}")) }
        };
        eventually_within(LONG, || match answers[2].served.load(Relaxed) {
            BEFORE.. => Ok(()),
            served => Err(format!("the third has served {served}")),
        });
        gateways[2].signal("STOP");
        eventually_within(LONG / 2, || refused(&[0, 1]));
        gateways[2].signal("CONT");
        eventually_within(LONG, || refused(&[0, 1, 2]));
    });
    let spent = spent(&estate);
    assert!(spent <= TOKENS, "{spent} of {TOKENS} were spent");
    assert!(spent > TOKENS * 9 / 10, "only {spent} of {TOKENS} could be spent");
    assert!(answers.iter().all(|answers| answers.served.load(Relaxed) > 0), "one was never lent anything");
    for gateway in gateways {
        gateway.signal("TERM");
        let ended = gateway.ended();
        assert_eq!((ended.code, ended.in_flight), (Some(0), Some(0)));
        // Who froze in the middle of a batch is hung up on by the server, and the others may have waited for its locks.
        let waited = |error: &String| error.contains("the shared database does not take the ledger's rows");
        assert!(ended.errors.iter().all(waited), "{:?}", ended.errors);
    }
}
