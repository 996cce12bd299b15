DROP TABLE quota_grants;
DROP TABLE quotas;
DROP TABLE user_limits;
ALTER TABLE keys DROP COLUMN tpm;
