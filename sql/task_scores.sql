-- The range of each task's scores, by scaffold and metric.
SELECT r.task, r.scaffold, coalesce(r.score_key, '') AS score_key, min(c.score) AS lowest, max(c.score) AS highest
FROM input.runs r
JOIN input.candidates c ON c.run_id = r.run_id
WHERE c.valid AND c.score IS NOT NULL
GROUP BY r.task, r.scaffold, coalesce(r.score_key, '')
ORDER BY task, scaffold, score_key
