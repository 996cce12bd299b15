//! `Idempotency-Key`: a request that is sent twice does its work once.

use serde_json::json;

use super::{all, ask, credential, gateway, models, text};
use crate::support::client::{Answer, find};
use crate::support::gateway::{ADMIN_KEY, TestGateway};

fn create(gateway: &TestGateway, who: &str, key: &str, name: &str) -> Answer {
    let body = json!({ "name": name }).to_string();
    ask(gateway, who, "POST", "/keys", &format!("idempotency-key: {key}\r\n"), &body)
}

#[test]
fn a_repetition_gets_the_same_answer_and_does_nothing() {
    let gateway = gateway();
    let before = all(&gateway, "/keys").len();
    let first = create(&gateway, ADMIN_KEY, "one", "lost").expect(201);
    let again = create(&gateway, ADMIN_KEY, "one", "lost").expect(201);
    assert_eq!((first.json(), first.header("location")), (again.json(), again.header("location")));
    assert_eq!((first.header("idempotent-replayed"), again.header("idempotent-replayed")), (None, Some("true")));
    assert_eq!(models(&gateway, &text(&again.json()["secret"])), 200);
    assert_eq!(all(&gateway, "/keys").len(), before + 1);
    assert_eq!(all(&gateway, "/audit?action=key.created").len(), before + 1);
    // In the database there is nothing of the secret.
    let secret = text(&first.json()["secret"]);
    for file in std::fs::read_dir(gateway.database().parent().unwrap()).unwrap() {
        assert!(find(&std::fs::read(file.unwrap().path()).unwrap(), secret.as_bytes()).is_none());
    }

    let mismatch = create(&gateway, ADMIN_KEY, "one", "another").expect(422).json();
    assert!(text(&mismatch["title"]).contains("mismatch"), "{mismatch}");
    let id = text(&first.json()["id"]);
    let elsewhere = ask(&gateway, ADMIN_KEY, "POST", &format!("/keys/{id}/rotate"), "idempotency-key: one\r\n", "");
    elsewhere.expect(422);
    create(&gateway, ADMIN_KEY, "two", "lost").expect(201);
    // Somebody else's key of the same text is another key.
    let (_, second) = credential(&gateway, "keys:write");
    let theirs = create(&gateway, &second, "one", "lost").expect(201).json();
    assert_ne!(theirs["id"], first.json()["id"]);
    let rotate = |_| {
        let rotated = ask(&gateway, ADMIN_KEY, "POST", &format!("/keys/{id}/rotate"), "idempotency-key: r\r\n", "{}");
        text(&rotated.expect(200).json()["secret"])
    };
    let [one, other] = [(); 2].map(rotate);
    assert!(one == other && models(&gateway, &one) == 200);
}

#[test]
fn what_was_refused_did_nothing_and_may_be_corrected() {
    let gateway = gateway();
    create(&gateway, ADMIN_KEY, "k", "").expect(422);
    create(&gateway, ADMIN_KEY, "k", "corrected").expect(201);
    for bad in ["", &"x".repeat(256), "ä"] {
        create(&gateway, ADMIN_KEY, bad, "x").expect(400);
    }
    let (_, reader) = credential(&gateway, "read");
    create(&gateway, &reader, "k", "x").expect(403);
}

#[test]
fn of_many_at_once_one_does_it() {
    let gateway = gateway();
    let before = all(&gateway, "/keys").len();
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..12).map(|_| scope.spawn(|| create(&gateway, ADMIN_KEY, "race", "race"))).collect();
        asking.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert!(answers.iter().all(|answer| matches!(answer.status, 201 | 409)));
    let made: Vec<_> = answers.iter().filter(|answer| answer.status == 201).map(|answer| answer.json()).collect();
    assert!(!made.is_empty() && made.iter().all(|key| *key == made[0]));
    assert_eq!(all(&gateway, "/keys").len(), before + 1);
}
