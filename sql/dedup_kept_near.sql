-- The transitions that stay when those that are almost the same go too: each with the number of equal ones, and with the
-- cluster of what it changed and how many of that it stands for.
WITH equal AS (
  SELECT kept_id, count(*) AS multiplicity FROM side.stands GROUP BY kept_id
),
alike AS (
  SELECT kept_id, min(change_cluster) AS change_cluster, count(*) AS near_multiplicity
  FROM side.near_stands
  GROUP BY kept_id
)
SELECT t.*, e.multiplicity, a.near_multiplicity, a.change_cluster
FROM input.transitions t
JOIN equal e ON e.kept_id = t.transition_id
JOIN alike a ON a.kept_id = t.transition_id
ORDER BY t.transition_id
