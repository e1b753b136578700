-- The held-out losses of an example: at the first evaluation and at the last.
SELECT
  min(step) AS first_step, first_value(loss ORDER BY step) AS first_loss,
  max(step) AS last_step, last_value(loss ORDER BY step) AS last_loss, count(*) AS evaluations
FROM losses WHERE example_id = $id
