#!/usr/bin/env python3
"""Other programs read what finch wrote: DuckDB opens the shards and finds the same rows.

Builds the demo's data into a temporary store, asks `finch path` where tables lie, and compares DuckDB's answers with
those of `finch query`. DuckDB comes from PyPI into a folder below build/; where it cannot be had, one
line says so.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ROOT / "build" / "peers"
DUCKDB = "duckdb==1.4.1"


def packages() -> bool:
    """Whether DuckDB is there, installed on first use. A folder, because a virtual environment needs more than pip."""
    if not (PACKAGES / "duckdb").exists():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", PACKAGES, DUCKDB]
        return subprocess.run(pip).returncode == 0
    return True


# Each query runs in both programs; {t} is the table, as finch names it and as a list of files.
QUERIES = {
    "examples": "SELECT split, count(*) AS n, sum(total_tokens) AS tokens FROM {t} GROUP BY split ORDER BY split",
    "packs": "SELECT split, count(*) AS n, sum(tokens) AS tokens, sum(len(input_ids)) AS ids, sum(len(example_ids)) AS examples FROM {t} GROUP BY split ORDER BY split",
    "transitions": "SELECT count(*) AS n, count(DISTINCT transition_id) AS ids FROM {t}",
    "programs": "SELECT language, count(*) AS n, sum(bytes) AS bytes FROM {t} GROUP BY language ORDER BY language",
    "candidates": "SELECT valid, count(*) AS n, sum(len(parent_native_ids)) AS parents FROM {t} GROUP BY valid ORDER BY valid",
}
# The final row table, not the view over all stages.
NAMES = {"transitions": "split.transitions"}


def main() -> int:
    """Compare all queries; the number of differences is the exit code."""
    finch = str(Path(sys.argv[1]).resolve())
    if not packages():
        print("SKIPPED peers: DuckDB cannot be installed from PyPI")
        return 0
    differences = 0
    with tempfile.TemporaryDirectory() as store:
        run = lambda *args: subprocess.run([finch, *args], cwd=ROOT, check=True, capture_output=True, text=True).stdout
        run("run", "--quiet", "pipelines/demo.toml", "--store", store, "--only", "packed")
        for table, query in QUERIES.items():
            name = NAMES.get(table, table)
            files = run("path", "--store", store, name).split("\n")[:-1]
            own = query.replace("len(", "cardinality(").format(t=name)
            ours = json.loads(run("query", "--store", store, "--format", "json", own))
            script = "import duckdb, json, sys; c = duckdb.sql(sys.argv[1]); " \
                "print(json.dumps([dict(zip(c.columns, row)) for row in c.fetchall()], default=int))"
            sql = query.format(t=f"read_parquet({files!r})")
            theirs = json.loads(subprocess.run([sys.executable, "-c", script, sql], check=True, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(PACKAGES)}).stdout)
            same = ours == theirs
            differences += not same
            print(f"peers: duckdb {table}: {'the same ' + str(len(ours)) + ' rows' if same else f'{ours} is not {theirs}'}")
    return differences


if __name__ == "__main__":
    sys.exit(main())
