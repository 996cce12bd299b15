//! Items of earlier answers that a request names instead of repeating them: they are kept as their responses are.

use serde_json::{Value, json};

use super::{PATH, ask, bare, events, journal, region, streamed};
use crate::support::client::post;
use crate::support::gateway::{AZURE_KEY, DEPLOYMENT, MODEL, TestGateway};

fn naming(ids: &[&str]) -> Value {
    let mut input: Vec<_> = ids.iter().map(|id| json!({"type": "item_reference", "id": id})).collect();
    input.push(json!({"role": "user", "content": "And?"}));
    json!({"model": MODEL, "input": input})
}

/// The response and the message in it.
fn made(response: &Value) -> (String, String) {
    let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("no id in {response}")).to_owned();
    (text(&response["id"]), text(&response["output"][0]["id"]))
}

#[test]
fn a_named_item_leads_to_its_resource_and_is_its_keys_own() {
    let (east, west) = (region("east"), region("west"));
    let gateway = TestGateway::with(|estate| {
        estate.azure("east", east.addr());
        estate.azure("west", west.addr());
    });
    // One of each region, made whole or streamed.
    let mut items = [None, None];
    for round in 0..200 {
        let response = if round % 2 == 0 {
            gateway.post(PATH, &ask("Name a colour.").to_string()).expect(200).json()
        } else {
            events(&gateway.post(PATH, &streamed("Name a colour.").to_string()).expect(200)).pop().unwrap()["response"]
                .take()
        };
        let (id, item) = made(&response);
        let at_east = journal(&east).iter().any(|entry| entry.completion_id.as_ref() == Some(&id));
        items[usize::from(!at_east)] = Some(item);
        if round > 1 && items.iter().all(Option::is_some) {
            break;
        }
    }
    let [Some(eastern), Some(western)] = items else { panic!("one region was never asked") };
    for (item, region) in [(&eastern, &east), (&western, &west)] {
        for _ in 0..3 {
            let before = journal(region).len();
            let answer = gateway.post(PATH, &naming(&[item]).to_string()).expect(200).json();
            assert!(answer["usage"]["input_tokens"].as_u64() > Some(40), "the item was read: {answer}");
            assert_eq!(journal(region).len(), before + 1);
        }
    }
    let seen = [journal(&east).len(), journal(&west).len()];
    let both = gateway.post(PATH, &naming(&[&eastern, &western]).to_string()).expect(400);
    assert_eq!(both.code(), "kept_apart");
    let (_, other) = gateway.new_key(json!({}));
    let spelt = naming(&[&eastern]).to_string().replace("item_reference", "item\\u005freference");
    for body in
        [naming(&[&eastern]).to_string(), spelt, json!({"model": MODEL, "input": [{"id": eastern}]}).to_string()]
    {
        let line = format!("authorization: Bearer {other}\r\n");
        let refusal = gateway.client().send(post(PATH, &line, body.as_bytes())).answer().expect(404);
        assert_eq!(refusal.code(), "item_not_found", "{body}");
    }
    assert_eq!(gateway.post(PATH, &naming(&["msg_unheard_of"]).to_string()).expect(404).code(), "item_not_found");
    assert_eq!([journal(&east).len(), journal(&west).len()], seen, "nothing of it reached a region");
}

#[test]
fn what_the_resource_has_forgotten_is_the_clients_404_and_not_the_deployments() {
    let east = region("east");
    let gateway = TestGateway::before(east.addr());
    let (id, item) = made(&gateway.post(PATH, &ask("Name a colour.").to_string()).expect(200).json());
    // Past the gateway.
    let head = format!("DELETE /openai/v1/responses/{id} HTTP/1.1\r\nhost: x\r\napi-key: {AZURE_KEY}\r\n\r\n");
    crate::support::client::Client::connect(east.addr()).send(head).answer().expect(200);
    let refusal = gateway.post(PATH, &naming(&[&item]).to_string()).expect(404).json();
    assert!(refusal["error"]["message"].as_str().unwrap().starts_with("Item with id"), "{refusal}");
    gateway.get(&format!("{PATH}/{id}")).expect(404);
    bare(&gateway, "DELETE", &format!("{PATH}/{id}"), &gateway.key).expect(404);
    gateway.settle();
    let row = gateway.rows().remove(0);
    assert_eq!((row.status, row.state.as_str(), row.input_tokens), (Some(404), "settled", 0), "{row:?}");
    gateway.post(PATH, &ask("Still there?").to_string()).expect(200);
    assert_eq!(journal(&east).last().unwrap().deployment, DEPLOYMENT);
}
