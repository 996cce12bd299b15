//! Sessions of callers who bring Azure's own key, and of those who bring none.

use aoai_gateway::settings::model::{Admission, Credential};

use super::*;
use crate::support::gateway::AZURE_KEY;

fn world_of(admission: Admission) -> (Simulator, TestGateway) {
    let azure = region("east");
    let gateway = TestGateway::with(|estate| {
        estate.0.compat.callers = admission;
        let resource = estate.azure("east", azure.addr());
        if admission == Admission::AzureKeys {
            resource.credential = Credential::Callers;
        }
    });
    (azure, gateway)
}

#[test]
fn a_key_of_azures_is_sent_with_each_turn_and_a_wrong_one_is_its_callers_affair() {
    let (azure, gateway) = world_of(Admission::AzureKeys);
    let wrong = try_open(&gateway, PATH, "api-key: somebody-elses\r\n");
    let mut wrong = wrong.unwrap_or_else(|refusal| panic!("who but Azure could know: {}", refusal.text()));
    let told = wrong.say(&create("a")).event();
    assert_eq!((&told["type"], &told["status"]), (&json!("error"), &json!(401)));
    assert!(!told.to_string().contains("somebody-elses"));
    wrong.close();
    for (path, lines) in [
        (PATH.to_owned(), format!("authorization: Bearer {AZURE_KEY}\r\n")),
        (format!("{PATH}?api-key={AZURE_KEY}"), String::new()),
        (PATH.to_owned(), format!("sec-websocket-protocol: openai-insecure-api-key.{AZURE_KEY}\r\n")),
    ] {
        let mut session = try_open(&gateway, &path, &lines).unwrap_or_else(|refusal| panic!("{}", refusal.text()));
        answered(&mut session, &create("a"));
        session.close();
    }
    gateway.settle();
    let rows: Vec<_> = rows(&gateway).into_iter().filter(|row| row.status == Some(200)).collect();
    assert_eq!((rows.len(), booked(&rows)), (3, charged(&journal(&azure))));
    assert!(rows.iter().all(|row| row.key_id == rows[0].key_id), "one key is one caller");
}

#[test]
fn anyone_is_let_in_where_the_settings_say_so() {
    let (_azure, gateway) = world_of(Admission::Anyone);
    let mut session = try_open(&gateway, PATH, "").unwrap_or_else(|_| panic!("a key is asked for"));
    answered(&mut session, &create("a"));
    session.close();
}
