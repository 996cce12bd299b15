-- A gateway with a file of its own hears of every pause itself.
SELECT 1;
