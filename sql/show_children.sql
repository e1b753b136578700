SELECT child_candidate AS id, transition_id, child_program AS program_id, child_score AS score, child_valid AS valid,
  iteration, count(*) OVER () AS total
FROM transitions WHERE parent_candidate = $id ORDER BY iteration NULLS FIRST, transition_id LIMIT 20
