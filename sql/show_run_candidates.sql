SELECT candidate_id AS id, native_id, iteration, score, valid, count(*) OVER () AS total
FROM candidates WHERE run_id = $id ORDER BY iteration NULLS FIRST, candidate_id LIMIT 20
