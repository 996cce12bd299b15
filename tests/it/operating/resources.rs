//! Live state of resources and models, drain and enable.

use std::time::Duration;

use aoai_gateway::domain::ids::{ModelName, ResourceName};
use aoai_gateway::domain::money::Price;
use aoai_gateway::settings::model::Model;
use serde_json::{Value, json};

use super::{ahead, deployment, reload, resource, throttled};
use crate::support::answers::{QUESTION, STREAMED_QUESTION, answered, full_stream, stream_without_usage, streamed};
use crate::support::client::find;
use crate::support::fake_azure::{FakeAzure, Gate, Reply, Script, chunk};
use crate::support::gateway::{AZURE_KEY, DEPLOYMENT, MODEL, TestGateway, eventually};

fn two(replies: [Reply; 2]) -> [FakeAzure; 2] {
    replies.map(|reply| FakeAzure::start(Script::always(reply)))
}

#[test]
fn the_live_state_is_what_happened() {
    let azures = two([throttled(30_000), answered()]);
    let gateway = TestGateway::with(|estate| {
        estate.tier(0, "east", azures[0].address()).region = Some("East US 2".into());
        estate.tier(1, "west", azures[1].address());
    });
    let idle = resource(&gateway, "west");
    assert_eq!((&idle["share"], &idle["health"], &idle["last_error"]), (&Value::Null, &json!("ok"), &Value::Null));
    assert_eq!(idle["deployments"][0]["latency_ms"], Value::Null);
    for _ in 0..4 {
        gateway.chat(QUESTION).expect(200);
    }
    gateway.settle();

    let east = deployment(&gateway, "east", |east| east["last_error"]["reason"] == "throttled");
    assert_eq!((&east["name"], &east["model"]), (&json!(DEPLOYMENT), &json!(MODEL)));
    assert_eq!((&east["health"], &east["breaker"]), (&json!("cooling"), &json!("open")), "{east}");
    let until = ahead(&east["cooldown_until"]);
    assert!(until <= Duration::from_secs(31) && until > Duration::from_secs(20), "{until:?}");
    assert_eq!((&east["recent_requests"], &east["share"]), (&json!(1), &json!(0.2)), "{east}");
    let error = &east["last_error"];
    assert_eq!(error["status"], 429);
    assert!(error["message"].as_str().unwrap().contains("30.0 s"), "{error}");
    assert!(error["at"].as_str().unwrap().ends_with('Z'));
    let west = deployment(&gateway, "west", |west| west["latency_ms"].as_f64().is_some_and(|ms| ms > 0.0));
    assert_eq!(
        (&west["health"], &west["breaker"], &west["cooldown_until"]),
        (&json!("ok"), &json!("closed"), &Value::Null)
    );
    assert_eq!((&west["recent_requests"], &west["share"], &west["in_flight"]), (&json!(4), &json!(0.8), &json!(0)));

    let list = gateway.admin("GET", "/resources", "").expect(200).json();
    let names: Vec<_> = list["data"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!((names.as_slice(), &list["has_more"]), (&["east", "west"][..], &json!(false)));
    let east = &list["data"][0];
    assert_eq!((&east["health"], &east["region"], &east["share"]), (&json!("down"), &json!("East US 2"), &json!(0.2)));
    assert_eq!(east["endpoint"], format!("http://{}", azures[0].address()));
    assert_eq!(east["last_error"], east["deployments"][0]["last_error"]);
    assert!(!list.to_string().contains(AZURE_KEY));

    let first = gateway.admin("GET", "/resources?limit=1", "").expect(200).json();
    assert_eq!((&first["has_more"], &first["next_cursor"]), (&json!(true), &json!("east")));
    let second = gateway.admin("GET", "/resources?limit=1&cursor=east", "").expect(200).json();
    assert_eq!((&second["data"][0]["name"], &second["has_more"]), (&json!("west"), &json!(false)));
    for wrong in ["/resources?limit=0", "/resources?cusror=east"] {
        gateway.admin("GET", wrong, "").expect(422);
    }
}

#[test]
fn what_is_in_flight_is_shown_while_it_is() {
    let gate = Gate::default();
    let azure = FakeAzure::start(Script::always(answered().after_gate(&gate)));
    let gateway = TestGateway::before(azure.address());
    let mut clients: Vec<_> = (0..3).map(|_| gateway.client()).collect();
    for client in &mut clients {
        client.send(gateway.chat_request(QUESTION));
    }
    azure.wait_for(|seen| seen.requests.len() == 3);
    let east = resource(&gateway, "east");
    assert_eq!((&east["in_flight"], &east["deployments"][0]["in_flight"]), (&json!(3), &json!(3)));
    gate.open();
    clients.iter_mut().for_each(|client| drop(client.answer().expect(200)));
    gateway.settle();
    assert_eq!(resource(&gateway, "east")["in_flight"], 0);
}

#[test]
fn a_drained_resource_gets_nothing_new_and_finishes_what_it_has() {
    let gate = Gate::default();
    let events = full_stream();
    let mut begun = streamed(&events[..3]).bytes();
    begun.truncate(begun.len() - b"0\r\n\r\n".len());
    let rest = chunk(events[3..].concat().as_bytes());
    let stream = Reply::raw(begun).then_wait(&gate).then(rest).then("0\r\n\r\n");
    let east = FakeAzure::start(Script::always(stream));
    let west = FakeAzure::start(Script::always(answered()));
    let gateway = TestGateway::with(|estate| {
        estate.tier(0, "east", east.address());
        estate.tier(1, "west", west.address());
    });
    let mut client = gateway.client();
    client.send(gateway.chat_request(STREAMED_QUESTION));
    let mut answer = client.head();
    client.read_until(&mut answer, |body| find(body, b"Teal").is_some());
    // Under earlier settings: it counts all the same.
    reload(&gateway, |settings| settings.resources.get_mut("east").unwrap().weight = 7);
    assert_eq!(resource(&gateway, "east")["deployments"][0]["in_flight"], 0);

    let drained = gateway.admin("POST", "/resources/east/drain", "").expect(200).json();
    let shown = (&drained["drained"], &drained["health"], &drained["in_flight"]);
    assert_eq!(shown, (&json!(true), &json!("drained"), &json!(1)), "{drained}");
    for _ in 0..10 {
        gateway.chat(QUESTION).expect(200);
    }
    assert_eq!((east.requests().len(), west.requests().len()), (1, 10));
    let state =
        format!("aoai_gateway_upstream_state{{deployment=\"{DEPLOYMENT}\",resource=\"east\",state=\"drained\"}} 1");
    assert!(gateway.get("/metrics").text().contains(&state));
    gate.open();
    client.finish(&mut answer);
    assert_eq!(answer.expect(200).text(), stream_without_usage().concat());
    eventually(|| match resource(&gateway, "east")["in_flight"].as_u64() {
        Some(0) => Ok(()),
        other => Err(format!("{other:?} in flight")),
    });
}

#[test]
fn a_drain_survives_reloads_and_ends_with_enable() {
    let azures = two([answered(), answered()]);
    let gateway = TestGateway::with(|estate| {
        estate.tier(0, "east", azures[0].address());
        estate.tier(1, "west", azures[1].address());
    });
    let asked = || {
        let before = azures.each_ref().map(|azure| azure.requests().len());
        gateway.chat(QUESTION).expect(200);
        azures.each_ref().map(|azure| azure.requests().len()).iter().zip(before).position(|(now, was)| *now > was)
    };
    gateway.admin("POST", "/resources/east/drain", "").expect(200);
    // Of another resource, of this one, and of what rebuilds every resource.
    for change in [("west", 7), ("east", 7)] {
        reload(&gateway, |settings| settings.resources.get_mut(change.0).unwrap().weight = change.1);
        assert_eq!((asked(), &resource(&gateway, "east")["drained"]), (Some(1), &json!(true)), "{change:?}");
    }
    reload(&gateway, |settings| settings.routing.cooldown *= 2);
    assert_eq!(asked(), Some(1));
    let enabled = gateway.admin("POST", "/resources/east/enable", "").expect(200).json();
    assert_eq!((&enabled["drained"], &enabled["health"]), (&json!(false), &json!("ok")));
    assert_eq!(asked(), Some(0));
    // Who leaves the settings leaves the list of the drained.
    gateway.admin("POST", "/resources/east/drain", "").expect(200);
    let east = gateway.house.settings().resources["east"].clone();
    reload(&gateway, |settings| drop(settings.resources.remove("east")));
    gateway.admin("GET", "/resources/east", "").expect(404);
    reload(&gateway, |settings| drop(settings.resources.insert(ResourceName::from("east"), east)));
    assert_eq!(asked(), Some(0));
}

#[test]
fn when_all_are_drained_nobody_can_serve() {
    let azure = FakeAzure::start(Script::always(answered()));
    let gateway = TestGateway::before(azure.address());
    gateway.get("/readyz").expect(200);
    gateway.admin("POST", "/resources/east/drain", "").expect(200);
    assert_eq!(gateway.chat(QUESTION).expect(503).code(), "upstream_unavailable");
    gateway.get("/readyz").expect(503);
    assert!(azure.requests().is_empty());
    gateway.settle();
    let id = gateway.row().id;
    let request = gateway.admin("GET", &format!("/requests/{id}"), "").expect(200).json();
    assert_eq!(request["refusals"][0]["passed_over"][0]["reason"], "drained", "{request}");
    gateway.admin("POST", "/resources/east/enable", "").expect(200);
    gateway.chat(QUESTION).expect(200);
    gateway.get("/readyz").expect(200);
}

#[test]
fn what_cannot_be_switched_says_why() {
    let azure = FakeAzure::start(Script::always(answered()));
    let gateway = TestGateway::with(|estate| {
        estate.azure("east", azure.address());
        estate.azure("off", azure.address()).enabled = false;
    });
    let problem = |method: &str, path: &str, status: u16| {
        let answer = gateway.admin(method, path, "").expect(status);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        answer
    };
    for verb in ["drain", "enable", "test"] {
        let missing = problem("POST", &format!("/resources/eest/{verb}"), 404);
        assert!(missing.text().contains("no resource `eest`"), "{}", missing.text());
        let off = problem("POST", &format!("/resources/off/{verb}"), 409);
        assert!(off.text().contains("enabled = false"), "{}", off.text());
        assert_eq!(problem("GET", &format!("/resources/east/{verb}"), 405).header("allow"), Some("POST"));
        problem("POST", &format!("/resources/east/{verb}/more"), 404);
    }
    problem("GET", "/resources/eest", 404);
    assert_eq!(problem("POST", "/resources", 405).header("allow"), Some("GET"));
    let off = resource(&gateway, "off");
    assert_eq!((&off["health"], &off["deployments"]), (&json!("disabled"), &json!([])));
    let stranger = gateway.client().send(b"GET /admin/v1/resources HTTP/1.1\r\nhost: gateway\r\n\r\n").answer();
    assert_eq!(stranger.status, 401);
}

#[test]
fn models_are_shown_with_those_who_serve_them() {
    let azures = two([answered(), answered()]);
    let gateway = TestGateway::with(|estate| {
        estate.tier(0, "east", azures[0].address()).weight = 30;
        estate.tier(1, "west", azures[1].address());
        let price = Price::of(150_000, 75_000, 600_000);
        let model = Model { aliases: vec!["mini".to_owned()], price, ..Model::default() };
        estate.0.models.insert(ModelName::from(MODEL), model);
        estate.0.models.insert(ModelName::from("gpt-nobody"), Model::default());
    });
    gateway.chat(QUESTION).expect(200);
    gateway.admin("POST", "/resources/west/drain", "").expect(200);
    let models = gateway.admin("GET", "/models", "").expect(200).json();
    let names: Vec<_> = models["data"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, [MODEL, "gpt-nobody"]);
    let (served, nobody) = (&models["data"][0], &models["data"][1]);
    assert_eq!(served["price"], json!({ "input": 0.15, "cached_input": 0.075, "output": 0.6 }));
    assert_eq!((&served["aliases"], &served["share"]), (&json!(["mini"]), &json!(1.0)));
    let who = |index: usize| {
        let one = &served["deployments"][index];
        ["resource", "deployment", "priority", "weight", "health", "share"].map(|name| one[name].clone())
    };
    assert_eq!(who(0), [json!("east"), json!(DEPLOYMENT), json!(0), json!(30), json!("ok"), json!(1.0)]);
    assert_eq!(who(1), [json!("west"), json!(DEPLOYMENT), json!(1), json!(100), json!("drained"), json!(0.0)]);
    assert_eq!((&nobody["deployments"], &nobody["share"]), (&json!([]), &json!(0.0)));
}
