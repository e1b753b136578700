#!/usr/bin/env python3
"""Other programs read what finch wrote: DuckDB opens the shards and finds the same rows.

Builds the demo into a temporary store, asks `finch path` where tables lie, and compares DuckDB's answers with
those of `finch query`. DuckDB comes from PyPI into a virtual environment below build/; where it cannot be had, one
line says so.
"""

import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / "build" / "peers-venv"
DUCKDB = "duckdb==1.4.1"


def python() -> Path | None:
    """The environment's interpreter, made on first use; None when DuckDB cannot be installed."""
    interpreter = VENV / "bin" / "python"
    if not interpreter.exists():
        venv.create(VENV, with_pip=True)
    have = subprocess.run([interpreter, "-c", "import duckdb"], capture_output=True).returncode == 0
    if not have:
        pip = [interpreter, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", DUCKDB]
        if subprocess.run(pip).returncode != 0:
            return None
    return interpreter


# Each query runs in both programs; {t} is the table, as finch names it and as a list of files.
QUERIES = {
    "examples": "SELECT split, count(*) AS n, sum(total_tokens) AS tokens FROM {t} GROUP BY split ORDER BY split",
    "transitions": "SELECT count(*) AS n, count(DISTINCT transition_id) AS ids FROM {t}",
    "programs": "SELECT language, count(*) AS n, sum(bytes) AS bytes FROM {t} GROUP BY language ORDER BY language",
    "candidates": "SELECT valid, count(*) AS n, sum(len(parent_native_ids)) AS parents FROM {t} GROUP BY valid ORDER BY valid",
}
# The final row table, not the view over all stages.
NAMES = {"transitions": "split.transitions"}


def main() -> int:
    """Compare all queries; the number of differences is the exit code."""
    finch = str(Path(sys.argv[1]).resolve())
    interpreter = python()
    if interpreter is None:
        print("SKIPPED peers: DuckDB cannot be installed from PyPI")
        return 0
    differences = 0
    with tempfile.TemporaryDirectory() as store:
        run = lambda *args: subprocess.run([finch, *args], cwd=ROOT, check=True, capture_output=True, text=True).stdout
        run("run", "--quiet", "pipelines/demo.toml", "--store", store)
        for table, query in QUERIES.items():
            name = NAMES.get(table, table)
            files = run("path", "--store", store, name).split("\n")[:-1]
            own = query.replace("len(", "cardinality(").format(t=name)
            ours = json.loads(run("query", "--store", store, "--format", "json", own))
            script = "import duckdb, json, sys; c = duckdb.sql(sys.argv[1]); " \
                "print(json.dumps([dict(zip(c.columns, row)) for row in c.fetchall()], default=int))"
            sql = query.format(t=f"read_parquet({files!r})")
            theirs = json.loads(subprocess.run([interpreter, "-c", script, sql], check=True, capture_output=True, text=True).stdout)
            same = ours == theirs
            differences += not same
            print(f"peers: duckdb {table}: {'the same ' + str(len(ours)) + ' rows' if same else f'{ours} is not {theirs}'}")
    return differences


if __name__ == "__main__":
    sys.exit(main())
