-- The transitions that stay when those that are almost the same go too: each with the number of equal ones, with the
-- cluster of what it changed, and with how many transitions of that it stands for, the equal ones of each counted.
WITH equal AS (
  SELECT kept_id, count(*) AS multiplicity FROM side.stands GROUP BY kept_id
),
alike AS (
  SELECT n.kept_id, min(n.change_cluster) AS change_cluster, sum(e.multiplicity) AS near_multiplicity
  FROM side.near_stands n
  JOIN equal e ON e.kept_id = n.transition_id
  GROUP BY n.kept_id
)
SELECT t.*, e.multiplicity, a.near_multiplicity, a.change_cluster
FROM input.transitions t
JOIN equal e ON e.kept_id = t.transition_id
JOIN alike a ON a.kept_id = t.transition_id
ORDER BY t.transition_id
