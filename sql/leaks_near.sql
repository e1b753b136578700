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
  SELECT o.cluster_id, min(t.program) AS program
  FROM test_programs t
  JOIN side.clusters o ON o.program_id = t.program
  GROUP BY o.cluster_id
) lowest ON lowest.cluster_id = c.cluster_id
JOIN test_programs other ON other.program = lowest.program
LEFT JOIN test_programs same ON same.program = train.program
WHERE same.program IS NULL
