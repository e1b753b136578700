-- Each program once. Scaffolds may label one text with several languages; the lowest label stays, because which
-- record came first must not decide anything.
WITH ranked AS (
  SELECT p.*, row_number() OVER (PARTITION BY p.program_id ORDER BY p.language) AS place
  FROM scratch.programs p
  WHERE p.program_id IN (SELECT program_id FROM made.candidates)
)
SELECT program_id, language, code, bytes, lines FROM ranked WHERE place = 1 ORDER BY program_id
