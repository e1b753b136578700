"""Reads search logs with Polars and writes Parquet: `with_polars.py LAYOUT WORK FORM NAMES OUT THREADS`.

A contestant of `readers.py`. The schema is given, so nothing is guessed. Form `stream` is one lazy plan with a sink for
each output, run by the streaming engine; form `staged` writes all texts to Parquet first and works from that; form
`eager` holds a data frame. Polars has no cryptographic digest, so texts
are named by its own hash of 64 bits: too short for an identity, and faster than any that is not.
"""

import os
import sys
from pathlib import Path

layout, work, form, names, out, threads = sys.argv[1:]
os.environ["POLARS_MAX_THREADS"] = threads

import polars as pl  # noqa: E402 - it reads its threads when it is imported

PROMPT = {"system": pl.String, "user": pl.String}
ANSWERED = pl.Struct(PROMPT | {"responses": pl.List(pl.String)})

SCHEMA = {
    "trace": {
        "iteration": pl.Int64, "timestamp": pl.Float64, "parent_id": pl.String, "child_id": pl.String,
        "parent_metrics": pl.String, "child_metrics": pl.String, "parent_code": pl.String, "child_code": pl.String,
        "prompt": pl.Struct(PROMPT), "llm_response": pl.String, "island_id": pl.Int64, "generation": pl.Int64,
        "artifacts": pl.String, "metadata": pl.Struct({"changes": pl.String}),
    },
    "checkpoints": {
        "id": pl.String, "code": pl.String, "parent_id": pl.String, "generation": pl.Int64, "timestamp": pl.Float64,
        "iteration_found": pl.Int64, "metrics": pl.String, "artifacts_json": pl.String,
        "metadata": pl.Struct({"island": pl.Int64, "migrant": pl.Boolean, "changes": pl.String, "parent_metrics": pl.String}),
        "prompts": pl.Struct({"diff_user": ANSWERED, "full_rewrite_user": ANSWERED}),
    },
}


def score(column: pl.Expr) -> pl.Expr:
    return column.str.json_path_match("$.combined_score").cast(pl.Float64)


def prompt(name: str) -> pl.Expr:
    return pl.coalesce(pl.col("prompts").struct.field(key).struct.field(name) for key in ("diff_user", "full_rewrite_user"))


of_metadata = pl.col("metadata").struct.field
STEPS = {
    "trace": [
        "source", "parent_id", "child_id", "iteration", "timestamp", pl.col("island_id").alias("island"), "generation",
        "parent_metrics", "child_metrics", score(pl.col("parent_metrics")).alias("parent_score"),
        score(pl.col("child_metrics")).alias("child_score"), of_metadata("changes"),
        pl.col("parent_code").alias("parent_program"), pl.col("child_code").alias("child_program"),
        pl.col("prompt").struct.field("system"), pl.col("prompt").struct.field("user"),
        pl.col("llm_response").alias("response"), pl.col("artifacts").alias("feedback"),
    ],
    "checkpoints": [
        "source", "parent_id", pl.col("id").alias("child_id"), pl.col("iteration_found").alias("iteration"), "timestamp",
        of_metadata("island"), "generation", of_metadata("migrant"), of_metadata("parent_metrics"),
        pl.col("metrics").alias("child_metrics"), score(of_metadata("parent_metrics")).alias("parent_score"),
        score(pl.col("metrics")).alias("child_score"), of_metadata("changes"), pl.col("code").alias("child_program"),
        prompt("system"), prompt("user"), prompt("responses").list.first().alias("response"),
        pl.col("artifacts_json").alias("feedback"),
    ],
}

PROGRAMS = {"trace": ["parent_program", "child_program"], "checkpoints": ["child_program"]}
TEXTS = ["system", "user", "response", "feedback"]


def distinct(logs: pl.LazyFrame, columns: list[str], name: str) -> pl.LazyFrame:
    every = pl.concat([logs.select(pl.col(column).alias("text")) for column in columns])
    return every.filter(pl.col("text").is_not_null()).unique(maintain_order=False).select(pl.col("text").hash().alias(name), "text")


logs = pl.scan_ndjson(Path(names).read_text().splitlines(), schema=SCHEMA[layout], include_file_paths="source")
logs = logs.select(STEPS[layout])
# In rows of this length a group takes some 50 MB; by default one thread writes them all.
parquet = {"compression": "zstd", "compression_level": 3, "row_group_size": 1024}
staged = Path(out) / "staged.parquet"
if form == "eager":
    logs = logs.collect(engine="in-memory").lazy()
elif form == "staged":
    logs.sink_parquet(staged, engine="streaming", **parquet)
    logs = pl.scan_parquet(staged)
tables = {"steps": logs}
if work == "normalised":
    tables["steps"] = logs.with_columns(pl.col(PROGRAMS[layout] + TEXTS).hash())
    tables["programs"] = distinct(logs, PROGRAMS[layout], "program_id")
    tables["texts"] = distinct(logs, TEXTS, "text_id")
if form == "eager":
    for name, table in tables.items():
        table.collect(engine="in-memory").write_parquet(Path(out) / f"{name}.parquet", **parquet)
else:
    pl.collect_all([table.sink_parquet(Path(out) / f"{name}.parquet", lazy=True, **parquet) for name, table in tables.items()],
                   engine="streaming")
staged.unlink(missing_ok=True)
