-- Examples and tokens of each task on each side of the split.
SELECT
  e.task,
  e.split,
  count(*) AS examples,
  sum(e.total_tokens) AS tokens,
  max(e.total_tokens) AS longest
FROM sft.examples e
GROUP BY e.task, e.split
