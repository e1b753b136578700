-- Programs on both sides: a transition outside the test split whose parent or child program is also the parent or
-- child of one inside it, or, where that is asked, is almost the same as one (leaks_near.sql). One row a transition and
-- program; the lowest program and task of the other side are named.
WITH test AS (
  SELECT child_program AS program, task FROM side.assigned WHERE split = 'test'
  UNION ALL
  SELECT parent_program AS program, task FROM side.assigned WHERE split = 'test' AND parent_program IS NOT NULL
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
  $action AS action
FROM train
JOIN test_programs ON test_programs.program = train.program
{near}
ORDER BY kind, transition_id, evidence
