-- How many transitions of a program or a run a stage removed, by reason; `transitions` are those that it read.
SELECT r.code, count(*) AS rows
FROM removed r
JOIN transitions t ON t.transition_id = r.record_id
WHERE t.child_program = $id OR t.parent_program = $id OR t.run_id = $id
GROUP BY r.code
ORDER BY r.code
