SELECT candidate_id AS id, run_id, native_id, iteration, score, valid, source, source_offset, count(*) OVER () AS total
FROM candidates WHERE program_id = $id ORDER BY candidate_id LIMIT 20
