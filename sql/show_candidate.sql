-- A candidate, with long values by their size.
SELECT run_id, program_id, native_id, copy_native_ids, parent_native_ids, iteration, island, generation, score, valid,
  failure, bound_violation,
  CASE WHEN octet_length(metrics) <= 300 THEN metrics END AS metrics,
  CASE WHEN octet_length(metrics) > 300 THEN octet_length(metrics) END AS metrics_bytes,
  feedback_id, eval_seconds, created_at, records, raw_blake3, source, source_offset
FROM candidates WHERE candidate_id = $id
