-- The transitions with their labels. Both sides lie in the order of ids, so no row is sorted.
SELECT t.*, j.delta, j.relative_delta, j.outcome, j.label, j.systematic, j.beyond_bound
FROM input.transitions t
JOIN side.judged j ON j.transition_id = t.transition_id
ORDER BY t.transition_id
