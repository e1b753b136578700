-- The rule by which a failure on either side of a transition is the evaluator's or the machine's. Few transitions have
-- a failure, so only those are looked up.
SELECT t.transition_id, coalesce(c.rule, p.rule) AS rule
FROM (
  SELECT transition_id, child_candidate, parent_candidate FROM input.transitions
  WHERE child_failure IS NOT NULL OR parent_failure IS NOT NULL
) t
LEFT JOIN side.failures c ON c.candidate_id = t.child_candidate
LEFT JOIN side.failures p ON p.candidate_id = t.parent_candidate
WHERE c.rule IS NOT NULL OR p.rule IS NOT NULL
ORDER BY t.transition_id
