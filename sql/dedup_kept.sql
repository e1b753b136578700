-- The transitions that stay, each with the number of those that it stands for.
WITH kept AS (
  SELECT kept_id, count(*) AS multiplicity FROM side.stands GROUP BY kept_id
)
SELECT t.*, k.multiplicity
FROM input.transitions t
JOIN kept k ON k.kept_id = t.transition_id
ORDER BY t.transition_id
