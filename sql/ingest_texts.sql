-- Every text that was read; the caller keeps those that are used.
SELECT text_id, text FROM scratch.texts ORDER BY text_id
