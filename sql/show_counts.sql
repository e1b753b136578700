-- How many transitions of a program or a run a stage has.
SELECT
  count(*) FILTER (WHERE child_program = $id) AS to_it,
  count(*) FILTER (WHERE parent_program = $id) AS from_it,
  count(*) FILTER (WHERE run_id = $id) AS of_it
FROM transitions
