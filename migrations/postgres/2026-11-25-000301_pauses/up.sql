-- Pauses that deployments asked for with a 429, so that no other gateway has to ask to find out.
CREATE TABLE pauses (
    -- The resource's endpoint, which two gateways may call by different names, and its deployment.
    endpoint   TEXT NOT NULL,
    deployment TEXT NOT NULL,
    -- By this database's clock.
    ends_at    BIGINT NOT NULL,
    PRIMARY KEY (endpoint, deployment)
);
