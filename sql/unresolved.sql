-- Ids of `child` that no row of `parent` has: how many rows name one, and the lowest. Both are views of one column.
SELECT count(*) AS rows, min(c.id) AS id
FROM child c
LEFT ANTI JOIN parent p ON p.id = c.id
