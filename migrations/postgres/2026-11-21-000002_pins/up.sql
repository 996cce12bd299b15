-- Where the upstream keeps what it gave an id to (a stored response), so that what refers to the id goes there, from
-- whichever gateway on this database.

CREATE TABLE pins (
    id         TEXT PRIMARY KEY NOT NULL,
    -- Who may refer to it.
    key_id     BYTEA NOT NULL,
    resource   TEXT NOT NULL,
    deployment TEXT NOT NULL,
    model      TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    -- The upstream forgets it then.
    expires_at BIGINT NOT NULL
);

CREATE INDEX pins_by_expiry ON pins (expires_at);
