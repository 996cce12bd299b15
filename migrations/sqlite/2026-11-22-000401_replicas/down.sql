DROP TABLE unprojected;
