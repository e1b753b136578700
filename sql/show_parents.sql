-- The candidates that a candidate was made from; one that the scaffold evicted is in no log.
SELECT parent_candidate AS id, transition_id, parent_program AS program_id, parent_score AS score,
  parent_valid AS valid, operator, count(*) OVER () AS total
FROM transitions WHERE child_candidate = $id ORDER BY transition_id LIMIT 20
