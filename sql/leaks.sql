-- What is on both sides. A transition outside the test split leaks when its parent or child program is one of a held-out
-- task (side.held), whatever a filter left of that task's steps, when its task is one of the other side under another spelling (side.same_names), and, where
-- that is asked, when a program is almost one of the other side (leaks_near.sql) or one of its texts holds what is the
-- other side's own (leaks_ngram.sql). One row a kind, transition and evidence; the lowest task of the other side is named.
WITH test AS (
  SELECT child_program AS program, task FROM side.assigned WHERE split = 'test'
  UNION ALL
  SELECT parent_program AS program, task FROM side.assigned WHERE split = 'test' AND parent_program IS NOT NULL
  UNION ALL
  SELECT c.program_id AS program, r.task
  FROM input.candidates c
  JOIN input.runs r ON r.run_id = c.run_id
  JOIN side.held h ON h.task = r.task
),
test_programs AS (
  SELECT program, min(task) AS other_task FROM test GROUP BY program
),
train AS (
  SELECT transition_id, task, child_program AS program FROM side.assigned WHERE split <> 'test'
  UNION
  SELECT transition_id, task, parent_program AS program FROM side.assigned
  WHERE split <> 'test' AND parent_program IS NOT NULL
)
SELECT
  'program' AS kind,
  train.transition_id,
  train.task,
  test_programs.other_task,
  train.program AS evidence,
  train.program AS other,
  CAST(NULL AS DOUBLE) AS containment,
  $action AS action
FROM train
JOIN test_programs ON test_programs.program = train.program
UNION ALL
SELECT
  'task' AS kind,
  a.transition_id,
  a.task,
  n.other_task,
  a.task AS evidence,
  n.other_task AS other,
  CAST(NULL AS DOUBLE) AS containment,
  $action AS action
FROM side.assigned a
JOIN side.same_names n ON n.task = a.task
WHERE a.split <> 'test'
{near}
{ngram}
ORDER BY kind, transition_id, evidence
