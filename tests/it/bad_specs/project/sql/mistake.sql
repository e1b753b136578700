SELECT
    transition_id,
    outcme
FROM labelled.transitions
