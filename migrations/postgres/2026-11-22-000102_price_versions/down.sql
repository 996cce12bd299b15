DROP TABLE prices;
ALTER TABLE requests DROP COLUMN price_version;
