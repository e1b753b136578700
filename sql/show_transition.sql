SELECT run_id, scaffold, task, domain, score_key, direction, parent_candidate, child_candidate, parent_program,
  child_program, parent_score, child_score, parent_score_origin, parent_valid, child_valid, parent_failure,
  child_failure, operator, parent_inferred, replay, model, temperature, prompt_tokens, completion_tokens, cost,
  prompt_source, system_prompt_id, user_prompt_id, reasoning_id, response_id, iteration, island, generation,
  inspirations
FROM transitions WHERE transition_id = $id
