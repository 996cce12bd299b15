-- Files, batches, threads and the like are pinned as responses are. Their kind, and of a file its purpose, are what lists
-- are asked for by; both are empty for responses.

ALTER TABLE pins ADD COLUMN kind TEXT NOT NULL DEFAULT '';
ALTER TABLE pins ADD COLUMN purpose TEXT NOT NULL DEFAULT '';

-- A key's own objects, in the order in which they came to be. Responses, which come far more often, are not in it.
CREATE INDEX pins_of_objects ON pins (key_id, kind, created_at, id) WHERE kind <> '';
