-- So many system prompts of each task: those of the lowest ids, as in task_programs.sql.
WITH prompts AS (
  SELECT task, system_prompt_id AS text_id FROM input.transitions
  WHERE system_prompt_id IS NOT NULL
  GROUP BY task, system_prompt_id
),
placed AS (
  SELECT task, text_id, row_number() OVER (PARTITION BY task ORDER BY text_id) AS place FROM prompts
)
SELECT task, text_id FROM placed WHERE place <= $most ORDER BY task, text_id
