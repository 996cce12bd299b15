//! How long it is kept who changed what.

use aoai_gateway::domain::ids::AuditId;
use aoai_gateway::domain::time::wall_now;
use aoai_gateway::simulator::Knobs;
use aoai_gateway::storage::audit::By;
use diesel::connection::SimpleConnection;
use serde_json::{Value, json};

use super::text;
use crate::support::gateway::eventually;
use crate::support::process::Estate;
use crate::support::sqlite;

const DAY: i64 = 24 * 3_600_000_000;

#[test]
fn what_is_too_old_is_gone_and_a_row_says_how_much() {
    let estate = Estate::of(&["eastus2"], &Knobs::default(), "[accounting]\nkeep_audit = \"30d\"\n");
    // The key of the estate is the newest change; these are older.
    let mut made = Vec::new();
    for days in [10, 40, 50] {
        let name = format!("{days} days ago");
        estate.store().create_user(&name, &By::local()).unwrap();
        let at = wall_now().0 - days * DAY;
        let id = AuditId::before(aoai_gateway::domain::time::WallTime(at)).0.simple().to_string();
        let sql =
            format!("UPDATE audit SET at = {at}, id = X'{id}' WHERE action = 'user.created' AND after LIKE '%{name}%'");
        sqlite::connect(&estate.database()).batch_execute(&sql).unwrap();
        made.push(name);
    }
    let gateway = estate.start();
    let audit = || -> Vec<Value> {
        let page = gateway.admin("/admin/v1/audit?limit=200").expect(200).json();
        page["data"].as_array().unwrap().clone()
    };
    let rows = eventually(|| {
        let rows = audit();
        match rows.iter().any(|row| row["action"] == "audit.trimmed") {
            true => Ok(rows),
            false => Err(format!("nothing was trimmed: {rows:#?}")),
        }
    });
    let users: Vec<_> =
        rows.iter().filter(|row| row["action"] == "user.created").map(|row| text(&row["after"]["name"])).collect();
    assert_eq!(users, ["10 days ago"]);
    assert!(rows.iter().any(|row| row["action"] == "key.created"));
    let said = rows.iter().find(|row| row["action"] == "audit.trimmed").unwrap();
    assert_eq!((&said["after"]["removed"], &said["actor_name"]), (&json!(2), &json!("the gateway")));
    // What the changes were about is still there.
    let names = gateway.admin("/admin/v1/users").expect(200);
    let names = names.text();
    assert!(made.iter().all(|name| names.contains(name.as_str())), "{names}");
    gateway.stop();
    assert_eq!(estate.run_to_its_end(&["verify"]).0, Some(0), "the books do not depend on it");
}
