-- What the ledger wrote and the shared database does not have yet, in the order in which it was written; always empty
-- where this file is the database. The rows themselves are where they always are.
CREATE TABLE unprojected (
    seq  INTEGER PRIMARY KEY AUTOINCREMENT,
    -- A closed request, by its id; null: a pin.
    request BLOB CHECK (length(request) = 16),
    -- A pin, by its id; null: a request.
    pin     TEXT,
    -- Why the shared database did not take it; null: it has not been tried, or could not be reached.
    refused TEXT
) STRICT;
