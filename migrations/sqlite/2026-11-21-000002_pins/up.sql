-- Where the upstream keeps what it gave an id to (a stored response), so that what refers to the id goes there, from
-- whichever gateway on this database. Written before anyone is told the id.

CREATE TABLE pins (
    id         TEXT PRIMARY KEY NOT NULL,
    -- Who may refer to it.
    key_id     BLOB NOT NULL,
    resource   TEXT NOT NULL,
    deployment TEXT NOT NULL,
    model      TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    -- The upstream forgets it then.
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX pins_by_expiry ON pins (expires_at);
