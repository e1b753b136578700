"""Dedup and labels with DuckDB: `relational_duckdb.py FORM DATASET OUT THREADS LIMIT RULES ABSOLUTE RELATIVE`.

A contestant of `relational.py`. DATASET is a folder with the Parquet files of an ingest; OUT gets `unique.parquet` and
`labelled.parquet`, in the order of ids, and the seconds that each took. Form `window` ranks whole rows, as one writes it
at first. The others find the kept ids by keys alone and join them with the rows: `keys` by a window, `groups` by an
aggregate. Form `streamed` does as `groups`, but does not sort whole rows: they come in the order of ids, and one thread
hands them on as it scans them, as long as the other side of a join fits in memory. Two threads change their order.
"""

import json
import sys
import time
import tomllib
from pathlib import Path

import duckdb

form, dataset, out, threads, limit, rules, absolute, relative = sys.argv[1:]
dataset, out = Path(dataset), Path(out)

database = duckdb.connect()
database.execute(f"SET threads = {threads}")
database.execute(f"SET memory_limit = '{limit}'")
database.execute(f"SET temp_directory = '{out / 'spilled'}'")
for table in ("transitions", "candidates", "objectives"):
    database.execute(f"CREATE VIEW {table} AS FROM read_parquet('{dataset}/{table}/*.parquet')")

#: What makes transitions equal, and which of them is the best.
EQUAL = "task, coalesce(parent_program, parent_candidate), child_program, response_id"
GOODNESS = "CASE direction WHEN 'maximize' THEN child_score WHEN 'minimize' THEN -child_score END"
BEST = f"child_valid DESC, {GOODNESS} DESC NULLS LAST, iteration ASC NULLS LAST, child_program, transition_id"

# Nulls of a struct are the greatest; the smallest struct is the best transition.
KEPT = {
    "keys": f"""SELECT transition_id, multiplicity FROM (
        SELECT transition_id, count(*) OVER (PARTITION BY {EQUAL}) AS multiplicity,
            row_number() OVER (PARTITION BY {EQUAL} ORDER BY {BEST}) AS place
        FROM transitions) WHERE place = 1""",
    "groups": f"""SELECT min({{'invalid': NOT child_valid, 'badness': -({GOODNESS}), 'iteration': iteration,
            'transition_id': transition_id}}).transition_id AS transition_id, count(*) AS multiplicity
        FROM transitions GROUP BY {EQUAL}""",
}
KEPT["streamed"] = KEPT["groups"]

# RE2 and finch's regular expressions agree on these patterns.
failures = " ".join(
    f"WHEN regexp_matches(said, {quoted}, 'i') THEN '{rule['name']}'"
    for rule in tomllib.loads(Path(rules).read_text())["rule"]
    for quoted in ["'" + "|".join(rule["patterns"]).replace("'", "''") + "'"])
FAILURES = f"""SELECT candidate_id, coalesce(CASE {failures} END, failure) AS rule FROM (
    SELECT candidate_id, failure, CASE WHEN json_type(metrics, '$.error') = 'VARCHAR' THEN metrics->>'$.error' END AS said
    FROM candidates WHERE NOT valid AND failure IN ('timeout', 'infrastructure'))"""

LABELLED = f"""WITH compared AS (
    SELECT t.*,
        CASE WHEN parent_valid AND child_valid THEN
            CASE direction WHEN 'maximize' THEN child_score - parent_score WHEN 'minimize' THEN parent_score - child_score END
        END AS delta,
        greatest({absolute}::DOUBLE, {relative}::DOUBLE * greatest(abs(parent_score), abs(child_score))) AS tolerance,
        coalesce(c.rule, p.rule,
            CASE WHEN child_failure IN ('timeout', 'infrastructure') THEN child_failure
                WHEN parent_failure IN ('timeout', 'infrastructure') THEN parent_failure END) AS systematic
    FROM unique_transitions t
    LEFT JOIN failures c ON c.candidate_id = t.child_candidate
    LEFT JOIN failures p ON p.candidate_id = t.parent_candidate),
judged AS (
    SELECT *,
        CASE
            WHEN parent_valid IS NULL OR parent_failure = 'no_score' OR systematic IS NOT NULL THEN 'systematic_error'
            WHEN NOT parent_valid THEN CASE WHEN child_valid THEN 'self_repair' ELSE 'unrecoverable' END
            WHEN NOT child_valid THEN 'breakage'
            WHEN delta IS NULL THEN NULL
            WHEN abs(delta) <= tolerance THEN 'unchanged'
            WHEN delta > 0 THEN 'improvement'
            ELSE 'regression'
        END AS outcome
    FROM compared)
SELECT j.* EXCLUDE (tolerance, outcome, systematic),
    CASE WHEN abs(parent_score) >= 1e-12 THEN delta / abs(parent_score) END AS relative_delta,
    outcome,
    CASE WHEN outcome IN ('self_repair', 'improvement') THEN 'improved' WHEN outcome = 'regression' THEN 'regressed'
        WHEN outcome = 'unchanged' THEN 'unchanged' END AS label,
    systematic,
    CASE j.direction WHEN 'maximize' THEN greatest(child_score, parent_score) > bound
        WHEN 'minimize' THEN least(child_score, parent_score) < bound END AS beyond_bound
FROM judged j LEFT JOIN objectives b
    ON b.task = j.task AND b.scaffold = j.scaffold AND b.score_key IS NOT DISTINCT FROM j.score_key"""


def write(query: str, name: str) -> None:
    order = "" if form == "streamed" else " ORDER BY transition_id"
    if form == "streamed":
        database.execute("SET threads = 1")
    database.execute(f"COPY ({query}{order}) TO '{out / name}.parquet' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 3)")


begun = time.monotonic()
if form == "window":
    write(f"""SELECT *, count(*) OVER (PARTITION BY {EQUAL}) AS multiplicity FROM transitions
        QUALIFY row_number() OVER (PARTITION BY {EQUAL} ORDER BY {BEST}) = 1""", "unique")
else:
    database.execute(f"CREATE TEMP TABLE kept AS {KEPT[form]}")
    write("SELECT t.*, k.multiplicity FROM transitions t JOIN kept k ON k.transition_id = t.transition_id", "unique")
    database.execute("DROP TABLE kept")
found = time.monotonic()
database.execute(f"CREATE TEMP TABLE failures AS {FAILURES}")
database.execute(f"CREATE VIEW unique_transitions AS FROM read_parquet('{out / 'unique.parquet'}')")
write(LABELLED, "labelled")
(out / "seconds.json").write_text(json.dumps({"dedup": found - begun, "label": time.monotonic() - found}))
