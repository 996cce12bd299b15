DROP TABLE replicas;
DROP TABLE applied;
