//! libli/chatazure, as its documentation describes it.

use super::{AZURE_KEY, HELLO, Place, chat, fetch, says};
use crate::support::gateway::eventually;

fn config(users: &str) -> String {
    format!(
        "web:\n  port: 8080\n  dbName: chat.db\nazure:\n  endpoint: https://contoso.openai.azure.com/\n  \
         api-version: 2023-07-01-preview\n  api-key: {AZURE_KEY}\n  deployments:\n    gpt-3.5-turbo: gpt-35-turbo\n    \
         gpt-4: gpt-4\nusers:\n{users}"
    )
}

#[test]
fn the_documented_run_with_an_empty_database() {
    let place = Place::with(&["gpt-35-turbo", "gpt-4"]);
    place.write("config.yaml", &config("  - username: amy\n    password: amy-password\n"));
    place.write("chat.db", "");
    let gateway = place.start(&[]);
    chat(&gateway, "Bearer amy-password", HELLO).expect(200);
    chat(&gateway, "amy-password", &HELLO.replace("gpt-3.5-turbo", "gpt-4")).expect(200);
    says(&fetch(&gateway, "/healthz"), 200, "Healthy");
    says(&chat(&gateway, "", HELLO), 401, "Unauthorized");
    says(&chat(&gateway, "Bearer nobody", HELLO), 401, "Unauthorized");
    says(&chat(&gateway, "amy-password", &HELLO.replace("gpt-3.5-turbo", "gpt-9")), 400, "Unsupported model\n");
    says(&chat(&gateway, "amy-password", "{"), 400, "Unsupported model\n");
    says(&fetch(&gateway, "/v1/nothing"), 404, "404 page not found\n");
    assert_eq!(fetch(&gateway, "/v1/models").status, 401);

    // By hand, in the table that was made of the empty file; its credential is a password.
    place.sql("chat.db", "INSERT INTO users (username, password) VALUES ('bob', 'bob-password')");
    eventually(|| match chat(&gateway, "bob-password", HELLO).status {
        200 => Ok(()),
        status => Err(format!("bob is answered with {status}")),
    });
    // The file has the last word on who is disabled, the settings on passwords.
    place.sql("chat.db", "INSERT INTO users (username, password, status) VALUES ('amy', 'other-password', 0)");
    eventually(|| match chat(&gateway, "amy-password", HELLO).status {
        401 => Ok(()),
        status => Err(format!("amy is answered with {status}")),
    });
    assert_eq!(chat(&gateway, "other-password", HELLO).status, 401);
    gateway.stop();
    let bytes = place.read("chat.db");
    assert!(!bytes.windows(12).any(|w| w == b"bob-password"));
}

#[test]
fn an_adopted_database_has_both_formats_of_time() {
    let place = Place::with(&["gpt-35-turbo", "gpt-4"]);
    place.write("config.yaml", &config("  - {username: amy, password: amy-password, gpt4: true}\n"));
    place.sql(
        "chat.db",
        "CREATE TABLE users (id integer, username text NOT NULL, password text NOT NULL, can_use_gpt4 integer NOT NULL \
         DEFAULT 1, count integer NOT NULL DEFAULT 0, status integer NOT NULL DEFAULT 1, create_time datetime NOT NULL \
         DEFAULT CURRENT_TIMESTAMP, update_time datetime NOT NULL DEFAULT CURRENT_TIMESTAMP, PRIMARY KEY (id));
         CREATE UNIQUE INDEX uk_username ON users (username);
         INSERT INTO users VALUES (1, 'old', 'old-password', 1, 41, 1, '2023-09-18 10:00:00.123456789+08:00', '2023-09-18 10:00:00.1+08:00');
         INSERT INTO users VALUES (2, 'hand', 'hand-password', 1, 7, 1, '2023-09-18 02:00:00', '2023-09-18 02:00:00');
         INSERT INTO users VALUES (3, 'odd', 'odd-password', 1, 0, 2, '2023-09-18 02:00:00', '2023-09-18 02:00:00')",
    );
    let gateway = place.start(&[("GATEWAY_ADMIN_KEY", crate::support::process::ADMIN_KEY)]);
    for password in ["amy-password", "old-password", "hand-password"] {
        chat(&gateway, password, HELLO).expect(200);
    }
    assert_eq!(chat(&gateway, "odd-password", HELLO).status, 401, "only exactly 1 was accepted");
    let keys = gateway.admin("/admin/v1/keys").expect(200).json();
    let made = |name: &str| {
        let keys = keys["data"].as_array().unwrap();
        keys.iter().find(|key| key["name"] == name).unwrap()["created_at"].as_str().unwrap().to_owned()
    };
    assert_eq!(made("old"), "2023-09-18T02:00:00.123456Z");
    assert_eq!(made("hand"), "2023-09-18T02:00:00.000000Z");
    gateway.stop();
}

#[test]
fn who_may_use_gpt_4_where_the_file_says_so() {
    let place = Place::with(&["gpt-35-turbo", "gpt-4"]);
    let users =
        "  - {username: amy, password: amy-password, gpt4: true}\n  - {username: bob, password: bob-password}\n";
    place.write("config.yaml", &config(users));
    let gateway = place.start(&[]);
    let gpt4 = HELLO.replace("gpt-3.5-turbo", "gpt-4");
    chat(&gateway, "amy-password", &gpt4).expect(200);
    chat(&gateway, "bob-password", HELLO).expect(200);
    says(&chat(&gateway, "bob-password", &gpt4), 403, "Forbidden Use GPT-4\n");
    gateway.stop();
}
