//! PostgreSQL over TLS, as the container image speaks it: the system's libpq.

use diesel::RunQueryDsl;
use diesel::connection::SimpleConnection;
use diesel::sql_types::{BigInt, Bool};

use super::{CHAT, projected, region, replica};
use crate::support::gateway::eventually;
use crate::support::postgres::{self, Server};

#[derive(diesel::QueryableByName)]
struct Seen {
    #[diesel(sql_type = BigInt)]
    connections: i64,
    #[diesel(sql_type = Bool)]
    encrypted: bool,
}

#[test]
fn the_servers_certificate_is_checked_and_every_connection_encrypted() {
    let (server, azure) = (Server::start(), region());
    let url = server.database();
    let authority = server.encrypt("localhost");
    let mut plain = postgres::connect(&url);
    eventually(|| {
        let _ = plain.batch_execute("SELECT pg_reload_conf()");
        let encrypted = format!("{url}?sslmode=require");
        <diesel::PgConnection as diesel::Connection>::establish(&encrypted).map(drop).map_err(|error| error.to_string())
    });

    let url = url.replace("127.0.0.1", "localhost");
    let url = format!("{url}?sslmode=verify-full&sslrootcert={}", authority.display());
    let gateway = replica(&url, azure.addr());
    gateway.chat(CHAT).expect(200);
    projected(&gateway, 1);
    let seen = "SELECT COUNT(*) AS connections, COALESCE(bool_and(ssl), false) AS encrypted FROM pg_stat_ssl \
                JOIN pg_stat_activity USING (pid) WHERE application_name = 'aoai-gateway'";
    let Seen { connections, encrypted } = diesel::sql_query(seen).get_result(&mut plain).unwrap();
    assert!(connections >= 2 && encrypted, "{connections} connections");
}
