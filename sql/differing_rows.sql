-- Rows of one table in two builds, matched by the digest of their key: one row for each that differs. What is joined
-- is narrow (digests, the key, task and split); texts are hashed where they are read and go no further.
SELECT
  CASE
    WHEN b.key IS NULL THEN 'in'
    WHEN a.key IS NULL THEN 'out'
    WHEN b.content <> a.content THEN 'changed'
    ELSE 'moved'
  END AS difference,
  COALESCE(a.key, b.key) AS key,
  COALESCE(a.task, b.task) AS task,
  b.split AS split_before,
  a.split AS split_after,
  b.shown AS shown_before,
  a.shown AS shown_after
FROM before.keyed b
FULL JOIN after.keyed a ON a.key = b.key
WHERE
  b.key IS NULL
  OR a.key IS NULL
  OR b.content <> a.content
  OR b.split IS DISTINCT FROM a.split
