//! One schema in two dialects: the same steps, the same tables, the same columns; up, down, and beside an older version.

use std::collections::BTreeMap;
use std::path::Path;

use aoai_gateway::settings::model::Durability;
use aoai_gateway::storage::Store;
use diesel::connection::SimpleConnection;
use diesel::sql_types::Text;
use diesel::{QueryableByName, RunQueryDsl, SqliteConnection};
use diesel_migrations::{FileBasedMigrations, MigrationHarness};

use super::{CHAT, projected, region, replica};
use crate::support::{postgres, sqlite};

/// What only one of the two has: the list of what is to be brought over, and how far it was.
const OWN_TO_SQLITE: [&str; 3] = ["unprojected", "chains", "underway"];
/// The journal's chain, in its table of requests.
const COLUMNS_OF_THE_CHAIN: [&str; 2] = ["chained", "chain"];
const OWN_TO_POSTGRES: [&str; 6] = ["applied", "pauses", "quota_alarms", "quota_leases", "quota_lent", "replicas"];

fn steps(database: &str) -> Vec<String> {
    let folder = std::fs::read_dir(format!("{}/migrations/{database}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let mut names: Vec<_> = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn migrations(database: &str) -> FileBasedMigrations {
    FileBasedMigrations::from_path(Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(database)).unwrap()
}

#[derive(QueryableByName)]
struct Column {
    #[diesel(sql_type = Text)]
    place: String,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    kind: String,
}

/// Table, then column, then its type and whether it may be null, in PostgreSQL's words.
type Tables = BTreeMap<String, BTreeMap<String, String>>;

fn tables(columns: Vec<Column>) -> Tables {
    let mut tables = Tables::new();
    for Column { place, name, kind } in columns {
        tables.entry(place).or_default().insert(name, kind);
    }
    tables.retain(|name, _| name != "__diesel_schema_migrations" && !name.starts_with("sqlite_"));
    tables
}

fn of_sqlite(connection: &mut SqliteConnection) -> Tables {
    let columns = "SELECT t.name AS place, c.name, c.type || iif(c.\"notnull\" OR c.pk, ' NOT NULL', '') AS kind \
                   FROM sqlite_schema AS t, pragma_table_info(t.name) AS c WHERE t.type = 'table'";
    let mut columns: Vec<Column> = diesel::sql_query(columns).load(connection).unwrap();
    for column in &mut columns {
        column.kind = column.kind.replace("BLOB", "bytea").replace("INTEGER", "number").replace("TEXT", "text");
    }
    tables(columns)
}

fn of_postgres(connection: &mut diesel::PgConnection) -> Tables {
    let columns = "SELECT table_name::text AS place, column_name::text AS name, \
                   data_type || CASE is_nullable WHEN 'NO' THEN ' NOT NULL' ELSE '' END AS kind \
                   FROM information_schema.columns WHERE table_schema = 'public'";
    let mut columns: Vec<Column> = diesel::sql_query(columns).load(connection).unwrap();
    for column in &mut columns {
        for kind in ["bigint", "integer", "boolean"] {
            column.kind = column.kind.replace(kind, "number");
        }
    }
    tables(columns)
}

#[test]
fn both_databases_take_the_same_steps() {
    assert_eq!(steps("sqlite"), steps("postgres"));
}

#[test]
fn both_schemas_have_the_same_columns_and_every_step_goes_down_and_up_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.db");
    drop(Store::open(&path, Durability::Process).unwrap());
    let mut sqlite = sqlite::connect(&path);
    let mut postgres = postgres::connect(&postgres::database());
    postgres.run_pending_migrations(migrations("postgres")).unwrap();
    let (mut ours, mut theirs) = (of_sqlite(&mut sqlite), of_postgres(&mut postgres));
    let whole = theirs.clone();
    for own in OWN_TO_SQLITE {
        assert!(ours.remove(own).is_some(), "SQLite has no {own}");
    }
    for own in COLUMNS_OF_THE_CHAIN {
        assert!(ours.get_mut("requests").unwrap().remove(own).is_some(), "SQLite's requests have no {own}");
    }
    for own in OWN_TO_POSTGRES {
        assert!(theirs.remove(own).is_some(), "PostgreSQL has no {own}");
    }
    assert_eq!(ours, theirs);

    postgres.revert_all_migrations(migrations("postgres")).unwrap();
    assert!(of_postgres(&mut postgres).is_empty(), "something is left");
    postgres.run_pending_migrations(migrations("postgres")).unwrap();
    assert_eq!(of_postgres(&mut postgres), whole);
}

/// As after an update of another replica: columns and tables, and a step, that this version does not know.
#[test]
fn an_older_version_works_on_a_newer_schema() {
    let (url, azure) = (postgres::database(), region());
    let mut postgres = postgres::connect(&url);
    postgres.run_pending_migrations(migrations("postgres")).unwrap();
    for table in of_postgres(&mut postgres).keys() {
        let added = format!("ALTER TABLE {table} ADD COLUMN from_later TEXT NOT NULL DEFAULT 'x'");
        postgres.batch_execute(&added).unwrap();
    }
    let step = "CREATE TABLE later (id BIGINT); INSERT INTO __diesel_schema_migrations VALUES ('29991231000001')";
    postgres.batch_execute(step).unwrap();

    let gateway = replica(&url, azure.addr());
    gateway.chat(CHAT).expect(200);
    let (id, _) = gateway.new_key(serde_json::json!({}));
    gateway.admin("DELETE", &format!("/keys/{id}"), "").expect(204);
    projected(&gateway, 1);
}
