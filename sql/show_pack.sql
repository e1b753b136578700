SELECT split, tokens, array_length(example_ids) AS examples, example_ids, tasks
FROM packs WHERE pack_id = $id
