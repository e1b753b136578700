-- The transitions with their sides. Both lie in the order of ids, so no row is sorted.
SELECT t.*, s.split
FROM input.transitions t
JOIN side.sides s ON s.transition_id = t.transition_id
ORDER BY t.transition_id
