-- What caps leave, with its weight, and what is not balanced, which weighs 1.
SELECT t.*, coalesce(w.weight, 1.0) AS weight
FROM input.transitions t
LEFT JOIN side.{left} b ON b.transition_id = t.transition_id
LEFT JOIN side.weights w ON w.kind = concat(b.run_id, ' ', b.outcome)
WHERE b.transition_id IS NOT NULL OR {others}
ORDER BY t.transition_id
