-- Every program that was read, by id and language label; the caller keeps the first of each id that is used.
SELECT program_id, language, code, bytes, lines FROM scratch.programs ORDER BY program_id, language
