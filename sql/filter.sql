-- The transitions that a filter keeps. Both sides lie in the order of ids, so no row is sorted.
SELECT t.*
FROM input.transitions t
JOIN side.judged j ON j.transition_id = t.transition_id
WHERE j.finch_hit AND j.finch_place <= $cap
ORDER BY t.transition_id
