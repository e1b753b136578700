"""Reads search logs with plain Python and writes Parquet: `with_python.py LAYOUT WORK FORM NAMES OUT THREADS`.

A contestant of `readers.py`: the json and hashlib of the standard library (SHA-256, the fastest digest it has on a
processor with instructions for it), and pyarrow to write. Form `one` is one process; form `pool` is as many as there are
threads, each with its share of the files and its own output. A text that two shares hold is written by both, since
asking the others would cost more than it saves: that is the initial programs and the system prompts.
"""

import json
import multiprocessing
import sys
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

layout, work, form, names, out, threads = sys.argv[1:]

#: Bytes of text that are held before they are written.
BATCH = 64 << 20

STEP = pa.schema([(name, pa.string()) for name in ("source", "parent_id", "child_id")]
                 + [("iteration", pa.int64()), ("timestamp", pa.float64()), ("island", pa.int64()), ("generation", pa.int64()),
                    ("migrant", pa.bool_())]
                 + [(name, pa.string()) for name in ("parent_metrics", "child_metrics")]
                 + [(name, pa.float64()) for name in ("parent_score", "child_score")]
                 + [(name, pa.string()) for name in ("changes", "parent_program", "child_program", "system", "user", "response",
                                                      "feedback")])


class Table:
    """A Parquet file that takes one row at a time."""

    def __init__(self, name: str, schema: pa.Schema, texts: list[str]) -> None:
        short = [field.name for field in schema if field.name not in texts]
        self.file = pq.ParquetWriter(Path(out) / f"{name}.parquet", schema, compression="zstd", compression_level=3,
                                     use_dictionary=short)
        self.schema, self.rows, self.held = schema, [], 0

    def add(self, row: tuple, length: int) -> None:
        self.rows.append(row)
        self.held += length
        if self.held > BATCH:
            self.flush()

    def flush(self) -> None:
        columns = zip(*self.rows) if self.rows else [()] * len(self.schema)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, self.schema)]
        self.file.write_table(pa.Table.from_arrays(arrays, schema=self.schema))
        self.rows, self.held = [], 0

    def close(self) -> None:
        self.flush()
        self.file.close()


def of_trace(path: str):
    """The fields of a step, and its texts: programs first."""
    with open(path, "rb") as file:
        for line in file:
            step = json.loads(line)
            parent, child, artifacts = step["parent_metrics"], step["child_metrics"], step.get("artifacts")
            yield ((path, step["parent_id"], step["child_id"], step["iteration"], step["timestamp"], step["island_id"],
                    step["generation"], None, json.dumps(parent), json.dumps(child), parent.get("combined_score"),
                    child.get("combined_score"), step["metadata"].get("changes")),
                   (step["parent_code"], step["child_code"], step["prompt"]["system"], step["prompt"]["user"],
                    step["llm_response"], json.dumps(artifacts) if artifacts else None))


def of_checkpoint(path: str):
    """As `of_trace`, of a program's file."""
    with open(path, "rb") as file:
        program = json.loads(file.read())
    metadata, metrics = program["metadata"], program["metrics"]
    parent = metadata.get("parent_metrics")
    prompt = next(iter((program["prompts"] or {}).values()), {})
    yield ((path, program["parent_id"], program["id"], program["iteration_found"], program["timestamp"], metadata.get("island"),
            program["generation"], metadata.get("migrant"), None if parent is None else json.dumps(parent), json.dumps(metrics),
            (parent or {}).get("combined_score"), metrics.get("combined_score"), metadata.get("changes")),
           (None, program["code"], prompt.get("system"), prompt.get("user"), next(iter(prompt.get("responses", ())), None),
            program["artifacts_json"]))


def convert(part: int, paths: list[str]) -> None:
    pa.set_cpu_count(1)
    texts = STEP.names[-6:]
    steps = Table(f"steps-{part}", STEP, texts if work == "wide" else [])
    kept = [Table(f"{name}s-{part}", pa.schema({f"{name}_id": pa.string(), "text": pa.string()}), ["text"])
            for name in ("program", "text") if work != "wide"]
    seen = [set() for _ in kept]
    read = of_trace if layout == "trace" else of_checkpoint
    for path in paths:
        for fields, texts in read(path):
            if work == "wide":
                steps.add(fields + texts, sum(len(text) for text in texts if text))
                continue
            ids = []
            for place, text in enumerate(texts):
                if text is None:
                    ids.append(None)
                    continue
                digest = sha256(text.encode())
                ids.append(digest.hexdigest())
                known = seen[place > 1]
                if digest.digest() not in known:
                    known.add(digest.digest())
                    kept[place > 1].add((ids[-1], text), len(text))
            steps.add(fields + tuple(ids), 1000)
    for table in [steps, *kept]:
        table.close()


if __name__ == "__main__":
    files = Path(names).read_text().splitlines()
    if form == "one":
        convert(0, files)
    else:
        count = int(threads)
        workers = [multiprocessing.get_context("fork").Process(target=convert, args=(part, files[part::count])) for part in range(count)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        sys.exit(max(abs(worker.exitcode) for worker in workers))
