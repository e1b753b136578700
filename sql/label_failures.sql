-- The failed candidates whose failure is not their program's, with the rule that says so. What the readers took for a
-- failure of that kind gets the name of a rule; the spec's own rules are asked of all others too.
SELECT candidate_id, rule
FROM (
  SELECT
    candidate_id,
    CASE
      WHEN failure IN ('timeout', 'infrastructure') THEN coalesce(failure_rule($all, metrics, feedback), failure)
      ELSE failure_rule($own, metrics, feedback)
    END AS rule
  FROM input.candidates
  WHERE NOT valid
)
WHERE rule IS NOT NULL
ORDER BY candidate_id
