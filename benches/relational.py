#!/usr/bin/env python3
"""How fast finch removes equal transitions and labels the rest, against DuckDB doing the same.

The work: of transitions that are equal (task, parent program, child program, answer) the best one stays, with their
number; what stays gets its difference of scores, its outcome and its label. Both write what stays after each of the two
steps, all columns, as zstd Parquet (level 3) in the order of ids. finch runs its stages `dedup` (`exact = "canonical"`)
and `label`; the peer is `peers/relational_duckdb.py`, in the forms its users write; all run in the first round, and the
fastest goes on. finch does more than it: it hashes what it reads and writes, writes a table of what it removed, checks the
order and uniqueness of ids, and syncs to disk. Nothing is taken off for that.

Reading so many records would take longer than this work, so they are not read: finch reads a log of one program, which
gives a real store; then the Parquet files of the tables `transitions`, `candidates` and `objectives` are replaced by
generated ones of the same columns, and the manifest says what the new files are. `candidates` has the failed ones, which
alone are looked at. finch hashes the files and finds what the manifest says. Digests of rows stand for the content and
are not computed as finch does, so `finch verify` would object to the store; nothing else reads them.

Generated are some 300 tasks of very different size, in both directions; a fifth of the rows are equal to an earlier one
of their task, with another score and iteration; 8 % of the programs fail; some parents are missing.

Each contestant is a process of its own, its start included; files come from the page cache; rounds alternate in order; a
figure is the median of its rounds. "MB" are of the transitions that go in, as Arrow has them in memory; how large they
are as Parquet is printed too. Rates are by wall time, and by CPU time of the process tree. The peak is the memory of the
tree, 50 times a second. All must have kept and labelled the same: every column of every row is compared.

`--rows` says how many to generate, `--markdown` prints what README.md shows, `--keep` leaves what was generated. Needs 2 GB
of disk for a million rows: most of it is what finch has aside while it sorts.
"""

import hashlib
import json
import shutil
import statistics
import subprocess
import sys
import venv
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import watch
from bench import ROOT, arguments, machine

PACKAGES = {"duckdb": "2.0.0", "pyarrow": "26.0.1", "numpy": "2.4.6", "blake3": "1.0.11"}
ENVIRONMENT = ROOT / "build/bench-relational-venv"
PYTHON = ENVIRONMENT / "bin/python"
PEER = Path(__file__).parent / "peers/relational_duckdb.py"

SPEC = """pipeline = { store = "store" }
[stages]
logs = { kind = "ingest", sources = ["logs"] }
unique = { kind = "dedup", input = "logs", exact = "canonical" }
labelled = { kind = "label", input = "unique" }
"""

TASKS, RUN_ROWS = 300, 1000
#: Shares of rows or steps.
TWINS, MISSING, LOGGED, SHARED_PROGRAM, SHINKA = 0.2, 0.02, 0.01, 0.05, 0.13
FAILURES = {"error": 0.055, "timeout": 0.018, "infrastructure": 0.007}
SAID = {
    "error": ["NameError: name 'best_{}' is not defined", "SyntaxError: invalid syntax (line {})",
              "InvalidAnswer: circles {} and 7 overlap", "IndexError: list index {} out of range"],
    "timeout": ["TimeLimit: no answer within {} s", "Evaluation timed out after {}s", "it took {} s, which is too long"],
    "infrastructure": ["No module named 'scipy_{}'", "CUDA out of memory. Tried to allocate {} MiB", "429 too many requests, {}",
                       "[Errno 28] No space left on device: 'part-{}'", "host {} does not answer"],
}
#: Rows of a file and of a row group, about as finch cuts them.
FILE_ROWS, GROUP_ROWS = 250_000, 16_000


def install() -> None:
    """The packages, in an environment of their own, once."""
    if PYTHON.exists():
        return
    venv.create(ENVIRONMENT, with_pip=True)
    pinned = [f"{name}=={version}" for name, version in PACKAGES.items()]
    if subprocess.run([PYTHON, "-m", "pip", "install", "--quiet", *pinned]).returncode != 0:
        shutil.rmtree(ENVIRONMENT)
        sys.exit("error: the packages cannot be installed; without them there is nothing to compare with")


# --- Generated rows: numbers first, columns from them

def digests(kind: int, numbers, valid=None, ascending: int = 0):
    """A column with a digest for each number of a kind; null where not `valid`. They ascend, over `ascending` rows."""
    count = len(numbers)
    present = numbers if valid is None else numbers[valid]
    with numpy.errstate(over="ignore"):
        word = (numpy.uint64(kind) << 56) + (present.astype(numpy.uint64)[:, None] << 2) + numpy.arange(4, dtype=numpy.uint64)
        word = (word + 1) * numpy.uint64(0x9E3779B97F4A7C15)
        word = (word ^ (word >> 30)) * numpy.uint64(0xBF58476D1CE4E5B9)
        word = (word ^ (word >> 27)) * numpy.uint64(0x94D049BB133111EB)
        data = (word ^ (word >> 31)).view(numpy.uint8)
    if ascending:
        # The first digits are the number, at even distances.
        first = (present.astype(numpy.uint64) * numpy.uint64((1 << 40) // ascending)) << numpy.uint64(24)
        data[:, :5] = first.byteswap()[:, None].view(numpy.uint8)[:, :5]
    ends = numpy.zeros(count + 1, dtype=numpy.int32)
    numpy.cumsum(numpy.full(count, 64) if valid is None else valid * 64, out=ends[1:])
    nulls = None if valid is None else pyarrow.py_buffer(numpy.packbits(valid, bitorder="little"))
    return pyarrow.StringArray.from_buffers(count, pyarrow.py_buffer(ends), pyarrow.py_buffer(HEX[data]), nulls)


def words(values: list, codes, missing=None):
    """A column of a few words; null where `missing`."""
    return pyarrow.array(values).take(pyarrow.array(codes, mask=missing))


class Rows:
    """What is chosen for all rows, before any is written."""

    def __init__(self, count: int):
        self.count, self.rng = count, numpy.random.default_rng(33)
        rng = self.rng
        # A step is what equal transitions have in common. Most rows have their own; a twin has an earlier row's.
        twin = rng.random(count) < TWINS
        twin[0] = False
        steps = count - int(twin.sum())
        self.step = numpy.empty(count, dtype=numpy.int32)
        self.step[~twin] = numpy.arange(steps)
        earlier = numpy.cumsum(~twin)[twin]
        self.step[twin] = (rng.random(len(earlier)) * earlier).astype(numpy.int32)
        weights = 1 / (numpy.arange(TASKS) + 2) ** 1.1
        of_step = rng.choice(TASKS, steps, p=weights / weights.sum()).astype(numpy.int16)
        self.task = of_step[self.step]
        self.by_task = numpy.argsort(self.task, kind="stable").astype(numpy.int32)
        self.sizes = numpy.bincount(self.task, minlength=TASKS)
        self.starts = numpy.cumsum(self.sizes) - self.sizes
        # The row whose child is the parent: fewer than half of the programs have children.
        self.parent = self.another(of_step, 0.45)
        self.program = numpy.arange(steps, dtype=numpy.int32)
        shared = rng.random(steps) < SHARED_PROGRAM
        self.program[shared] = self.step[self.another(of_step[shared], 1)]
        fate = rng.random(steps)
        self.missing, self.logged = fate < MISSING, (fate >= MISSING) & (fate < MISSING + LOGGED)
        # 0 is valid, others are failures in their order.
        fates = numpy.searchsorted(numpy.cumsum([*FAILURES.values()]), rng.random(count), "right")
        self.failure = ((fates + 1) % (len(FAILURES) + 1)).astype(numpy.int8)
        runs = numpy.maximum(1, self.sizes // RUN_ROWS)
        first = numpy.cumsum(runs) - runs
        self.run = (first[self.task] + (rng.random(count) * runs[self.task]).astype(numpy.int64)).astype(numpy.int32)
        self.shinka = rng.random(int(runs.sum())) < SHINKA
        # Half of the scores are on one of three plateaus of their task, so that there are equal ones.
        middle, spread = rng.choice([0.0, 1.0, 2.5, -3.0, 250.0], TASKS), rng.uniform(0.01, 2, TASKS)
        away = numpy.where(rng.random(count) < 0.5, rng.choice([0.0, 0.5, 1.0], count, p=[0.6, 0.3, 0.1]), rng.normal(size=count))
        self.score = middle[self.task] + spread[self.task] * away
        self.iteration = rng.integers(1, RUN_ROWS, count, dtype=numpy.int16)

    def failed(self):
        """The rows whose child failed, in the order of the child's id."""
        failed = numpy.flatnonzero(self.failure > 0)
        return failed[compute.sort_indices(digests(3, failed)).to_numpy()]

    def another(self, tasks, share: float):
        """For each task a row of it, among a share of its rows."""
        return self.by_task[self.starts[tasks] + (self.rng.random(len(tasks)) * self.sizes[tasks] * share).astype(numpy.int64)]


def transitions(rows: Rows, start: int, end: int) -> dict:
    """Columns of transitions."""
    at, count, rng = numpy.arange(start, end), end - start, numpy.random.default_rng([33, start])
    some = lambda share: rng.random(count) < share
    step, task, run, failure = (of[start:end] for of in (rows.step, rows.task, rows.run, rows.failure))
    parent, missing, logged, shinka = rows.parent[step], rows.missing[step], rows.logged[step], rows.shinka[run]
    known = ~(missing | logged)
    parent_failed = (rows.failure[parent] > 0) & known
    parent_program, program = rows.program[rows.step[parent]], rows.program[step]
    failures, always = [*FAILURES], numpy.zeros_like(task)
    return {
        "transition_id": digests(1, at, ascending=rows.count), "run_id": digests(2, run),
        "scaffold": words(["openevolve", "shinka"], shinka.astype(numpy.int8)),
        "task": words([f"task_{number:03}" for number in range(TASKS)], task),
        "domain": words(["geometry", "systems", "combinatorics"], task % 3, task % 2 == 0),
        "score_key": words(["combined_score"], always, task % 10 == 9),
        "direction": words(["maximize", "minimize"], (task % 3 == 2).astype(numpy.int8)),
        # A candidate that was evicted is none that is left.
        "parent_candidate": digests(3, numpy.where(known, parent, parent + rows.count)), "child_candidate": digests(3, at),
        "parent_program": digests(4, parent_program, known), "child_program": digests(4, program),
        "parent_raw_blake3": digests(5, parent_program, known), "child_raw_blake3": digests(5, program),
        "parent_score": pyarrow.array(rows.score[parent], mask=missing | parent_failed),
        "child_score": pyarrow.array(rows.score[start:end], mask=failure > 0),
        "parent_score_origin": words(["candidate", "logged", "none"], numpy.where(missing, 2, numpy.where(logged, 1, 0))),
        "parent_valid": pyarrow.array(~parent_failed, mask=missing), "child_valid": pyarrow.array(failure == 0),
        "parent_failure": words(failures, rows.failure[parent] - 1, ~parent_failed),
        "child_failure": words(failures, failure - 1, failure == 0),
        "operator": words(["diff", "rewrite", "unknown"], rng.choice(3, count, p=[0.63, 0.36, 0.01])),
        "replay": words(["none", "exact"], known.astype(numpy.int8)),
        "replay_how": words(["lines", "first_fence"], some(0.4).astype(numpy.int8), ~known),
        "no_op": pyarrow.array(known & (parent_program == program)),
        "model": words(["model"], always, ~shinka),
        "temperature": pyarrow.array(numpy.full(count, 0.7), mask=~shinka),
        "prompt_tokens": pyarrow.array(rng.integers(600, 1300, count), mask=~shinka),
        "completion_tokens": pyarrow.array(rng.integers(40, 800, count), mask=~shinka),
        "cost": pyarrow.array(numpy.zeros(count), mask=~shinka),
        "system_prompt_id": digests(6, run), "user_prompt_id": digests(7, parent),
        "reasoning_id": digests(8, step, some(0.34)), "response_id": digests(9, step, step % 100 != 0),
        "prompt_source": words(["logged"], always),
        "iteration": pyarrow.array(rows.iteration[start:end].astype(numpy.int64), mask=some(0.01)),
        "island": pyarrow.array(rng.integers(0, 5, count)), "generation": pyarrow.array(rng.integers(1, 95, count)),
    }


def candidates(rows: Rows, failed) -> dict:
    """Columns of the candidates of some rows, which failed."""
    kinds = [*FAILURES]
    said = [[json.dumps({"combined_score": 0.0, "error": text.format(number), "valid": 0.0}, separators=(",", ":"))
             for text in SAID[kind] for number in range(200)] for kind in kinds]
    first = numpy.cumsum([0, *map(len, said)])
    code = rows.failure[failed] - 1
    picked = first[code] + failed % numpy.diff(first)[code]
    step = rows.step[failed]
    return {
        "run_id": digests(2, rows.run[failed]), "candidate_id": digests(3, failed), "native_id": digests(10, failed),
        "program_id": digests(4, rows.program[step]), "raw_blake3": digests(5, rows.program[step]),
        "iteration": pyarrow.array(rows.iteration[failed].astype(numpy.int64)), "failure": words(kinds, code),
        "metrics": words(sum(said, []), picked), "source": words(["log.jsonl"], numpy.zeros_like(code)),
    }


def objectives() -> dict:
    """Columns of what tasks are judged by; for a third of the tasks somebody knows a bound."""
    at = numpy.arange(2 * TASKS)
    task, bound = at // 2, numpy.where(at // 2 % 3 == 2, -5.0, 3.0)
    return {
        "task": words([f"task_{number:03}" for number in range(TASKS)], task),
        "scaffold": words(["openevolve", "shinka"], at % 2),
        "score_key": words(["combined_score"], numpy.zeros_like(at), task % 10 == 9),
        "direction": words(["maximize", "minimize"], (task % 3 == 2).astype(numpy.int8)),
        "origin": words(["scaffold"], numpy.zeros_like(at)), "bound": pyarrow.array(bound, mask=task % 5 > 1),
    }


def arrow(columns: dict, schema, count: int):
    """A table of this schema. Columns that nobody made are null, or the same in every row."""
    unknown = columns.keys() - set(schema.names)
    if unknown:
        sys.exit(f"error: finch has no column `{min(unknown)}` any more")
    first, plain = numpy.zeros(count, dtype=numpy.int8), {pyarrow.bool_(): False, pyarrow.int64(): 1}
    other = lambda column: pyarrow.array([None if column.nullable else plain.get(column.type, [])], column.type).take(first)
    made = [columns[column.name] if column.name in columns else other(column) for column in schema]
    return pyarrow.Table.from_arrays(made, schema=schema)


# --- The store

def fields(kind: str, *values: str | int) -> str:
    """finch's digest of texts (`crates/finch-core/src/digest.rs`), other digests as `hex:` texts, and numbers."""
    hasher = blake3.blake3(derive_key_context=f"finch {kind} v1")
    for value in values:
        data = value.to_bytes(8, "little") if isinstance(value, int) else value.encode()
        data = bytes.fromhex(value[4:]) if data.startswith(b"hex:") else data
        hasher.update(len(data).to_bytes(8, "little") + data)
    return hasher.hexdigest()


def write(folder: Path, name: str, table) -> tuple[dict, int]:
    """One Parquet file, as a manifest says it, and its bytes in memory."""
    path = folder / name
    parquet.write_table(table, path, row_group_size=GROUP_ROWS, compression="zstd", compression_level=3, data_page_size=4 << 20,
                        use_compliant_nested_type=False)
    sha256, plain = hashlib.sha256(), blake3.blake3()
    with open(path, "rb") as file:
        while piece := file.read(4 << 20):
            sha256.update(piece), plain.update(piece)
    entry = {"name": name, "rows": len(table), "bytes": path.stat().st_size}
    return entry | {"blake3": plain.hexdigest(), "sha256": sha256.hexdigest()}, table.nbytes


def generated(folder: Path, count: int) -> dict:
    """A store with an ingest of generated rows, made once for a number of rows; its sizes."""
    facts = folder / "facts.json"
    if facts.exists():
        return json.loads(facts.read_text())
    shutil.rmtree(folder, ignore_errors=True)
    programs = folder / "logs/run/checkpoints/checkpoint_10/programs"
    programs.mkdir(parents=True)
    (folder / "finch.toml").touch()
    (folder / "spec.toml").write_text(SPEC)
    (programs / "first.json").write_text(json.dumps({
        "id": "first", "code": "def f():\n    return 1\n", "language": "python", "parent_id": None, "generation": 0,
        "timestamp": 1_700_000_000.5, "iteration_found": 0, "metrics": {"combined_score": 0.5}, "metadata": {"island": 0}}))
    subprocess.run([found.finch, "run", folder / "spec.toml", "--only", "logs", "--quiet"], check=True)
    [dataset] = (folder / "store/datasets").iterdir()
    manifest = json.loads((dataset / "manifest.json").read_text())
    rows, sizes = Rows(count), {"ingest": dataset.name}

    def replace(table: str, count: int, columns) -> None:
        [old] = (dataset / table).iterdir()
        schema = parquet.read_schema(old)
        old.unlink()

        def part(start: int) -> tuple[dict, int]:
            end = min(start + FILE_ROWS, count)
            name = f"{table}/{table}-{start // FILE_ROWS:05}.parquet"
            return write(dataset, name, arrow(columns(start, end), schema, end - start))

        # Two at once: more of them would need memory.
        with ThreadPoolExecutor(2) as pool:
            written = list(pool.map(part, range(0, count, FILE_ROWS)))
        files = [entry for entry, _ in written]
        digest = fields("bytes", *(value for file in files for value in (file["bytes"], "hex:" + file["blake3"])))
        manifest["tables"][table] |= {"rows": count, "files": files, "bytes_digest": digest, "rows_digest": digest}
        sizes[table] = {"rows": count, "parquet": sum(file["bytes"] for file in files), "arrow": sum(size for _, size in written)}

    failed = rows.failed()
    replace("transitions", count, lambda start, end: transitions(rows, start, end))
    replace("candidates", len(failed), lambda start, end: candidates(rows, failed[start:end]))
    replace("objectives", 2 * TASKS, lambda *_: objectives())
    for kind in ("rows", "bytes"):
        said = (value for name, table in sorted(manifest["tables"].items()) for value in (name, "hex:" + table[f"{kind}_digest"]))
        manifest[kind] = fields("dataset", kind, *said)
    (dataset / "manifest.json").write_text(json.dumps(manifest, indent=2))
    facts.write_text(json.dumps(sizes))
    return sizes


# --- The contest

@dataclass
class Contestant:
    """Somebody's way to do the work, and what was measured of it."""

    name: str
    form: str
    runs: list[watch.Run] = field(default_factory=list)
    steps: list[dict] = field(default_factory=list)
    output: int = 0
    facts: dict = field(default_factory=dict)

    def median(self, of: str) -> float:
        return statistics.median(getattr(run, of) for run in self.runs)

    def step(self, name: str) -> float:
        return statistics.median(steps[name] for steps in self.steps)

    def __str__(self) -> str:
        return f"{self.name}, {self.form}" if self.form else self.name


def database():
    """A database for looking at what was written."""
    opened = duckdb.connect()
    opened.execute(f"SET threads = {found.threads}; SET memory_limit = '{found.memory_limit}'; "
                   f"SET temp_directory = '{found.work / 'relational-spilled'}'")
    return opened


def facts_of(outputs: dict[str, Path], found_rows: Path) -> dict:
    """What somebody wrote, in few words; and of each labelled row the id, what was found of it, and a hash of all columns."""
    facts = {}
    with database() as opened:
        for name, output in outputs.items():
            opened.execute(f"CREATE VIEW plain_{name} AS FROM read_parquet('{output}')")
            columns = sorted(opened.execute(f"SELECT column_name, column_type FROM (DESCRIBE plain_{name})").fetchall())
            facts[f"{name}: columns"] = ", ".join(" ".join(column) for column in columns)
            # Whole rows, whatever the order of columns.
            whole = ", ".join(column for column, _ in columns)
            opened.execute(f"CREATE VIEW {name} AS SELECT *, hash({whole}) AS whole FROM plain_{name}")
            rows, multiplicities, hashes, disorder = opened.execute(
                f"""SELECT count(*), sum(multiplicity), sum(whole), count(*) FILTER (WHERE transition_id <= before)
                FROM (SELECT transition_id, multiplicity, whole, lag(transition_id) OVER () AS before FROM {name})""").fetchone()
            facts |= {f"{name}: rows": rows, f"{name}: sum of multiplicities": int(multiplicities or 0),
                      f"{name}: sum of hashes": int(hashes or 0), f"{name}: rows out of order": disorder}
        for outcome, rows in opened.execute("SELECT outcome, count(*) FROM labelled GROUP BY ALL ORDER BY ALL").fetchall():
            facts[f"outcome {outcome}"] = rows
        opened.execute(f"COPY (SELECT transition_id, multiplicity, outcome, whole FROM labelled) TO '{found_rows}'")
    return facts


def compare(one: Contestant, first: Contestant, rows: Path, first_rows: Path) -> None:
    """Notes what a contestant found otherwise than the first."""
    for what in sorted(one.facts.keys() | first.facts.keys()):
        if one.facts.get(what) != first.facts.get(what):
            mismatches.append(f"{one}: {what}: {one.facts.get(what)}, but {first}: {first.facts.get(what)}")
    with database() as opened:
        [others] = opened.execute(
            f"SELECT count(*) FROM '{rows}' a FULL JOIN '{first_rows}' b ON a.transition_id = b.transition_id "
            "WHERE a IS DISTINCT FROM b").fetchone()
    if others:
        mismatches.append(f"{one}: {others} rows are not those of {first}")


def clear(ingest: Path, out: Path) -> None:
    """Removes what contestants wrote."""
    for folder in [out, *(dataset for dataset in ingest.parent.iterdir() if dataset != ingest)]:
        shutil.rmtree(folder, ignore_errors=True)


def round_of(one: Contestant, folder: Path, first: Contestant) -> None:
    """One run of a contestant; what it wrote is looked at once, and removed."""
    store, out = folder / "store", found.work / "relational-out"
    ingest = store / "datasets" / json.loads((folder / "facts.json").read_text())["ingest"]
    clear(ingest, out)
    out.mkdir()
    if one.form:
        run = watch.timed([PYTHON, PEER, one.form, ingest, out, found.threads, found.memory_limit, ROOT / "rules/failures.toml",
                           *tolerance], out / "words")
        one.steps.append(json.loads((out / "seconds.json").read_text()))
        outputs = {"kept": out / "unique.parquet", "labelled": out / "labelled.parquet"}
    else:
        run = watch.timed([found.finch, "run", folder / "spec.toml", "--threads", found.threads,
                           "--memory-limit", found.memory_limit, "--quiet"], out / "words")
        stages = json.loads(max((store / "builds").iterdir()).read_text())["stages"]
        if [stage["decision"] for stage in stages] != ["reuse", "run", "run"]:
            sys.exit("error: finch did not work on the generated rows")
        one.steps.append({"dedup": stages[1]["seconds"], "label": stages[2]["seconds"]})
        tolerance[:] = (stages[2]["parts"][f"parameter.{kind}"] for kind in ("absolute", "relative"))
        outputs = {name: store / "datasets" / stage["fingerprint"] / "transitions/*.parquet"
                   for name, stage in zip(("kept", "labelled"), stages[1:])}
    one.runs.append(run)
    if not one.facts:
        one.output = sum(path.stat().st_size for output in outputs.values() for path in output.parent.glob(output.name))
        rows, first_rows = (folder / f"rows-{name}.parquet" for name in ("peer" if one.form else "finch", "finch"))
        one.facts = facts_of(outputs, rows)
        if one.form:
            compare(one, first, rows, first_rows)
    clear(ingest, out)


def contest(folder: Path) -> list[Contestant]:
    """All rounds: finch and the fastest form of the peer."""
    first = Contestant("finch", "")
    rivals = [first, *(Contestant("DuckDB", form) for form in found.forms.split(","))]
    for turn in range(int(found.times)):
        for one in rivals if turn % 2 == 0 else rivals[::-1]:
            try:
                round_of(one, folder, first)
            except SystemExit as error:
                # A form that does not fit into the memory is out; without finch there is nothing to compare.
                if not one.form or turn > 0:
                    raise
                lines = str(error).strip().splitlines()
                failed.append(f"{one}: {next((line for line in lines if 'Error:' in line), lines[-1])}")
                continue
            run = one.runs[-1]
            disturbance.append(run.others)
            print(f"  round {turn + 1}: {one}: {run.seconds:.2f} s, {run.cpu:.2f} s of CPU, others {100 * run.others:.0f} %",
                  file=sys.stderr)
        if turn == 0:
            tried = [one for one in rivals if one.runs]
            if tried == [first]:
                sys.exit("\n".join(["error: no form of the peer did the work", *failed]))
            rivals = [first, min(tried[1:], key=lambda one: one.runs[0].seconds)]
    return tried if int(found.times) == 1 else rivals


def table(rivals: list[Contestant], length: int) -> list[list[str]]:
    """The rows to show; the ratio is to the fastest peer."""
    best = min(one.median("seconds") for one in rivals if one.form)
    rows = [["", "MB/s", "MB/s per core", "peak MB", "of it anonymous", "seconds", "dedup", "label", "output MB", "to best peer"]]
    for one in rivals:
        rows.append([
            str(one), f"{length / 1e6 / one.median('seconds'):.1f}", f"{length / 1e6 / one.median('cpu'):.1f}",
            f"{max(run.resident for run in one.runs) / 1e6:.0f}", f"{max(run.anonymous for run in one.runs) / 1e6:.0f}",
            f"{one.median('seconds'):.1f}", f"{one.step('dedup'):.1f}", f"{one.step('label'):.1f}",
            f"{one.output / 1e6:.0f}", f"{best / one.median('seconds'):.2f}",
        ])
    return rows


if __name__ == "__main__":
    if Path(sys.prefix) != ENVIRONMENT:
        install()
        sys.exit(subprocess.run([PYTHON, *sys.argv]).returncode)
    import blake3
    import duckdb
    import numpy
    import pyarrow
    from pyarrow import compute, parquet
    HEX = numpy.array([f"{byte:02x}" for byte in range(256)], dtype="S2")
    markdown, keep = (flag in sys.argv for flag in ("--markdown", "--keep"))
    sys.argv = [word for word in sys.argv if word not in ("--markdown", "--keep")]
    found = arguments(__doc__, rows="10000000", times="3", threads="2", forms="window,keys,groups,streamed",
                      **{"memory-limit": "4GiB"})
    found.work = found.work.resolve()
    found.work.mkdir(parents=True, exist_ok=True)
    tolerance, mismatches, failed, disturbance = [], [], [], []
    machine(found)
    print(f"peer      {', '.join(f'{name} {version}' for name, version in PACKAGES.items())}, Python {sys.version.split()[0]}\n"
          f"settings  {found.threads} threads, memory limit {found.memory_limit} for each, zstd level 3, median of {found.times}")
    folder = found.work / f"relational-{found.rows}"
    try:
        sizes = generated(folder, int(found.rows))
        rivals = contest(folder)
    finally:
        shutil.rmtree(found.work / "relational-out", ignore_errors=True)
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
    facts, size = rivals[0].facts, sizes["transitions"]
    print(f"\n{size['rows']:,} transitions, {facts['kept: rows']:,} stay; {size['arrow'] / 1e6:.0f} MB in Arrow (those of the "
          f"rates), {size['parquet'] / 1e6:.0f} MB as Parquet; {sizes['candidates']['rows']:,} failed candidates\n")
    watch.show(table(rivals, size["arrow"]), markdown, 1)
    outcomes = (f"{what.removeprefix('outcome ')} {rows:,}" for what, rows in facts.items() if what.startswith("outcome "))
    print(f"\nOutcomes: {', '.join(outcomes)}.\nOther processes took up to {100 * max(disturbance):.0f} % of the cores.",
          *(f"\nDid not do it: {line}" for line in failed), sep="")
    if (added := facts["labelled: sum of multiplicities"]) != size["rows"]:
        mismatches.append(f"finch: the multiplicities add up to {added}")
    print("All kept the same transitions and found the same of each, in every column." if not mismatches else
          "!!! NOT THE SAME WORK: the figures above compare nothing\n" + "\n".join(f"!!! {line}" for line in mismatches))
    if mismatches:
        sys.exit(1)
