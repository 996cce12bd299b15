//! Users: made, renamed, deleted, and what becomes of their keys.

use serde_json::{Value, json};

use super::{NOBODY, admin, all, gateway, models, text};

#[test]
fn users_are_made_found_renamed_and_deleted() {
    let gateway = gateway();
    let made = admin(&gateway, "POST", "/users", json!({ "name": "Ada" })).expect(201);
    let location = made.header("location").unwrap().to_owned();
    let ada = made.json();
    assert_eq!(location, format!("/admin/v1/users/{}", text(&ada["id"])));
    let path = format!("/users/{}", text(&ada["id"]));
    assert_eq!(gateway.admin("GET", &path, "").expect(200).json(), ada);
    admin(&gateway, "POST", "/users", json!({ "name": "Ada" })).expect(409);
    for n in 0..7 {
        admin(&gateway, "POST", "/users", json!({ "name": format!("user_{n}") })).expect(201);
    }
    assert_eq!(all(&gateway, "/users").len(), 8);
    assert_eq!(all(&gateway, "/users?q=R_3").len(), 1);
    let (_, secret) = gateway.new_key(json!({ "user": "Ada" }));
    gateway.new_key(json!({ "user": ada["id"] }));
    assert_eq!(gateway.admin("GET", &path, "").expect(200).json()["keys"], 2);
    let renamed = admin(&gateway, "PATCH", &path, json!({ "name": "Ada Lovelace" })).expect(200).json();
    assert_eq!((&renamed["id"], &renamed["name"], &renamed["keys"]), (&ada["id"], &json!("Ada Lovelace"), &json!(2)));
    admin(&gateway, "PATCH", &path, json!({ "name": "user_3" })).expect(409);
    assert_eq!(all(&gateway, "/keys?user=Ada%20Lovelace").len(), 2);

    let refused = gateway.admin("DELETE", &path, "").expect(409).json();
    assert!(text(&refused["detail"]).contains("2 keys"), "{refused}");
    assert_eq!(models(&gateway, &secret), 200);
    gateway.admin("DELETE", &format!("{path}?keys=keep"), "").expect(422);
    gateway.admin("DELETE", &format!("{path}?keys=revoke"), "").expect(204);
    assert_eq!(models(&gateway, &secret), 401);
    for (method, body) in [("GET", Value::Null), ("PATCH", json!({ "name": "x" })), ("DELETE", Value::Null)] {
        admin(&gateway, method, &path, body).expect(404);
    }
    assert_eq!(all(&gateway, "/users?q=ada").len(), 0);
    let again = admin(&gateway, "POST", "/users", json!({ "name": "Ada Lovelace" })).expect(201).json();
    assert_ne!(again["id"], ada["id"], "the name is free, and somebody else's");
    let actions: Vec<_> =
        all(&gateway, &format!("/audit?target={}", text(&ada["id"]))).iter().map(|row| text(&row["action"])).collect();
    assert_eq!(actions, ["user.deleted", "user.changed", "user.created"]);
    assert_eq!(all(&gateway, "/audit?action=key.revoked").len(), 2);
    // A key's user who is deleted is no owner for a new one.
    let problem = admin(&gateway, "POST", "/keys", json!({ "name": "x", "user": ada["id"] })).expect(422).json();
    assert_eq!(problem["errors"][0]["pointer"], "/user");
}

#[test]
fn what_is_no_user_is_said() {
    let gateway = gateway();
    for (body, pointer) in [
        (json!({}), "/name"),
        (json!({ "name": "" }), "/name"),
        (json!({ "name": "a\nb" }), "/name"),
        (json!({ "name": format!("user_{NOBODY}") }), "/name"),
        (json!({ "name": "x", "email": "y" }), "/email"),
    ] {
        let problem = admin(&gateway, "POST", "/users", body.clone()).expect(422);
        assert_eq!(problem.header("content-type"), Some("application/problem+json"));
        assert_eq!(problem.json()["errors"][0]["pointer"], pointer, "{body}");
    }
    for id in ["x", &format!("key_{NOBODY}"), &format!("user_{NOBODY}"), "user_", "%00"] {
        gateway.admin("GET", &format!("/users/{id}"), "").expect(404);
    }
}
