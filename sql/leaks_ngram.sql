-- The part of leaks.sql for texts that hold what is the other side's own.
UNION ALL
SELECT
  'ngram' AS kind,
  t.transition_id,
  t.task,
  c.other_task,
  t.text_id AS evidence,
  c.other,
  c.containment,
  $action AS action
FROM (
  SELECT transition_id, task, system_prompt_id AS text_id FROM side.assigned WHERE split <> 'test'
  UNION
  SELECT transition_id, task, user_prompt_id AS text_id FROM side.assigned WHERE split <> 'test'
  UNION
  SELECT transition_id, task, reasoning_id AS text_id FROM side.assigned WHERE split <> 'test'
  UNION
  SELECT transition_id, task, response_id AS text_id FROM side.assigned WHERE split <> 'test'
) t
JOIN side.contained c ON c.text_id = t.text_id
