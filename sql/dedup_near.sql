-- Of the transitions that changed almost the same (one cluster of side.changes, which are of one task), one stays for
-- each outcome and each cluster of parents: the best, as in dedup.sql. A parent without a program is a cluster of its own.
WITH judged AS (
{judged}
),
keyed AS (
  SELECT
    j.transition_id,
    j.outcome,
    j.child_valid,
    j.iteration,
    j.child_program,
    x.change_cluster,
    coalesce(c.cluster_id, j.parent_candidate) AS parent_cluster,
    CASE j.direction WHEN 'maximize' THEN j.child_score WHEN 'minimize' THEN -j.child_score END AS goodness
  FROM judged j
  JOIN side.changes x ON x.transition_id = j.transition_id
  LEFT JOIN side.clusters c ON c.program_id = j.parent_program
),
placed AS (
  SELECT
    transition_id,
    change_cluster,
    first_value(transition_id) OVER (
      PARTITION BY change_cluster, outcome, parent_cluster
      ORDER BY child_valid DESC, goodness DESC NULLS LAST, iteration ASC NULLS LAST, child_program ASC, transition_id ASC
    ) AS kept_id
  FROM keyed
)
SELECT transition_id, change_cluster, kept_id FROM placed ORDER BY transition_id
