-- Outcome of each transition of {transitions}: the first rule that matches wins (the design's table, section 2). Scores
-- are compared only between valid programs; equal means |d| <= max(absolute, relative * max(|p|, |c|)), of the task where
-- it has its own. A failure of the evaluator or the machine on either side is {systematic}.
SELECT
  s.*,
  CASE
    WHEN s.parent_valid IS NULL OR coalesce(s.parent_failure, '') = 'no_score' THEN 'systematic_error'
    WHEN s.systematic IS NOT NULL THEN 'systematic_error'
    WHEN NOT s.parent_valid AND NOT s.child_valid THEN 'unrecoverable'
    WHEN s.parent_valid AND NOT s.child_valid THEN 'breakage'
    WHEN NOT s.parent_valid AND s.child_valid THEN 'self_repair'
    WHEN s.delta IS NULL THEN NULL
    WHEN abs(s.delta) <= s.tolerance THEN 'unchanged'
    WHEN s.delta > 0 THEN 'improvement'
    ELSE 'regression'
  END AS outcome
FROM (
  SELECT
    t.*,
    CASE
      WHEN NOT coalesce(t.parent_valid, FALSE) OR NOT t.child_valid THEN NULL
      WHEN t.direction = 'maximize' THEN t.child_score - t.parent_score
      WHEN t.direction = 'minimize' THEN t.parent_score - t.child_score
    END AS delta,
    greatest({absolute}, {relative} * greatest(abs(t.parent_score), abs(t.child_score))) AS tolerance,
    {bound} AS own_bound,
    {systematic} AS systematic
  FROM {transitions} t
  {joins}
) s
