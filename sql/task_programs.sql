-- So many valid programs of each task with what the evaluator reported of them: those of the lowest ids, which are
-- digests, so that they are a sample that no order decides.
WITH programs AS (
  SELECT r.task, c.program_id, min(c.candidate_id) AS candidate_id
  FROM input.candidates c
  JOIN input.runs r ON r.run_id = c.run_id
  WHERE c.valid
  GROUP BY r.task, c.program_id
),
placed AS (
  SELECT task, program_id, candidate_id, row_number() OVER (PARTITION BY task ORDER BY program_id) AS place
  FROM programs
)
SELECT p.task, p.program_id, c.metrics
FROM placed p
JOIN input.candidates c ON c.candidate_id = p.candidate_id
WHERE p.place <= $most
ORDER BY p.task, p.program_id
