-- The texts of transitions outside the test split, by alias group, each once a group.
SELECT s.alias_group, t.text_id
FROM (
  SELECT task, system_prompt_id AS text_id FROM side.assigned WHERE split <> 'test' AND system_prompt_id IS NOT NULL
  UNION
  SELECT task, user_prompt_id AS text_id FROM side.assigned WHERE split <> 'test' AND user_prompt_id IS NOT NULL
  UNION
  SELECT task, reasoning_id AS text_id FROM side.assigned WHERE split <> 'test' AND reasoning_id IS NOT NULL
  UNION
  SELECT task, response_id AS text_id FROM side.assigned WHERE split <> 'test' AND response_id IS NOT NULL
) t
JOIN side.splits s ON s.task = t.task AND s.run_id IS NULL
GROUP BY s.alias_group, t.text_id
ORDER BY s.alias_group, t.text_id
