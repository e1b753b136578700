-- Why a transition is on its side: its run's reason, where one was chosen by run, else its task's.
SELECT split, reason, alias_group
FROM splits
WHERE task = $task AND (run_id IS NULL OR run_id = $run)
ORDER BY run_id NULLS LAST LIMIT 1
