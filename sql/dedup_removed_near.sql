-- The transitions that go because they are equal to another one, or changed almost the same.
SELECT transition_id AS record_id, 'transition' AS record_kind, 'duplicate' AS code, concat('equal to ', kept_id) AS reason
FROM side.stands
WHERE kept_id <> transition_id
UNION ALL
SELECT transition_id, 'transition', 'near_duplicate', concat('almost the change of ', kept_id)
FROM side.near_stands
WHERE kept_id <> transition_id
ORDER BY record_id
