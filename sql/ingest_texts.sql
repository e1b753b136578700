-- Every text that a candidate or a transition refers to, each once.
WITH used AS (
  SELECT feedback_id AS text_id FROM made.candidates
  UNION SELECT system_prompt_id FROM made.transitions
  UNION SELECT user_prompt_id FROM made.transitions
  UNION SELECT reasoning_id FROM made.transitions
  UNION SELECT response_id FROM made.transitions
)
SELECT t.text_id, t.text FROM scratch.texts t WHERE t.text_id IN (SELECT text_id FROM used WHERE text_id IS NOT NULL)
ORDER BY t.text_id
