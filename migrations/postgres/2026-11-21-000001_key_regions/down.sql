-- A version that does not know regions would serve these keys from everywhere: they end here instead.
UPDATE keys SET revoked_at = CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)
WHERE regions IS NOT NULL AND revoked_at IS NULL;
ALTER TABLE keys DROP COLUMN regions;
