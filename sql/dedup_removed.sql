-- The transitions that go because they are equal to another one.
SELECT transition_id AS record_id, 'transition' AS record_kind, 'duplicate' AS code, concat('equal to ', kept_id) AS reason
FROM side.stands
WHERE kept_id <> transition_id
ORDER BY transition_id
