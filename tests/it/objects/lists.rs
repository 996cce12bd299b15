//! Lists over several regions: the key's own, merged and paged.

use aoai_gateway::simulator::Fault;
use serde_json::json;

use super::{Estate, ask, assistant};
use crate::support::client::Answer;

#[track_caller]
fn ids(answer: Answer) -> (Vec<String>, bool) {
    let list = answer.expect(200).json();
    let found: Vec<_> =
        list["data"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect();
    let ends = [list["first_id"].as_str(), list["last_id"].as_str()];
    assert_eq!(ends, [found.first().map(String::as_str), found.last().map(String::as_str)], "{list}");
    (found, list["has_more"].as_bool().unwrap())
}

#[test]
fn the_keys_own_files_come_newest_first_from_all_regions_in_pages() {
    let estate = Estate::of(&["east", "west", "north"]);
    let gateway = &estate.gateway;
    let (_, other) = gateway.new_key(json!({}));
    let mut made = Vec::new();
    for n in 0..9 {
        made.push(estate.upload("a", if n % 3 == 0 { "batch" } else { "assistants" }, b"x"));
        estate.send_file(&other, "b", "batch", b"y").expect(200);
    }
    let homes: std::collections::BTreeSet<_> = made.iter().map(|id| estate.home(&format!("/files/{id}"))).collect();
    assert!(homes.len() > 1, "all are in one region");
    made.reverse();
    assert_eq!(ids(gateway.get("/v1/files")), (made.clone(), false));
    let (mut seen, mut path) = (Vec::new(), "/v1/files?limit=4".to_owned());
    loop {
        let (page, has_more) = ids(gateway.get(&path));
        assert!(page.len() <= 4);
        seen.extend(page);
        if !has_more {
            break;
        }
        path = format!("/v1/files?limit=4&after={}", seen.last().unwrap());
    }
    assert_eq!(seen, made);
    let batch: Vec<_> = made.iter().rev().step_by(3).rev().cloned().collect();
    assert_eq!(ids(gateway.get("/v1/files?purpose=batch&order=desc")), (batch, false));
    made.reverse();
    assert_eq!(ids(gateway.get("/openai/files?api-version=2024-10-21&order=asc&limit=2")), (made[..2].to_vec(), true));
    assert_eq!(ids(ask(gateway, &other, "GET", "/v1/files?limit=100", None)).0.len(), 9);
    for (wrong, param) in [("limit=0", "limit"), ("limit=x", "limit"), ("order=up", "order")] {
        let refusal = gateway.get(&format!("/v1/files?{wrong}")).expect(400).json();
        assert_eq!(refusal["error"]["param"], param);
    }
}

#[test]
fn each_kind_has_its_list_and_what_is_gone_upstream_is_left_out() {
    let estate = Estate::of(&["east", "west"]);
    let gateway = &estate.gateway;
    let helpers: Vec<_> = (0..3).map(|_| estate.create("/v1/assistants", assistant())).collect();
    let store = estate.create("/v1/vector_stores", json!({}));
    let container = estate.create("/v1/containers", json!({"name": "c"}));
    assert_eq!(ids(gateway.get("/v1/assistants")).0, [&helpers[2], &helpers[1], &helpers[0]].map(Clone::clone));
    assert_eq!(ids(gateway.get("/v1/vector_stores")).0, [store]);
    assert_eq!(ids(gateway.get("/v1/containers")).0, [container]);
    assert_eq!(ids(gateway.get("/v1/batches")), (vec![], false));
    // Somebody deletes one in the portal.
    let home = estate.home(&format!("/assistants/{}", helpers[1]));
    let path = format!("/openai/assistants/{}?api-version=2025-04-01-preview", helpers[1]);
    let line = format!("api-key: {}\r\n", crate::support::gateway::AZURE_KEY);
    crate::support::client::Client::connect(estate.regions[home].1.addr())
        .send(format!("DELETE {path} HTTP/1.1\r\nhost: a\r\n{line}\r\n"))
        .answer()
        .expect(200);
    assert_eq!(ids(gateway.get("/v1/assistants")).0, [&helpers[2], &helpers[0]].map(Clone::clone));
    gateway.settle();
    assert!(gateway.rows().iter().any(|row| row.endpoint == "assistants" && row.attempts.is_empty()));
}

#[test]
fn a_list_that_cannot_be_whole_is_refused() {
    let estate = Estate::of(&["east", "west"]);
    estate.in_each(|| estate.upload("a", "batch", b"x"), "/files");
    estate.regions[0].1.control().inject(Fault::fail(503));
    assert_eq!(estate.gateway.get("/v1/files?limit=100").expect(503).code(), "upstream_unavailable");
}
