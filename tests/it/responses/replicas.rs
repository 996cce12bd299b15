//! The places of responses are in the database: another process finds them, and so does the next one after a kill.

use std::time::Duration;

use aoai_gateway::domain::time;
use aoai_gateway::settings::model::Durability;
use aoai_gateway::simulator::Knobs;
use aoai_gateway::storage::Store;
use aoai_gateway::storage::ledger::LedgerEntry;
use aoai_gateway::storage::pins::Pin;
use serde_json::{Value, json};

use super::{PATH, ask, journal, region};
use crate::support::client::{Answer, Client, get, post};
use crate::support::gateway::{AZURE_KEY, DEPLOYMENT, MODEL, TestGateway, eventually};
use crate::support::process::{CHAT, Estate, Gateway};

/// A response that was made past this gateway, by what might be another one.
fn made_elsewhere(region: &aoai_gateway::simulator::Simulator) -> String {
    let mut body = ask("Name a colour.");
    body["model"] = DEPLOYMENT.into();
    let request = post("/openai/v1/responses", &format!("api-key: {AZURE_KEY}\r\n"), body.to_string().as_bytes());
    let answer = Client::connect(region.addr()).send(request).answer().expect(200);
    answer.json()["id"].as_str().unwrap().to_owned()
}

fn pin(id: &str, resource: &str, key: &str) -> Pin {
    let now = time::wall_now();
    Pin {
        id: id.to_owned(),
        key_id: key.parse().unwrap(),
        resource: resource.into(),
        deployment: DEPLOYMENT.into(),
        model: MODEL.into(),
        created_at: now,
        expires_at: now.after(Duration::from_secs(3600)),
        kind: String::new(),
        purpose: String::new(),
    }
}

fn file(store: &Store, pin: Pin) {
    store.journal().unwrap().append(&[vec![LedgerEntry::Pinned(Box::new(pin))]]).unwrap();
}

#[test]
fn what_another_process_files_and_removes_is_seen() {
    let (east, west) = (region("east"), region("west"));
    let gateway = TestGateway::with(|estate| {
        estate.azure("east", east.addr());
        estate.azure("west", west.addr());
    });
    let (key_id, key) = gateway.new_key(json!({}));
    let line = format!("authorization: Bearer {key}\r\n");
    let ask = |id: &str| Client::connect(gateway.address).send(get(&format!("{PATH}/{id}"), &line)).answer();
    let other = Store::beside(&gateway.database(), Durability::Process).unwrap();
    let (id, second) = (made_elsewhere(&west), made_elsewhere(&west));
    // That it was unknown a moment ago is not remembered.
    ask(&id).expect(404);
    file(&other, pin(&id, "west", &key_id));
    assert_eq!(ask(&id).expect(200).json()["id"], id.as_str());
    let follow = json!({"model": MODEL, "input": "And?", "previous_response_id": id});
    let next = Client::connect(gateway.address).send(post(PATH, &line, follow.to_string().as_bytes())).answer();
    let next = next.expect(200).json()["id"].as_str().unwrap().to_owned();
    assert!(journal(&east).is_empty());
    // And the other way round.
    let filed = other.pin(&next, time::wall_now()).unwrap().unwrap();
    assert_eq!((filed.resource.as_str(), filed.key_id.to_string()), ("west", key_id.clone()));
    file(&other, pin(&second, "west", &key_id));
    other.remove_pin(&second).unwrap();
    ask(&second).expect(404);
}

#[test]
fn what_has_expired_is_not_found_and_goes() {
    let region = region("east");
    let gateway = TestGateway::before(region.addr());
    let (key_id, key) = gateway.new_key(json!({}));
    let other = Store::beside(&gateway.database(), Durability::Process).unwrap();
    let id = made_elsewhere(&region);
    let now = time::wall_now();
    file(&other, Pin { expires_at: now, ..pin(&id, "east", &key_id) });
    let line = format!("authorization: Bearer {key}\r\n");
    Client::connect(gateway.address).send(get(&format!("{PATH}/{id}"), &line)).answer().expect(404);
}

fn posted(key: &str, body: &Value) -> Vec<u8> {
    post(PATH, &format!("authorization: Bearer {key}\r\n"), body.to_string().as_bytes())
}

fn read(gateway: &Gateway, key: &str, id: &str) -> Answer {
    gateway.get(&format!("{PATH}/{id}"), &format!("authorization: Bearer {key}\r\n"))
}

#[test]
fn an_answer_that_was_given_is_found_after_a_kill() {
    let estate = Estate::new(&Knobs { token_ms: 2, ..Knobs::default() }, "");
    let mut ids = Vec::new();
    for life in 0..6 {
        let gateway = estate.start();
        let streams = life % 2 == 1;
        let body = json!({"model": CHAT, "input": format!("Life {life}."), "stream": streams});
        let mut client = gateway.client();
        client.send(posted(&estate.key, &body));
        let mut answer = client.head();
        let id = |body: &[u8]| {
            let text = String::from_utf8_lossy(body);
            let at = text.find("\"resp_")? + 1;
            text[at..].split_once('"').map(|(id, _)| id.to_owned())
        };
        // As soon as the client knows the id, be it long before the end.
        client.read_until(&mut answer, |body| id(body).is_some());
        gateway.kill();
        ids.push(id(&answer.body).expect("the answer has an id"));
    }
    let gateway = estate.start();
    for id in &ids {
        assert_eq!(read(&gateway, &estate.key, id).expect(200).json()["id"], id.as_str());
        let body = json!({"model": CHAT, "input": "And?", "previous_response_id": id});
        let next = gateway.client().send(posted(&estate.key, &body)).answer().expect(200);
        assert_eq!(next.json()["previous_response_id"], id.as_str());
    }
    gateway.stop();
    let entries = estate.journals();
    assert!(entries.iter().all(|entry| entry.status != 404 && entry.status != 400), "some region was asked in vain");
}

#[test]
fn expired_places_go_when_a_gateway_starts() {
    let estate = Estate::new(&Knobs::default(), "");
    let key = aoai_gateway::domain::ids::KeyId::generate().to_string();
    let store = estate.store();
    let long_ago = time::wall_now().before(Duration::from_secs(1));
    let expired = |n: usize| Pin { expires_at: long_ago, ..pin(&format!("resp_{n}"), "eastus2", &key) };
    let many = (0..1_200).map(|n| LedgerEntry::Pinned(Box::new(expired(n))));
    store.journal().unwrap().append(&[many.collect()]).unwrap();
    file(&store, pin("resp_live", "eastus2", &key));
    let gateway = estate.start();
    eventually(|| match store.remove_expired_pins(long_ago.before(Duration::from_secs(60))).unwrap() {
        0 if store.pin("resp_5", long_ago.before(Duration::from_secs(60))).unwrap().is_none() => Ok(()),
        _ => Err("expired places are still there".to_owned()),
    });
    assert!(store.pin("resp_live", time::wall_now()).unwrap().is_some());
    gateway.stop();
}
