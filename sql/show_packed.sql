SELECT pack_id, split, tokens, array_length(example_ids) AS examples, array_position(example_ids, $id) AS place
FROM packs WHERE array_has(example_ids, $id) ORDER BY pack_id
