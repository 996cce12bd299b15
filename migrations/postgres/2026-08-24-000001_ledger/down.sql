DROP TABLE usage_hourly;
DROP TABLE attempts;
DROP TABLE requests;
DROP TABLE keys;
DROP TABLE users;
DROP TABLE meta;
