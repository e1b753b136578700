-- The transitions that equality leaves, with what they are compared by.
SELECT t.transition_id, t.task, t.parent_program, t.child_program, t.response_id
FROM input.transitions t
JOIN side.stands s ON s.transition_id = t.transition_id
WHERE s.kept_id = s.transition_id
ORDER BY t.transition_id
