-- The side of each transition: its run's, where one was chosen by run, else its task's.
SELECT t.transition_id, coalesce(r.split, s.split) AS split
FROM (SELECT transition_id, task, run_id FROM input.transitions) t
JOIN side.splits s ON s.task = t.task AND s.run_id IS NULL
LEFT JOIN side.splits r ON r.task = t.task AND r.run_id = t.run_id
ORDER BY t.transition_id
