-- Transitions as rows of parts, in order: part 0 says what is known of one, parts 1 to 4 are its texts, where there are
-- any. The join holds the keys and streams the texts; a join for each of the four would hold or sort what the ones
-- before it found.
WITH parts AS (
  SELECT transition_id, 1 AS part, system_prompt_id AS text_id FROM input.transitions
  UNION ALL
  SELECT transition_id, 2 AS part, user_prompt_id AS text_id FROM input.transitions
  UNION ALL
  SELECT transition_id, 3 AS part, reasoning_id AS text_id FROM input.transitions
  UNION ALL
  SELECT transition_id, 4 AS part, response_id AS text_id FROM input.transitions
)
SELECT
  t.transition_id,
  0 AS part,
  t.task,
  {split} AS split,
  {label} AS label,
  {outcome} AS outcome,
  {weight} AS weight,
  CAST(NULL AS VARCHAR) AS text
FROM input.transitions t
UNION ALL
SELECT
  p.transition_id,
  p.part,
  CAST(NULL AS VARCHAR) AS task,
  CAST(NULL AS VARCHAR) AS split,
  CAST(NULL AS VARCHAR) AS label,
  CAST(NULL AS VARCHAR) AS outcome,
  CAST(NULL AS DOUBLE) AS weight,
  x.text
FROM parts p
JOIN input.texts x ON x.text_id = p.text_id
ORDER BY transition_id, part
