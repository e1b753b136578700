-- Equal transitions of one task: same parent program, same child program, same response. The best stays:
-- valid first, then the better score, then the earliest iteration, then the lowest program and id.
-- Programs are compared by {parent_key} and {child_key}. An evicted parent has no program; its candidate stands for it,
-- so that such steps are equal only within a run.
-- Of each transition the one that stands for it, itself when it stays. Only keys are sorted, and no window looks
-- ahead: one over whole partitions, such as a count, would hold all rows of the table at once.
WITH keyed AS (
  SELECT
    t.transition_id,
    t.task,
    t.response_id,
    t.child_valid,
    t.iteration,
    t.child_program,
    coalesce({parent_key}, t.parent_candidate) AS parent_key,
    {child_key} AS child_key,
    CASE t.direction WHEN 'maximize' THEN t.child_score WHEN 'minimize' THEN -t.child_score END AS goodness
  FROM input.transitions t
  {keys}
),
placed AS (
  SELECT
    transition_id,
    first_value(transition_id) OVER (
      PARTITION BY task, parent_key, child_key, response_id
      ORDER BY child_valid DESC, goodness DESC NULLS LAST, iteration ASC NULLS LAST, child_program ASC, transition_id ASC
    ) AS kept_id
  FROM keyed
)
SELECT transition_id, kept_id FROM placed ORDER BY transition_id
