ALTER TABLE requests DROP COLUMN chain;
ALTER TABLE requests DROP COLUMN chained;
DROP TABLE chains;
