-- What is balanced, with what it is chosen by: its change, the tenth of its run's iterations, the quarter of its task's
-- scores, and a place by hash. A task without a domain is one for itself.
WITH run_ends AS (
  SELECT run_id, min(iteration) AS first_iteration, max(iteration) AS last_iteration
  FROM input.transitions GROUP BY run_id
),
balanced AS (
  SELECT
    t.transition_id,
    t.run_id,
    t.task,
    coalesce(t.domain, t.task) AS domain,
    {alias_group} AS alias_group,
    coalesce({outcome}, 'unknown') AS outcome,
    {change_cluster} AS change_cluster,
    -- As floats: iterations of a hostile log reach over all whole numbers.
    coalesce(
      CAST(least(9.0, greatest(0.0, floor(
        10.0 * (CAST(t.iteration AS DOUBLE) - CAST(r.first_iteration AS DOUBLE))
        / (1.0 + CAST(r.last_iteration AS DOUBLE) - CAST(r.first_iteration AS DOUBLE))
      ))) AS BIGINT),
      -1
    ) AS iteration_part,
    CASE t.direction WHEN 'maximize' THEN t.child_score WHEN 'minimize' THEN -t.child_score END AS goodness
  FROM input.transitions t
  JOIN run_ends r ON r.run_id = t.run_id
  JOIN input.tasks k ON k.task = t.task
  WHERE {balanced}
),
tasks AS (
  SELECT task, count(*) AS rows FROM balanced GROUP BY task
),
ranked AS (
  SELECT *, row_number() OVER (PARTITION BY task ORDER BY goodness ASC NULLS FIRST, transition_id) - 1 AS rank
  FROM balanced
)
SELECT
  b.transition_id,
  b.run_id,
  b.task,
  b.domain,
  b.alias_group,
  b.outcome,
  b.change_cluster,
  b.iteration_part,
  CAST(4 * b.rank / k.rows AS BIGINT) AS score_part,
  sample_unit($seed, 'balance', b.transition_id) AS place
FROM ranked b
JOIN tasks k ON k.task = b.task
ORDER BY b.transition_id
