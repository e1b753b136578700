-- Ids that begin alike: $low is the beginning, $high the first text after all that begin so.
SELECT DISTINCT id FROM ids WHERE id >= $low AND id < $high ORDER BY id LIMIT 21
