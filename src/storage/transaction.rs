//! A transaction of the ledger's own connection.
//!
//! As diesel's `immediate_transaction`, but its words are prepared once: diesel has SQLite parse them each time, which is a
//! twentieth of what a short transaction costs. It does not nest, and diesel's own may not be begun inside.

use diesel::prelude::*;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::sqlite::Sqlite;

macro_rules! word {
    ($name:ident, $sql:literal) => {
        #[derive(Clone, Copy, Debug, QueryId)]
        struct $name;

        impl QueryFragment<Sqlite> for $name {
            fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
                out.push_sql($sql);
                Ok(())
            }
        }

        impl<Connection> RunQueryDsl<Connection> for $name {}
    };
}

word!(Begin, "BEGIN IMMEDIATE");
word!(Commit, "COMMIT");
word!(Rollback, "ROLLBACK");

/// Commits what `change` did, or nothing of it.
pub(super) fn immediate<T, E: From<diesel::result::Error>>(
    connection: &mut SqliteConnection,
    change: impl FnOnce(&mut SqliteConnection) -> Result<T, E>,
) -> Result<T, E> {
    Begin.execute(connection)?;
    let done = change(connection).and_then(|done| Ok(Commit.execute(connection).map(|_| done)?));
    if done.is_err() {
        // Where SQLite has rolled back by itself there is nothing left to do, and it says so. What cannot be rolled back
        // keeps the next transaction from beginning, and that failure is told.
        let _ = Rollback.execute(connection);
    }
    done
}

#[cfg(test)]
mod tests {
    use diesel::connection::SimpleConnection;
    use diesel::result::Error;

    use super::*;

    #[derive(QueryableByName)]
    struct Count {
        #[diesel(sql_type = diesel::sql_types::BigInt)]
        n: i64,
    }

    fn rows(connection: &mut SqliteConnection) -> i64 {
        let count: Count = diesel::sql_query("SELECT count(*) AS n FROM t").get_result(connection).unwrap();
        count.n
    }

    #[test]
    fn what_failed_is_not_there_and_the_next_one_begins() {
        let mut connection = SqliteConnection::establish(":memory:").unwrap();
        connection
            .batch_execute(
                "PRAGMA foreign_keys = ON; CREATE TABLE t (n INTEGER PRIMARY KEY, \
                 of INTEGER REFERENCES t (n) DEFERRABLE INITIALLY DEFERRED)",
            )
            .unwrap();
        let insert = |sql: &'static str| move |connection: &mut SqliteConnection| connection.batch_execute(sql);
        for _ in 0..2 {
            let failed = immediate(&mut connection, |connection| {
                connection.batch_execute("INSERT INTO t VALUES (1, NULL)")?;
                Err::<(), _>(Error::RollbackTransaction)
            });
            assert_eq!(failed, Err(Error::RollbackTransaction));
            assert_eq!(rows(&mut connection), 0);
        }
        // Only the commit finds out.
        assert!(immediate(&mut connection, insert("INSERT INTO t VALUES (1, 7)")).is_err());
        assert_eq!(rows(&mut connection), 0);
        immediate(&mut connection, insert("INSERT INTO t VALUES (1, NULL)")).unwrap();
        assert_eq!(rows(&mut connection), 1);
    }
}
