"""Reads search logs with DuckDB and writes Parquet: `with_duckdb.py LAYOUT WORK FORM NAMES OUT THREADS`.

A contestant of `readers.py`. The columns are named, so nothing is guessed. Form `table` parses once into a table in
memory and writes from it; form `staged` writes all texts to Parquet first and works from that; form `scans` parses anew
for each output. Digests are SHA-1: of DuckDB's functions that can name a text it was the fastest (640 MB/s on two
threads; MD5 600, SHA-256 350).
"""

import sys
from pathlib import Path

import duckdb

layout, work, form, names, out, threads = sys.argv[1:]

READ = {
    "trace": """read_json(getvariable('files'), format = 'newline_delimited', filename = true, columns = {
        iteration: 'BIGINT', timestamp: 'DOUBLE', parent_id: 'VARCHAR', child_id: 'VARCHAR', parent_metrics: 'JSON',
        child_metrics: 'JSON', parent_code: 'VARCHAR', child_code: 'VARCHAR',
        prompt: 'STRUCT("system" VARCHAR, "user" VARCHAR)', llm_response: 'VARCHAR', island_id: 'BIGINT',
        generation: 'BIGINT', artifacts: 'JSON', metadata: 'STRUCT(changes VARCHAR)'})""",
    # A file is one object: reading it as text and parsing that took half the time of `read_json`.
    "checkpoints": """(SELECT filename, unnest(from_json(content, '{"id": "VARCHAR", "code": "VARCHAR",
        "parent_id": "VARCHAR", "generation": "BIGINT", "timestamp": "DOUBLE", "iteration_found": "BIGINT",
        "metrics": "JSON", "artifacts_json": "VARCHAR", "metadata": {"island": "BIGINT", "migrant": "BOOLEAN",
        "changes": "VARCHAR", "parent_metrics": "JSON"}, "prompts": {
        "diff_user": {"system": "VARCHAR", "user": "VARCHAR", "responses": ["VARCHAR"]},
        "full_rewrite_user": {"system": "VARCHAR", "user": "VARCHAR", "responses": ["VARCHAR"]}}}'))
        FROM read_text(getvariable('files')))""",
}

STEPS = {
    "trace": """SELECT filename AS source, parent_id, child_id, iteration, timestamp, island_id AS island, generation,
        parent_metrics::VARCHAR AS parent_metrics, child_metrics::VARCHAR AS child_metrics,
        (parent_metrics->>'combined_score')::DOUBLE AS parent_score,
        (child_metrics->>'combined_score')::DOUBLE AS child_score, metadata.changes AS changes,
        parent_code AS parent_program, child_code AS child_program, prompt.system AS system, prompt.user AS "user",
        llm_response AS response, artifacts::VARCHAR AS feedback""",
    "checkpoints": """SELECT filename AS source, parent_id, id AS child_id, iteration_found AS iteration, timestamp,
        metadata.island AS island, generation, metadata.migrant AS migrant,
        metadata.parent_metrics::VARCHAR AS parent_metrics, metrics::VARCHAR AS child_metrics,
        (metadata.parent_metrics->>'combined_score')::DOUBLE AS parent_score,
        (metrics->>'combined_score')::DOUBLE AS child_score, metadata.changes AS changes, code AS child_program,
        coalesce(prompts.diff_user, prompts.full_rewrite_user).system AS system, coalesce(prompts.diff_user, prompts.full_rewrite_user).user AS "user",
        coalesce(prompts.diff_user, prompts.full_rewrite_user).responses[1] AS response, artifacts_json AS feedback""",
}

PROGRAMS = {"trace": ["parent_program", "child_program"], "checkpoints": ["child_program"]}
TEXTS = ["system", '"user"', "response", "feedback"]

database = duckdb.connect()
database.execute(f"SET threads = {threads}")
database.execute("SET preserve_insertion_order = false")
database.execute("SET VARIABLE files = $1", [Path(names).read_text().splitlines()])
rows = f"{STEPS[layout]} FROM {READ[layout]}"


def write(query: str, name: str) -> None:
    # Row groups of 64 MB, as in rows they would be so large that one thread writes them all.
    database.execute(f"COPY ({query}) TO '{Path(out) / name}.parquet' "
                     "(FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 3, ROW_GROUP_SIZE_BYTES '64MB')")


def distinct(columns: list[str], name: str) -> str:
    every = " UNION ALL ".join(f"SELECT {column} AS text FROM logs" for column in columns)
    return f"SELECT sha1(text) AS {name}, text FROM (SELECT DISTINCT text FROM ({every}) WHERE text IS NOT NULL)"


if work == "wide":
    write(rows, "steps")
else:
    if form == "table":
        database.execute(f"CREATE TEMP TABLE logs AS {rows}")
    elif form == "staged":
        write(rows, "staged")
        database.execute(f"CREATE TEMP VIEW logs AS FROM '{Path(out)}/staged.parquet'")
    else:
        database.execute(f"CREATE TEMP VIEW logs AS {rows}")
    digests = ", ".join(f"sha1({column}) AS {column}" for column in PROGRAMS[layout] + TEXTS)
    write(f"SELECT * REPLACE ({digests}) FROM logs", "steps")
    write(distinct(PROGRAMS[layout], "program_id"), "programs")
    write(distinct(TEXTS, "text_id"), "texts")
    if form == "staged":
        (Path(out) / "staged.parquet").unlink()
