-- How urgent a key's requests are.
ALTER TABLE keys ADD COLUMN class TEXT NOT NULL DEFAULT 'interactive' CHECK (class = 'interactive' OR class = 'batch');
