SELECT scaffold, scaffold_version, task, task_origin, models, score_key, direction, iterations, candidates, copies,
  attempts, started_at, license, origin, source
FROM runs WHERE run_id = $id
