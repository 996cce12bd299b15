DROP TABLE quota_leases;
DROP TABLE quota_lent;
DROP TABLE replicas;
DROP TABLE applied;
