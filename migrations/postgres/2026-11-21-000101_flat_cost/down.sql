ALTER TABLE usage_hourly DROP COLUMN flat_cost;
ALTER TABLE requests DROP COLUMN flat_cost;
