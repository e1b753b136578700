-- The part of leaks.sql for programs that are almost the same.
UNION ALL
SELECT
  'near_program' AS kind,
  train.transition_id,
  train.task,
  other.other_task,
  train.program AS evidence,
  other.program AS other,
  CAST(NULL AS DOUBLE) AS containment,
  $action AS action
FROM train
JOIN side.clusters c ON c.program_id = train.program
JOIN (
  SELECT o.cluster_id, min(t.program) AS program, min(t.other_task) AS other_task
  FROM test_programs t
  JOIN side.clusters o ON o.program_id = t.program
  GROUP BY o.cluster_id
) other ON other.cluster_id = c.cluster_id
LEFT JOIN test_programs same ON same.program = train.program
WHERE same.program IS NULL
