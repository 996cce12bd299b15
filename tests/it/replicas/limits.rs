//! Limits per minute are divided among the gateways at work, and stay so while nobody can count them.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{CHAT, region, replica};
use crate::support::client::{get, post};
use crate::support::gateway::{TestGateway, eventually};
use crate::support::postgres::Server;

fn bearer(secret: &str) -> String {
    format!("authorization: Bearer {secret}\r\n")
}

/// What came of asking until it was refused, and some more.
#[derive(Debug)]
struct Admitted {
    answered: usize,
    took: Duration,
}

impl Admitted {
    /// A quarter of a minute's requests at once; meanwhile a few more may have become free.
    fn is_share_of(&self, at_once: usize) -> bool {
        let refilled = (self.took.as_secs_f64() * at_once as f64 / 15.0).ceil() as usize + 1;
        (at_once..=at_once + refilled).contains(&self.answered)
    }
}

fn admitted(gateway: &TestGateway, secret: &str) -> Admitted {
    let began = Instant::now();
    let ask = || gateway.client().send(post("/v1/chat/completions", &bearer(secret), CHAT.as_bytes())).answer().status;
    let statuses: Vec<_> = (0..40).map(|_| ask()).collect();
    assert!(statuses.iter().all(|status| [200, 429].contains(status)), "{statuses:?}");
    let answered = statuses.into_iter().filter(|status| *status == 200).count();
    Admitted { answered, took: began.elapsed() }
}

/// Waits until a fresh key may be used so often at once at this gateway.
#[track_caller]
fn gives_away(gateway: &TestGateway, wanted: usize) {
    eventually(|| {
        let (_, secret) = gateway.new_key(json!({ "limits": { "rpm": 120 } }));
        match admitted(gateway, &secret) {
            some if some.is_share_of(wanted) => Ok(()),
            some => Err(format!("{some:?}, not {wanted}")),
        }
    });
}

#[test]
fn each_gives_away_its_share_also_while_the_database_is_away() {
    let (server, azure) = (Server::start(), region());
    let url = server.database();
    let one = replica(&url, azure.addr());
    gives_away(&one, 30);
    let other = replica(&url, azure.addr());
    let mut third = replica(&url, azure.addr());
    for gateway in [&one, &other, &third] {
        gives_away(gateway, 10);
    }
    third.stop();
    // Each hears of it in its own time.
    for gateway in [&one, &other] {
        gives_away(gateway, 15);
    }
    let (_, secret) = one.new_key(json!({ "limits": { "rpm": 120 } }));
    eventually(|| match other.client().send(get("/v1/models", &bearer(&secret))).answer().status {
        200 => Ok(()),
        status => Err(format!("the new key gets {status}")),
    });
    server.stop();
    eventually(|| {
        one.chat(CHAT).expect(200);
        let noticed = one.get("/readyz").text().contains("away");
        noticed.then_some(()).ok_or_else(|| "it has not noticed".to_owned())
    });
    // Neither everything nor nothing: the share of before.
    let some = [admitted(&one, &secret), admitted(&other, &secret)];
    assert!(some.iter().all(|some| some.is_share_of(15)), "{some:?}");
    server.restart();
}
