//! What can be done with a response that is kept: by whom, where, and in either dialect.

use serde_json::json;

use super::{KEPT, PATH, after, ask, bare, created, events, journal, region, streamed};
use crate::support::gateway::{ADMIN_KEY, MODEL, TestGateway};

#[test]
fn it_is_read_with_its_input_and_deleted_in_both_dialects() {
    let region = region("east");
    let gateway = TestGateway::before(region.addr());
    for (path, version) in
        [("/v1/responses", ""), ("/openai/v1/responses", ""), ("/openai/responses", "?api-version=2025-04-01-preview")]
    {
        let created = gateway.post(&format!("{path}{version}"), &ask("Name a colour.").to_string()).expect(200).json();
        let id = created["id"].as_str().unwrap();
        let at = |below: &str| format!("{path}/{id}{below}{version}");
        assert_eq!(gateway.get(&at("")).expect(200).json(), created);
        let more = if version.is_empty() { "?limit=1&order=asc" } else { "&limit=1&order=asc" };
        let items = gateway.get(&format!("{}{more}", at("/input_items"))).expect(200).json();
        assert_eq!(items["data"][0]["content"][0]["text"], "Name a colour.", "{items}");
        // The upstream's own refusal, as it is: the response was not made in the background.
        let refusal = bare(&gateway, "POST", &at("/cancel"), &gateway.key).expect(400).json();
        assert_eq!(refusal["error"]["type"], "invalid_request_error", "{refusal}");
        let deleted = bare(&gateway, "DELETE", &at(""), &gateway.key).expect(200).json();
        assert_eq!(deleted, json!({"id": id, "object": "response.deleted", "deleted": true}));
        let asked = journal(&region).len();
        for (method, below) in KEPT {
            assert_eq!(bare(&gateway, method, &at(below), &gateway.key).expect(404).code(), "response_not_found");
        }
        let refusal = gateway.post(PATH, &after(id, "And?").to_string()).expect(404);
        assert_eq!(refusal.code(), "previous_response_not_found");
        assert_eq!(journal(&region).len(), asked, "nobody is asked for what is known to be gone");
    }
    gateway.settle();
    assert_eq!(gateway.rows().len(), 3, "reading is not billed");
}

#[test]
fn a_follow_up_goes_on_from_it() {
    let region = region("east");
    let gateway = TestGateway::before(region.addr());
    let first = created(&gateway, &ask("Name a colour."));
    let streamed = gateway.post(PATH, &{
        let mut body = streamed("Another one.");
        body["previous_response_id"] = first.as_str().into();
        body.to_string()
    });
    let events = events(&streamed.expect(200));
    let second = &events[events.len() - 1]["response"];
    assert_eq!(second["previous_response_id"], first);
    let third = gateway.post(PATH, &after(second["id"].as_str().unwrap(), "And?").to_string()).expect(200).json();
    gateway.settle();
    let inputs: Vec<_> = gateway.rows().iter().rev().map(|row| row.input_tokens).collect();
    assert!(inputs.is_sorted_by(|one, next| one + 15 < *next), "the conversation is read again: {inputs:?}");
    assert_eq!(third["usage"]["input_tokens"], json!(inputs[2]));
}

#[test]
fn what_was_not_to_be_stored_is_not_found() {
    let region = region("east");
    let gateway = TestGateway::before(region.addr());
    for mut body in [ask("a"), streamed("a")] {
        body["store"] = false.into();
        let answer = gateway.post(PATH, &body.to_string()).expect(200);
        let at = answer.text().find("\"resp_").unwrap() + 1;
        let id = answer.text()[at..].split('"').next().unwrap();
        assert_eq!(gateway.get(&format!("{PATH}/{id}")).expect(404).code(), "response_not_found");
    }
    assert_eq!(journal(&region).len(), 2);
}

#[test]
fn another_keys_response_and_an_unknown_one_are_both_unknown() {
    let region = region("east");
    let gateway = TestGateway::before(region.addr());
    let (_, other) = gateway.new_key(json!({}));
    let id = created(&gateway, &ask("a"));
    let refusal = |method: &str, path: &str, key: &str| {
        let refusal = bare(&gateway, method, path, key).expect(404).json();
        refusal["error"]["message"].as_str().unwrap().replace(path.split('/').nth(3).unwrap(), "ID")
    };
    for (method, below) in KEPT {
        let theirs = refusal(method, &format!("{PATH}/{id}{below}"), &other);
        let unknown = refusal(method, &format!("{PATH}/resp_unheard_of{below}"), &gateway.key);
        assert_eq!(theirs, unknown, "nothing tells the two apart");
    }
    let line = format!("authorization: Bearer {other}\r\n");
    let body = after(&id, "And?").to_string();
    let theirs = gateway.client().send(crate::support::client::post(PATH, &line, body.as_bytes())).answer().expect(404);
    assert_eq!(theirs.code(), "previous_response_not_found");
    for hostile in ["resp_..%2F..%2Fmodels", "%20", "a%00b", &"a".repeat(300)] {
        assert_eq!(gateway.get(&format!("{PATH}/{hostile}")).expect(404).code(), "response_not_found", "{hostile}");
    }
    assert_eq!(journal(&region).len(), 1, "nothing of it reached the region");
    // Its own key still has it.
    gateway.get(&format!("{PATH}/{id}")).expect(200);
    bare(&gateway, "GET", &format!("{PATH}/{id}"), "no-key").expect(401);
}

#[test]
fn reading_counts_against_the_keys_limit() {
    let region = region("east");
    let gateway = TestGateway::before(region.addr());
    let (_, key) = gateway.new_key(json!({"limits": {"rpm": 1}}));
    let mut statuses: Vec<_> = (0..12).map(|_| bare(&gateway, "GET", "/v1/responses/resp_1", &key).status).collect();
    statuses.dedup();
    assert_eq!(statuses, [404, 429]);
}

#[test]
fn a_models_name_says_what_answered() {
    let region = region("east");
    let gateway = TestGateway::before(region.addr());
    let id = created(&gateway, &ask("a"));
    gateway.get(&format!("{PATH}/{id}")).expect(200);
    gateway.get(&format!("{PATH}/resp_2")).expect(404);
    let metrics = bare(&gateway, "GET", "/metrics", ADMIN_KEY).expect(200);
    for (code, model, outcome) in [("200", MODEL, "ok"), ("404", "", "refused")] {
        let line = format!(
            "aoai_gateway_requests_total{{code=\"{code}\",endpoint=\"responses.kept\",model=\"{model}\",outcome=\"{outcome}\"}} 1"
        );
        assert!(metrics.text().contains(&line), "no {line} in {}", metrics.text());
    }
}
