-- The transitions that have a text, and as what.
SELECT id, role, count(*) OVER () AS total
FROM (
  SELECT transition_id AS id, 'system_prompt' AS role FROM transitions WHERE system_prompt_id = $id
  UNION ALL
  SELECT transition_id, 'user_prompt' FROM transitions WHERE user_prompt_id = $id
  UNION ALL
  SELECT transition_id, 'reasoning' FROM transitions WHERE reasoning_id = $id
  UNION ALL
  SELECT transition_id, 'response' FROM transitions WHERE response_id = $id
)
ORDER BY id, role LIMIT 20
