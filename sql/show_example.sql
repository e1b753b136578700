SELECT transition_id, split, task, array_length(messages) AS messages, system_tokens, user_tokens, reasoning_tokens,
  response_tokens, total_tokens, weight, desirable
FROM examples WHERE example_id = $id
