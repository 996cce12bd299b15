//! Limits per minute are divided among the gateways at work, and stay so while nobody can count them.

use serde_json::json;

use super::{CHAT, region, replica};
use crate::support::client::{get, post};
use crate::support::gateway::{TestGateway, eventually};
use crate::support::postgres::Server;

fn bearer(secret: &str) -> String {
    format!("authorization: Bearer {secret}\r\n")
}

/// Asks until it is refused, and some more; gives how many were answered.
fn admitted(gateway: &TestGateway, secret: &str) -> usize {
    let ask = || gateway.client().send(post("/v1/chat/completions", &bearer(secret), CHAT.as_bytes())).answer().status;
    let statuses: Vec<_> = (0..40).map(|_| ask()).collect();
    assert!(statuses.iter().all(|status| [200, 429].contains(status)), "{statuses:?}");
    statuses.into_iter().filter(|status| *status == 200).count()
}

/// Waits until a fresh key may be used so often at this gateway in one go.
#[track_caller]
fn gives_away(gateway: &TestGateway, wanted: usize) {
    eventually(|| {
        // A quarter of 120 at once, and two a second: 30 in all, as long as it takes well under a second.
        let (_, secret) = gateway.new_key(json!({ "limits": { "rpm": 120 } }));
        match admitted(gateway, &secret) {
            some if (wanted..=wanted + 2).contains(&some) => Ok(()),
            some => Err(format!("{some} were admitted, not {wanted}")),
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
    gives_away(&one, 15);
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
    assert!(some.iter().all(|some| (15..=17).contains(some)), "{some:?}");
    server.restart();
}
