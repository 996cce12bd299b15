//! `GET /admin/v1/events`: news while they are new, and an end with the gateway.

use serde_json::{Value, json};

use super::{admin, gateway, text};
use crate::support::client::{Answer, BodyEnd, Client, find, get};
use crate::support::fake_azure::{FakeAzure, Script};
use crate::support::gateway::{ADMIN_KEY, TestGateway};

fn watch(gateway: &TestGateway) -> (Client, Answer) {
    let mut client = gateway.client();
    client.send(get("/admin/v1/events", &format!("authorization: Bearer {ADMIN_KEY}\r\n")));
    let mut answer = client.head();
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/event-stream")));
    client.read_until(&mut answer, |body| find(body, b"watching").is_some());
    (client, answer)
}

/// The data of the first event of this kind that is the wanted one: what was done just before may be told late.
fn event(client: &mut Client, answer: &mut Answer, kind: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let head = format!("event: {kind}\ndata: ");
    let told = |body: &[u8]| {
        let text = String::from_utf8_lossy(body);
        let whole = text.rsplit_once("\n\n").map_or("", |(whole, _)| whole);
        let events = whole.split("\n\n").filter_map(|event| event.find(&head).map(|at| &event[at + head.len()..]));
        let mut events = events.map(|data| serde_json::from_str::<Value>(data).unwrap());
        events.find(|event| wanted(&event["data"]))
    };
    client.read_until(answer, |body| told(body).is_some());
    let event = told(&answer.body).expect("it ended before");
    assert_eq!(event["type"], kind);
    event["data"].clone()
}

#[test]
fn keys_and_resources_make_news_and_the_stream_ends_with_the_gateway() {
    let azure = FakeAzure::start(Script::always(crate::support::answers::answered()));
    let mut gateway = TestGateway::before(azure.address());
    let (mut client, mut answer) = watch(&gateway);
    let (id, secret) = gateway.new_key(json!({ "name": "news" }));
    let made = event(&mut client, &mut answer, "key.created", |made| made["target"] == id.as_str());
    assert_eq!((&made["after"]["name"], &made["actor"]), (&json!("news"), &json!("admin")));
    // A command beside the gateway makes news too.
    let id = id.parse().unwrap();
    gateway.house.store.revoke_key(id).unwrap();
    assert_eq!(event(&mut client, &mut answer, "key.revoked", |_| true)["actor"], "local");
    gateway.admin("POST", "/resources/east/drain", "").expect(200);
    event(&mut client, &mut answer, "resource.drain", |_| true);
    let state = event(&mut client, &mut answer, "resource.state", |_| true);
    assert_eq!(
        (&state["resource"], &state["from"], &state["to"]),
        (&json!("east"), &json!("closed"), &json!("drained"))
    );
    assert!(find(&answer.body, secret.as_bytes()).is_none());
    gateway.stop();
    client.finish(&mut answer);
    assert_eq!(answer.end, BodyEnd::Whole);
}

#[test]
fn watchers_are_bounded_and_one_who_leaves_makes_room() {
    let gateway = gateway();
    let mut watching: Vec<_> = (0..32).map(|_| watch(&gateway)).collect();
    let refused = gateway.admin("GET", "/events", "").expect(503).json();
    assert!(text(&refused["detail"]).contains("32 clients"), "{refused}");
    watching.pop().unwrap().0.leave();
    crate::support::gateway::eventually(|| {
        let mut client = gateway.client();
        client.send(get("/admin/v1/events", &format!("authorization: Bearer {ADMIN_KEY}\r\n")));
        match client.head().status {
            200 => Ok(()),
            status => Err(format!("{status} though one has left")),
        }
    });
    admin(&gateway, "POST", "/users", json!({ "name": "x" })).expect(201);
    let (client, answer) = &mut watching[0];
    event(client, answer, "user.created", |_| true);
}
