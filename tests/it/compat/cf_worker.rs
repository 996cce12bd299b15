//! The Cloudflare worker by haibbo, and its fork by imatrixme.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::{AZURE_KEY, HELLO, Place, chat, curl, fetch, ids, says};

const RUN: [(&str, &str); 3] =
    [("RESOURCE_NAME", "Contoso"), ("DEPLOY_NAME_GPT35", "gpt-35"), ("DEPLOY_NAME_GPT4", "gpt-four")];

#[test]
fn the_callers_bearer_is_the_key_of_azure() {
    let place = Place::with(&["gpt-35", "gpt-four"]);
    let admin = ("GATEWAY_ADMIN_KEY", crate::support::process::ADMIN_KEY);
    let gateway = place.start(&[&RUN[..], &[admin]].concat());
    let bearer = format!("Bearer {AZURE_KEY}");
    for model in ["gpt-3.5-turbo", "gpt-3.5-turbo-0613", "gpt-3.5-turbo-16k", "gpt-4", "gpt-4-32k"] {
        chat(&gateway, &bearer, &HELLO.replace("gpt-3.5-turbo", model)).expect(200);
    }
    curl(&gateway, "//v1/chat/completions", &format!("authorization: {bearer}\r\n"), HELLO).expect(200);
    let served: Vec<_> = place.azure.control().journal().iter().map(|entry| entry.deployment.clone()).collect();
    assert_eq!(served.iter().filter(|name| name.as_str() == "gpt-four").count(), 2, "{served:?}");

    // A key that Azure refuses is its bearer's affair: Azure's own answer, and the others go on.
    for _ in 0..5 {
        let refused = chat(&gateway, "Bearer not-a-key-of-azures", HELLO);
        assert_eq!(refused.status, 401);
        assert!(refused.text().contains("Access denied"), "{}", refused.text());
    }
    chat(&gateway, &bearer, HELLO).expect(200);
    says(&chat(&gateway, "", HELLO), 403, "Not allowed");
    says(&chat(&gateway, &bearer, &HELLO.replace("gpt-3.5-turbo", "gpt-9")), 403, "Missing model mapper");
    says(&fetch(&gateway, "/v1/nothing"), 404, "404 Not Found");
    let list = fetch(&gateway, "/v1/models").expect(200);
    assert!(
        list.text().starts_with("{\n  \"object\": \"list\",\n  \"data\": [\n    {\n      \"id\": "),
        "{}",
        list.text()
    );
    assert!(ids(&list).contains(&"gpt-4-0314".to_owned()), "{:?}", ids(&list));

    // The ledger knows the caller, by a name that gives the key away to nobody.
    let keys = gateway.admin("/admin/v1/keys").expect(200).json();
    let brought: Vec<_> = keys["data"].as_array().unwrap().iter().map(|key| key["name"].as_str().unwrap()).collect();
    assert_eq!(brought.len(), 1, "who only tries keys leaves no row: {brought:?}");
    assert!(brought[0].starts_with("azure key "), "{brought:?}");
    let id = keys["data"][0]["id"].as_str().unwrap();
    let rows = gateway.admin("/admin/v1/requests").expect(200).json();
    let own = rows["data"].as_array().unwrap().iter().filter(|row| row["key_id"] == id).count();
    assert_eq!(own, 7, "{rows}");

    // Revoked here, it is good for nothing here.
    let revoke = format!(
        "DELETE /admin/v1/keys/{id} HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {}\r\ncontent-length: 0\r\n\r\n",
        admin.1
    );
    assert_eq!(gateway.client().send(revoke).answer().status, 204);
    assert_eq!(chat(&gateway, &bearer, HELLO).status, 403);
    let (_, said) = {
        gateway.signal("TERM");
        gateway.last_words()
    };
    assert!(!said.iter().any(|line| line.contains(AZURE_KEY)), "a key in the log");
    for file in ["data/gateway.db", "data/gateway.db-wal"] {
        let bytes = std::fs::read(place.path(file)).unwrap_or_default();
        assert!(!bytes.windows(AZURE_KEY.len()).any(|window| window == AZURE_KEY.as_bytes()), "a key in {file}");
    }
}

#[test]
fn its_streams_are_typed_and_end_with_a_line_feed_more() {
    let place = Place::with(&["gpt-35", "gpt-four"]);
    let gateway = place.start(&RUN);
    let body = HELLO.replacen('{', r#"{"stream":true,"#, 1);
    let began = std::time::Instant::now();
    let answer = chat(&gateway, &format!("Bearer {AZURE_KEY}"), &body).expect(200);
    let events = answer.text().matches("data: ").count() as u32;
    assert!(answer.text().ends_with("data: [DONE]\n\n\n"), "{:?}", answer.text());
    assert!(began.elapsed() >= std::time::Duration::from_millis(20) * (events - 1), "{events} events");
    gateway.stop();
}

#[test]
fn the_fork_has_users_of_its_own() {
    let place = Place::with(&["gpt-35", "gpt-four"]);
    let users = BASE64_STANDARD.encode(r#"[{"name":"amy","key":"amy-key"},{"name":"bob","key":"bob-key"}]"#);
    let own = [("AZURE_AUTHKEY", AZURE_KEY), ("CHIT_USERS", users.as_str())];
    let gateway = place.start(&[&RUN[..], &own].concat());
    for authorization in ["Bearer amy-key", "bob-key"] {
        chat(&gateway, authorization, HELLO).expect(200);
    }
    says(&chat(&gateway, "", HELLO), 403, "Not allowed for no key.");
    says(&chat(&gateway, "Bearer carl-key", HELLO), 403, "Not allowed personal key.");
    says(&chat(&gateway, &format!("Bearer {AZURE_KEY}"), HELLO), 403, "Not allowed personal key.");
    gateway.stop();

    // Whoever is no longer named is no longer let in.
    let users = BASE64_STANDARD.encode(r#"[{"name":"amy","key":"amy-key"}]"#);
    let gateway = place.start(&[&RUN[..], &[own[0], ("CHIT_USERS", &users)]].concat());
    chat(&gateway, "amy-key", HELLO).expect(200);
    assert_eq!(chat(&gateway, "bob-key", HELLO).status, 403);
    gateway.stop();

    let broken = place.output(&["check"], &[&RUN[..], &[own[0], ("CHIT_USERS", "bm90IGpzb24gc2VjcmV0")]].concat());
    let told = String::from_utf8(broken.stdout).unwrap();
    assert_eq!(broken.status.code(), Some(2));
    assert!(told.contains("environment variable CHIT_USERS") && !told.contains("bm90"), "{told}");
}
