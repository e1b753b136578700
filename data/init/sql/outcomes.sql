-- What the search steps of each task did to the score.
SELECT task, outcome, count(*) AS steps, round(avg(delta), 4) AS mean_delta
FROM transitions
GROUP BY task, outcome
ORDER BY task, steps DESC
