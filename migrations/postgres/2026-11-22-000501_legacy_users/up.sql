-- Users of an older proxy, each with the key that it has here. What they have used since stands in the ledger, under
-- that key.
CREATE TABLE legacy_users (
    key_id BYTEA PRIMARY KEY NOT NULL CHECK (length(key_id) = 16),
    name   TEXT NOT NULL UNIQUE,
    -- Who names them: 'settings', 'file' (the older proxy's own table), 'call' (/v1/adduser), 'import'.
    origin TEXT NOT NULL,
    -- As the older proxy numbers it: 0 disabled, 1 normal, 2 admin.
    status INTEGER NOT NULL,
    -- What they had used there.
    count  BIGINT NOT NULL
);
