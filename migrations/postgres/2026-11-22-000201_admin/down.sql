ALTER TABLE users DROP COLUMN deleted_at;
DROP TABLE idempotency;
DROP TABLE audit;
DROP TABLE old_secrets;
DROP TABLE admin_keys;
