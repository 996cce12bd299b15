-- Whether the deployment of the last attempt is paid for at a flat rate (provisioned capacity): its tokens cost nothing
-- on top of that, so the request's `cost` is 0.
ALTER TABLE requests ADD COLUMN flat_cost BOOLEAN NOT NULL DEFAULT FALSE;

-- How many of the requests those are.
ALTER TABLE usage_hourly ADD COLUMN flat_cost BIGINT NOT NULL DEFAULT 0 CHECK (flat_cost >= 0);
