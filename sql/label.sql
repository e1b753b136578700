-- What each step did to the score: its outcome (outcome.sql), what follows from that, and whether a score is better than
-- the best that is possible, so that somebody should look at the evaluator. Only what this needs of a row passes the
-- joins; label_wide.sql adds the rest.
SELECT
  j.transition_id,
  j.delta,
  CASE WHEN abs(j.parent_score) < 1e-12 THEN NULL ELSE j.delta / abs(j.parent_score) END AS relative_delta,
  j.outcome,
  CASE j.outcome
    WHEN 'self_repair' THEN 'improved'
    WHEN 'improvement' THEN 'improved'
    WHEN 'unchanged' THEN 'unchanged'
    WHEN 'regression' THEN 'regressed'
  END AS label,
  j.systematic,
  CASE j.direction
    WHEN 'maximize' THEN greatest(j.child_score, j.parent_score) > coalesce(j.own_bound, b.bound)
    WHEN 'minimize' THEN least(j.child_score, j.parent_score) < coalesce(j.own_bound, b.bound)
  END AS beyond_bound
FROM (
{judged}
) j
LEFT JOIN input.objectives b
  ON b.task = j.task AND b.scaffold = j.scaffold AND coalesce(b.score_key, '') = coalesce(j.score_key, '')
ORDER BY j.transition_id
