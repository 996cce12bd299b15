//! Every route for every role. A route that is not in this matrix fails the build.

use std::collections::BTreeSet;

use aoai_gateway::http::admin::routes::{Gives, ROUTES};

use super::{NOBODY, admin, ask, credential, gateway, models};
use crate::support::client::{Answer, get, post};
use crate::support::gateway::{ADMIN_KEY, TestGateway};
use serde_json::json;

/// The narrowest scope that opens it.
const MATRIX: [(&str, &str, &str); 40] = [
    ("GET", "/keys", "read"),
    ("POST", "/keys", "keys:write"),
    ("GET", "/keys/{id}", "read"),
    ("PATCH", "/keys/{id}", "keys:write"),
    ("DELETE", "/keys/{id}", "keys:write"),
    ("POST", "/keys/{id}/rotate", "keys:write"),
    ("GET", "/keys/{id}/quota", "read"),
    ("PUT", "/keys/{id}/quota", "keys:write"),
    ("GET", "/keys/{id}/grants", "read"),
    ("POST", "/keys/{id}/grants", "keys:write"),
    ("DELETE", "/keys/{id}/grants/{grant}", "keys:write"),
    ("GET", "/keys/{id}/usage", "read"),
    ("GET", "/users/{id}/quota", "read"),
    ("PUT", "/users/{id}/quota", "keys:write"),
    ("GET", "/users/{id}/limits", "read"),
    ("PUT", "/users/{id}/limits", "keys:write"),
    ("GET", "/users", "read"),
    ("POST", "/users", "keys:write"),
    ("GET", "/users/{id}", "read"),
    ("PATCH", "/users/{id}", "keys:write"),
    ("DELETE", "/users/{id}", "keys:write"),
    ("GET", "/usage", "read"),
    ("GET", "/requests", "read"),
    ("GET", "/requests/{id}", "read"),
    ("GET", "/models", "read"),
    ("GET", "/resources", "read"),
    ("GET", "/resources/{name}", "read"),
    ("POST", "/resources/{name}/drain", "admin"),
    ("POST", "/resources/{name}/enable", "admin"),
    ("POST", "/resources/{name}/test", "admin"),
    ("GET", "/settings", "read"),
    ("POST", "/settings/reload", "admin"),
    ("POST", "/settings/check", "admin"),
    ("GET", "/audit", "admin"),
    ("GET", "/events", "read"),
    ("GET", "/me", "read"),
    ("GET", "/admin-keys", "admin"),
    ("POST", "/admin-keys", "admin"),
    ("GET", "/admin-keys/{id}", "admin"),
    ("DELETE", "/admin-keys/{id}", "admin"),
];

#[test]
fn the_matrix_is_the_table_of_routes() {
    let known: BTreeSet<_> = MATRIX.map(|(method, path, scope)| (method, path, scope.to_owned())).into_iter().collect();
    let built: BTreeSet<_> =
        ROUTES.iter().map(|route| (route.verb.label(), route.path, route.scope.label().to_owned())).collect();
    assert_eq!(known, built);
}

/// The head alone where the answer has no end.
fn status(gateway: &TestGateway, key: &str, method: &str, path: &str) -> Answer {
    let filled =
        path.replace("{id}", &format!("key_{NOBODY}")).replace("{name}", "nowhere").replace("{grant}", "grant_1");
    let streams = ROUTES.iter().any(|route| route.path == path && route.gives == Gives::Events);
    if streams && !key.is_empty() {
        let mut client = gateway.client();
        client.send(get(&format!("/admin/v1{filled}"), &format!("authorization: Bearer {key}\r\n")));
        return client.head();
    }
    ask(gateway, key, method, &filled, "", if method == "GET" { "" } else { "{}" })
}

#[test]
fn every_route_is_open_for_those_who_may_and_for_nobody_else() {
    let gateway = gateway();
    let (_, reader) = credential(&gateway, "read");
    let (_, writer) = credential(&gateway, "keys:write");
    let (_, second) = credential(&gateway, "admin");
    let (ended_id, ended) = credential(&gateway, "admin");
    gateway.admin("DELETE", &format!("/admin-keys/{ended_id}"), "").expect(204);
    let expired = json!({ "name": "gone", "scopes": ["admin"], "expires_at": "2020-01-01T00:00:00Z" });
    let expired = super::text(&admin(&gateway, "POST", "/admin-keys", expired).expect(201).json()["secret"]);
    let mut asked = 0;
    for (method, path, scope) in MATRIX {
        let reach = ["read", "keys:write", "admin"].iter().position(|known| *known == scope).unwrap();
        let strangers = [("", "no key"), (gateway.key.as_str(), "a caller's key")];
        for (key, who) in strangers {
            let answer = status(&gateway, key, method, path);
            assert_eq!(answer.status, 401, "{who}: {method} {path}");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        }
        for (own, key) in [reader.as_str(), writer.as_str(), second.as_str()].into_iter().enumerate() {
            let answer = status(&gateway, key, method, path);
            let refused = answer.status == 403;
            assert_eq!(refused, own < reach, "{method} {path} with scope {own}: {}", answer.status);
            assert!(![401, 405, 500].contains(&answer.status), "{method} {path} with scope {own}: {}", answer.status);
            asked += 1;
        }
        assert!(![401, 403, 405].contains(&status(&gateway, ADMIN_KEY, method, path).status), "{method} {path}");
    }
    assert_eq!(asked, ROUTES.len() * 3);
    for key in [ended, expired] {
        ask(&gateway, &key, "GET", "/keys", "", "").expect(401);
    }
    for (method, path, _) in MATRIX {
        let filled = path.replace("{id}", "x").replace("{name}", "x").replace("{grant}", "x");
        let others = ask(&gateway, ADMIN_KEY, "OPTIONS", &filled, "", "").expect(405);
        assert!(others.header("allow").unwrap().split(", ").any(|allowed| allowed == method), "{path}");
    }
}

#[test]
fn a_key_of_one_plane_opens_nothing_on_the_other() {
    let gateway = gateway();
    let (_, second) = credential(&gateway, "admin");
    for key in [ADMIN_KEY, &second] {
        assert_eq!(models(&gateway, key), 401);
    }
    assert_eq!(models(&gateway, &gateway.key), 200);
}

#[test]
fn no_spelling_of_a_path_goes_around_the_door() {
    let gateway = gateway();
    for (_, path, _) in MATRIX {
        let path =
            path.replace("{id}", &format!("key_{NOBODY}")).replace("{name}", "nowhere").replace("{grant}", "grant_1");
        let spelled = [
            format!("/admin/v1{path}/"),
            format!("//admin//v1{path}"),
            format!("/admin/v1/.{path}"),
            format!("/v1/../admin/v1{path}"),
            format!("/admin/v1{path};x=/v1/models"),
            format!("/admin/v1{path}?x=/healthz"),
            format!("/admin/v1{}", path.to_uppercase()),
            format!("/admin%2fv1{path}"),
            format!("/%61dmin/v1{path}"),
            format!("/admin/v1{path}%00"),
            format!("/openai/admin/v1{path}"),
            format!("http://gateway/admin/v1{path}"),
            format!("http://gateway@healthz/admin/v1{path}"),
        ];
        for spelling in spelled {
            for lines in ["", "x-forwarded-prefix: /healthz\r\nx-original-url: /healthz\r\nx-rewrite-url: /healthz\r\n"]
            {
                for request in [get(&spelling, lines), post(&spelling, lines, b"{}")] {
                    let status = gateway.client().send(request).answer().status;
                    assert!((400..500).contains(&status), "{spelling}: {status}");
                }
            }
        }
    }
    let body = json!({ "name": "x" }).to_string();
    for host in ["healthz", "gateway/healthz?", "gateway:80/../healthz"] {
        let request =
            format!("POST /admin/v1/keys HTTP/1.1\r\nhost: {host}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let status = gateway.client().send(request).answer().status;
        assert!((400..500).contains(&status), "{host}: {status}");
    }
}
