//! What `database.url` may not be.

use super::assert_said;

#[test]
fn databases() {
    assert_said(
        r#"
[database]
url = "postgres:db/gateway"
"#,
        r#"
error: `database.url` is not the URL of a PostgreSQL database
  --> settings/20-x.toml:2:7
   |
 2 | url = "postgres:db/gateway"
   |       ^^^^^^^^^^^^^^^^^^^^^
   = tip: write "postgres://USER@HOST/DATABASE"
"#,
    );
}

#[cfg(feature = "bundled-libpq")]
#[test]
fn databases_over_tls_without_tls() {
    assert_said(
        r#"
[database]
url = "postgres://me@db/gateway?sslmode=verify-full"
"#,
        r#"
error: `database.url` asks for TLS, which this build's PostgreSQL client does not have
  --> settings/20-x.toml:2:7
   |
 2 | url = "postgres://…@db/gateway?sslmode=verify-full"
   |       ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
   = tip: use the container image, or build with the system's libpq: cargo build --release --no-default-features
"#,
    );
}

#[test]
fn databases_of_no_kind() {
    assert_said(
        r#"
[database]
url = "data/gateway.db"
"#,
        r#"
error: `database.url` must be "sqlite:" and a path, or "postgres://" and the rest of a URL, not "data/gateway.db"
  --> settings/20-x.toml:2:7
   |
 2 | url = "data/gateway.db"
   |       ^^^^^^^^^^^^^^^^^
"#,
    );
}
