-- The best programs of each held-out task (side.held): of each scaffold and metric so many by score, and the initial
-- program. All that were evaluated count, whatever a filter left of their steps.
WITH scored AS (
  SELECT
    r.task,
    r.scaffold,
    r.score_key,
    c.program_id,
    max(CASE r.direction WHEN 'maximize' THEN c.score WHEN 'minimize' THEN -c.score END) AS goodness
  FROM input.candidates c
  JOIN input.runs r ON r.run_id = c.run_id
  JOIN side.held h ON h.task = r.task
  WHERE c.valid
  GROUP BY r.task, r.scaffold, r.score_key, c.program_id
),
placed AS (
  SELECT
    task,
    program_id,
    row_number() OVER (
      PARTITION BY task, scaffold, score_key ORDER BY goodness DESC NULLS LAST, program_id
    ) AS place
  FROM scored
)
SELECT task, program_id FROM placed WHERE place <= $best
UNION
SELECT t.task, t.initial_program_id AS program_id
FROM input.tasks t
JOIN side.held h ON h.task = t.task
WHERE t.initial_program_id IS NOT NULL
ORDER BY task, program_id
