-- Held-out losses of a training: before its first step and after its last, by the examples' {of} and over all, in nats a
-- token. A mean over tokens: each example counts by its targets. Examples are the same at every evaluation.
WITH ends AS (
  SELECT min(step) AS first_step, max(step) AS last_step FROM input.losses
),
each_example AS (
  SELECT
    e.split, e.{of} AS name, l.tokens, l.loss, l.step = ends.first_step AS is_first, l.step = ends.last_step AS is_last
  FROM input.losses l
  JOIN input.examples e ON e.example_id = l.example_id
  CROSS JOIN ends
)
SELECT
  split,
  name,
  grouping(name) AS is_total,
  count(*) FILTER (WHERE is_last) AS examples,
  sum(loss * tokens) FILTER (WHERE is_first) / sum(tokens) FILTER (WHERE is_first) AS before,
  sum(loss * tokens) FILTER (WHERE is_last) / sum(tokens) FILTER (WHERE is_last) AS after
FROM each_example
GROUP BY GROUPING SETS ((split, name), ())
ORDER BY is_total, split, name
