-- Where a key may be served from: a JSON array of regions by Azure's own names (`eastus2`); null: everywhere.
ALTER TABLE keys ADD COLUMN regions TEXT;
