DROP INDEX pins_of_objects;
ALTER TABLE pins DROP COLUMN purpose;
ALTER TABLE pins DROP COLUMN kind;
