//! Keys over the admin plane: found, changed, given another secret.

use std::time::Duration;

use serde_json::{Value, json};

use super::{NOBODY, admin, all, gateway, models, text};
use crate::support::answers::{QUESTION, answered};
use crate::support::client::post;
use crate::support::fake_azure::{FakeAzure, Script};
use crate::support::gateway::{ADMIN_KEY, TestGateway, eventually};

fn names(gateway: &TestGateway, filter: &str) -> Vec<String> {
    let mut names: Vec<_> = all(gateway, &format!("/keys?{filter}")).iter().map(|key| text(&key["name"])).collect();
    names.sort_unstable();
    names
}

#[test]
fn keys_are_found_by_state_user_and_part_of_the_name() {
    let gateway = gateway();
    let make = |members: Value| gateway.new_key(members);
    make(json!({ "name": "100%", "user": "Ada" }));
    make(json!({ "name": "100 percent", "user": "Ada" }));
    make(json!({ "name": "snake_case" }));
    make(json!({ "name": "snakeXcase", "expires_at": "2020-01-01T00:00:00Z" }));
    let (ended, secret) = make(json!({ "name": "back\\slash", "user": "Bob" }));
    gateway.admin("DELETE", &format!("/keys/{ended}"), "").expect(204);
    assert_eq!(names(&gateway, "q=%25"), ["100%"], "a wildcard is a letter");
    assert_eq!(names(&gateway, "q=e_C"), ["snake_case"]);
    assert_eq!(names(&gateway, "q=%5C"), ["back\\slash"]);
    assert_eq!(names(&gateway, "q=SNAKE"), ["snakeXcase", "snake_case"]);
    assert_eq!(names(&gateway, &format!("q={}", &secret[..14])), ["back\\slash"]);
    assert_eq!(names(&gateway, &format!("q={}", &secret[..20])), [""; 0], "of the secret itself nothing is known");
    assert_eq!(names(&gateway, "q="), names(&gateway, ""));
    assert_eq!(names(&gateway, "state=revoked"), ["back\\slash"]);
    assert_eq!(names(&gateway, "state=expired"), ["snakeXcase"]);
    assert_eq!(names(&gateway, "state=active"), ["100 percent", "100%", "snake_case", "test"]);
    let ada = all(&gateway, "/users?q=ada").remove(0);
    assert_eq!(names(&gateway, "user=Ada"), ["100 percent", "100%"]);
    assert_eq!(names(&gateway, &format!("user={}&q=percent", text(&ada["id"]))), ["100 percent"]);
    assert_eq!(names(&gateway, "user=ada"), [""; 0]);
    for wrong in ["state=activ", "limit=0", "limit=201", "cursor=x", "stat=active", "q="] {
        let wrong = if wrong == "q=" { format!("q={}", "x".repeat(201)) } else { wrong.to_owned() };
        let problem = gateway.admin("GET", &format!("/keys?{wrong}"), "").expect(422).json();
        assert!(problem["errors"][0]["pointer"].as_str().unwrap().starts_with('?'), "{problem}");
    }
}

#[test]
fn a_patch_is_in_force_with_its_answer() {
    let gateway = gateway();
    let (id, secret) = gateway.new_key(json!({ "limits": { "rpm": 5, "concurrency": 2 }, "user": "Ada" }));
    let path = format!("/keys/{id}");
    let patch = |body: Value| admin(&gateway, "PATCH", &path, body);
    let before = gateway.admin("GET", &path, "").expect(200).json();
    let after = patch(json!({ "limits": { "rpm": "unlimited" }, "name": "renamed" })).expect(200).json();
    let mut expected = before.clone();
    expected["name"] = json!("renamed");
    expected["limits"]["rpm"] = json!("unlimited");
    assert_eq!(after, expected);
    assert_eq!(after, gateway.admin("GET", &path, "").expect(200).json());
    assert_eq!(patch(json!({ "user": "Bob" })).expect(200).json()["user"]["name"], "Bob");
    let ada = text(&before["user"]["id"]);
    assert_eq!(patch(json!({ "user": ada })).expect(200).json()["user"]["name"], "Ada");
    assert_eq!(patch(json!({ "user": null })).expect(200).json()["user"], Value::Null);
    assert_eq!(models(&gateway, &secret), 200);
    patch(json!({ "expires_at": "2020-01-01T00:00:00Z" })).expect(200);
    assert_eq!(models(&gateway, &secret), 401, "from the answer on");
    patch(json!({ "expires_at": null, "class": "batch" })).expect(200);
    assert_eq!(models(&gateway, &secret), 200);

    let wrong = patch(json!({ "nmae": "x", "limits": { "rmp": 1 }, "regions": ["nowhere"] })).expect(422).json();
    let pointers: Vec<_> = wrong["errors"].as_array().unwrap().iter().map(|error| text(&error["pointer"])).collect();
    assert_eq!(pointers, ["/nmae", "/regions/0", "/limits/rmp"]);
    assert!(text(&wrong["errors"][0]["detail"]).contains("did you mean `name`?"), "{wrong}");
    assert_eq!(patch(json!({ "user": format!("user_{NOBODY}") })).expect(422).json()["errors"][0]["pointer"], "/user");
    gateway.admin("DELETE", &path, "").expect(204);
    patch(json!({ "name": "x" })).expect(409);
    admin(&gateway, "PATCH", &format!("/keys/key_{NOBODY}"), json!({})).expect(404);
}

#[test]
fn patches_of_different_members_at_the_same_time_are_all_kept() {
    let gateway = gateway();
    let (id, _) = gateway.new_key(json!({}));
    let path = format!("/keys/{id}");
    let members = [
        json!({ "name": "renamed" }),
        json!({ "class": "batch" }),
        json!({ "limits": { "rpm": 7 } }),
        json!({ "models": ["gpt-4o-mini"] }),
    ];
    std::thread::scope(|scope| {
        for member in &members {
            let (gateway, path) = (&gateway, &path);
            scope.spawn(move || admin(gateway, "PATCH", path, member.clone()).expect(200));
        }
    });
    let key = gateway.admin("GET", &path, "").expect(200).json();
    assert_eq!((&key["name"], &key["class"], &key["limits"]["rpm"]), (&json!("renamed"), &json!("batch"), &json!(7)));
    assert_eq!(key["models"], json!(["gpt-4o-mini"]));
    let changes = all(&gateway, &format!("/audit?target={id}&action=key.changed"));
    assert_eq!(changes.len(), 4);
}

#[test]
fn a_rotated_key_has_two_secrets_for_a_while_and_one_life() {
    let gateway = gateway();
    let (id, first) = gateway.new_key(json!({ "limits": { "concurrency": 3 } }));
    let rotate = |body: Value| admin(&gateway, "POST", &format!("/keys/{id}/rotate"), body);
    let rotated = rotate(json!({ "grace": "1h" })).expect(200).json();
    let second = text(&rotated["secret"]);
    assert!(second != first && rotated["id"] == json!(id) && rotated["limits"]["concurrency"] == 3, "{rotated}");
    assert!(text(&rotated["share"]["env"]).contains(&second));
    assert_eq!((models(&gateway, &first), models(&gateway, &second)), (200, 200));
    let third = text(&rotate(json!({ "grace": "1h", "secret": "a-secret-of-my-own" })).expect(200).json()["secret"]);
    assert_eq!([&first, &second, &third].map(|secret| models(&gateway, secret)), [200; 3]);
    // What still opens a key is nobody else's.
    admin(&gateway, "POST", "/keys", json!({ "name": "thief", "secret": first })).expect(409);
    // Without grace, all that came before end.
    let last = text(&rotate(json!({})).expect(200).json()["secret"]);
    assert_eq!([&first, &second, &third].map(|secret| models(&gateway, secret)), [401; 3]);
    let next = text(&rotate(json!({ "grace": "300ms" })).expect(200).json()["secret"]);
    eventually(|| match models(&gateway, &last) {
        401 => Ok(()),
        status => Err(format!("{status} after its grace")),
    });
    assert_eq!(models(&gateway, &next), 200);
    for (wrong, pointer) in [
        (json!({ "grace": "31d" }), "/grace"),
        (json!({ "grace": "soon" }), "/grace"),
        (json!({ "grace": 5 }), "/grace"),
        (json!({ "garce": "1h" }), "/garce"),
        (json!({ "secret": "nk-12345678" }), "/secret"),
    ] {
        assert_eq!(rotate(wrong).expect(422).json()["errors"][0]["pointer"], pointer);
    }
    // The empty body that `curl -X POST` sends.
    let empty = gateway.admin("POST", &format!("/keys/{id}/rotate"), "").expect(200).json();
    rotate(json!({ "grace": "1h" })).expect(200);
    gateway.admin("DELETE", &format!("/keys/{id}"), "").expect(204);
    assert_eq!(models(&gateway, &text(&empty["secret"])), 401, "a revoked key has no second secret");
    rotate(json!({})).expect(409);
    admin(&gateway, "POST", &format!("/keys/key_{NOBODY}/rotate"), json!({})).expect(404);
}

#[test]
fn a_key_that_is_used_while_it_is_rotated_never_fails() {
    let gateway = gateway();
    let (id, secret) = gateway.new_key(json!({ "limits": { "rpm": "unlimited" } }));
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut asked = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                assert_eq!(models(&gateway, &secret), 200, "after {asked}");
                asked += 1;
            }
            asked
        });
        for _ in 0..20 {
            admin(&gateway, "POST", &format!("/keys/{id}/rotate"), json!({ "grace": "1h" })).expect(200);
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(asking.join().unwrap() > 0);
    });
}

#[test]
fn changes_are_in_the_audit_with_who_and_what() {
    let gateway = gateway();
    let (writer_id, writer) = super::credential(&gateway, "keys:write");
    let made = super::ask(&gateway, &writer, "POST", "/keys", "x-request-id: my-request\r\n", "{\"name\":\"one\"}");
    let id = text(&made.expect(201).json()["id"]);
    admin(&gateway, "PATCH", &format!("/keys/{id}"), json!({ "name": "two" })).expect(200);
    admin(&gateway, "PATCH", &format!("/keys/{id}"), json!({ "name": "two" })).expect(200);
    admin(&gateway, "POST", &format!("/keys/{id}/rotate"), json!({ "grace": "1h" })).expect(200);
    gateway.admin("DELETE", &format!("/keys/{id}"), "").expect(204);
    gateway.admin("DELETE", &format!("/keys/{id}"), "").expect(204);
    let rows = all(&gateway, &format!("/audit?target={id}"));
    let actions: Vec<_> = rows.iter().rev().map(|row| text(&row["action"])).collect();
    assert_eq!(
        actions,
        ["key.created", "key.changed", "key.rotated", "key.revoked"],
        "what changed nothing is no change"
    );
    let first = &rows[3];
    assert_eq!((&first["actor"], &first["actor_name"]), (&json!(writer_id), &json!("keys:write")));
    assert_eq!((&first["request_id"], &first["address"]), (&json!("my-request"), &json!("127.0.0.1")));
    assert_eq!((&first["before"], &first["after"]["name"]), (&Value::Null, &json!("one")));
    let second = &rows[2];
    assert_eq!((&second["before"]["name"], &second["after"]["name"]), (&json!("one"), &json!("two")));
    assert_eq!(second["actor"], "admin");
    assert!(rows[1]["after"]["old_secret_until"].is_string());
    assert!(rows[0]["after"]["revoked_at"].is_string());
    assert_eq!(all(&gateway, &format!("/audit?actor={writer_id}")).len(), 1);
    let tomorrow = jiff::Timestamp::now() + Duration::from_secs(86_400);
    assert_eq!(all(&gateway, &format!("/audit?from={tomorrow}")).len(), 0);
    assert_eq!(all(&gateway, &format!("/audit?to={tomorrow}&target={id}")).len(), 4);
}

/// What is made with a quota is shown with it; its use is no change that `If-Match` would notice.
#[test]
fn a_key_is_shown_with_its_quota_which_has_a_place_of_its_own() {
    let azure = FakeAzure::start(Script::always(answered()));
    let gateway = TestGateway::before(azure.address());
    let (id, secret) = gateway.new_key(json!({ "quota": { "period": "month", "tokens": 1_000 } }));
    let path = format!("/keys/{id}");
    let before = gateway.admin("GET", &path, "").expect(200);
    assert_eq!(before.json()["quota"]["remaining_tokens"], 1_000);
    let line = format!("authorization: Bearer {secret}\r\n");
    gateway.client().send(post("/v1/chat/completions", &line, QUESTION.as_bytes())).answer().expect(200);
    gateway.settle();
    let after = gateway.admin("GET", &path, "").expect(200);
    assert_eq!(after.json()["quota"], gateway.admin("GET", &format!("{path}/quota"), "").expect(200).json());
    assert_eq!(after.json()["quota"]["used_tokens"], 17);
    assert_eq!(after.header("etag"), before.header("etag"));

    let problem = admin(&gateway, "PATCH", &path, json!({ "quota": { "tokens": 5 } })).expect(422).json();
    assert_eq!(problem["errors"].as_array().unwrap().len(), 1, "{problem}");
    assert_eq!(problem["errors"][0]["pointer"], "/quota");
    assert!(text(&problem["errors"][0]["detail"]).contains("PUT /admin/v1/keys/{id}/quota"), "{problem}");
    let renamed = admin(&gateway, "PATCH", &path, json!({ "name": "renamed" })).expect(200).json();
    assert_eq!(renamed["quota"]["used_tokens"], 17);
}

/// Its owner would be an admin.
#[test]
fn an_admin_key_is_no_callers() {
    let gateway = gateway();
    let (id, _) = gateway.new_key(json!({}));
    let (_, reader) = super::credential(&gateway, "read");
    for taken in [ADMIN_KEY, &reader] {
        for (path, body) in [
            ("/keys".to_owned(), json!({ "name": "x", "secret": taken })),
            (format!("/keys/{id}/rotate"), json!({ "secret": taken })),
        ] {
            let problem = admin(&gateway, "POST", &path, body).expect(422);
            assert_eq!(problem.json()["errors"][0]["pointer"], "/secret");
            assert!(!problem.text().contains(taken), "{}", problem.text());
        }
    }
}
