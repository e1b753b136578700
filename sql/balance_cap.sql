-- The number of each row within its {key}: first one of each change, among those in turn one of each cell of iterations
-- and scores, and what is equal in that by hash.
WITH rounds AS (
  SELECT *, row_number() OVER (PARTITION BY {key}, change_cluster ORDER BY place, transition_id) AS round
  FROM {from}
),
cells AS (
  SELECT
    *,
    row_number() OVER (
      PARTITION BY {key}, iteration_part, score_part ORDER BY round, place, transition_id
    ) AS cell_round
  FROM rounds
)
SELECT
  *,
  row_number() OVER (PARTITION BY {key} ORDER BY {round}, {cell_round}, place, transition_id) AS number,
  {cap} AS cap
FROM cells
