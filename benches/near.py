#!/usr/bin/env python3
"""Near-duplicates: what finch finds against all pairs of real programs, and how fast it is beside datatrove and text-dedup.

First real logs go through the stage `dedup` with `near`. Every pair of their programs is compared here, in Python, by the
Jaccard similarity of the same shingles: none of finch's clusters may hold what no chain of pairs at the threshold links,
and of the pairs that are 0.05 above it at least 99 % must be in one cluster. The table must be the same with one thread
and two, and when the logs' folders have other names and another order.

Then generated programs of 4 kB: a sample that the Python tools can do, with all of them in one run, and the full number
with finch alone. finch compares every candidate pair by its true similarity, which the others do not. Each is a process
of its own; the peak is the anonymous memory of its tree, 50 times a second.

`--logs` are real logs, `--programs` how many to generate for finch, `--sample` how many for all. Needs 12 GB of disk.
"""

import collections
import csv
import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import watch
from bench import ROOT, arguments, machine

PACKAGES = {"numpy": "2.4.6", "scipy": "1.17.1", "pyarrow": "26.0.1", "datatrove[io,processing]": "0.10.1", "spacy": "3.8.18",
            "text-dedup": "0.4.0"}
ENVIRONMENT = ROOT / "build/bench-near-venv"
PYTHON = ENVIRONMENT / "bin/python"
THRESHOLD, NGRAM, ABOVE = 0.85, 5, 0.05


def install() -> None:
    """The Python tools, into a virtual environment of their own."""
    if PYTHON.exists():
        return
    venv.create(ENVIRONMENT, with_pip=True)
    pinned = [f"{name}=={version}" for name, version in PACKAGES.items()]
    subprocess.run([PYTHON, "-m", "pip", "install", "--quiet", *pinned], check=True)


def clusters(folder: Path, logs: Path, store: str, threads: int) -> str:
    """The table of clusters that finch makes of logs, as CSV in the order of ids."""
    (folder / "finch.toml").touch()
    spec = folder / f"{store}.toml"
    spec.write_text(f'[pipeline]\nstore = "{store}"\n[stages.logs]\nkind = "ingest"\nsources = ["{logs.name}"]\n'
                    f'infer_parents = true\nmax_quarantined = 1.0\n[stages.unique]\nkind = "dedup"\ninput = "logs"\n'
                    f'near = {{ ngram = {NGRAM}, threshold = {THRESHOLD} }}\n')
    subprocess.run([found.finch, "run", spec, "--threads", str(threads), "--quiet"], check=True)
    return query(folder / store, "SELECT program_id, cluster_id, size FROM clusters ORDER BY program_id", "csv")


def query(store: Path, sql: str, form: str) -> str:
    return subprocess.run([found.finch, "query", "--store", store, "--format", form, sql], check=True,
                          capture_output=True, text=True).stdout


def renamed(logs: Path, to: Path) -> None:
    """The same logs, with the folders of the first two levels under other names, in another order."""
    for path in sorted(logs.rglob("*")):
        if path.is_file():
            parts = path.relative_to(logs).parts
            named = [hashlib.sha256(part.encode()).hexdigest()[:12] if at < min(2, len(parts) - 1) else part
                     for at, part in enumerate(parts)]
            target = to.joinpath(*named)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


def shingles(code: str) -> set:
    """The shingles of a program, as `src/near/tokens.rs` says them: five tokens in a row, or all there are."""
    tokens = re.findall(rb"[A-Za-z0-9_\x80-\xff]+|[^\sA-Za-z0-9_\x80-\xff]", code.encode())
    width = min(NGRAM, len(tokens))
    return {tuple(tokens[at:at + width]) for at in range(len(tokens) - width + 1)} if width else set()


def compare(table: list, codes: dict) -> None:
    """Holds clusters against all pairs of programs."""
    import numpy
    from scipy.sparse import coo_matrix, csr_matrix
    from scipy.sparse.csgraph import connected_components

    ids = sorted(codes)
    sets = [shingles(codes[one]) for one in ids]
    number = collections.defaultdict(lambda: len(number))
    rows = [(at, number[shingle]) for at, one in enumerate(sets) for shingle in one]
    at, shingle = numpy.array(rows).T
    matrix = csr_matrix((numpy.ones(len(rows), dtype=numpy.int32), (at, shingle)), shape=(len(ids), len(number)))
    sizes = numpy.array([len(one) for one in sets])
    left, right, alike = [], [], []
    for start in range(0, len(ids), 250):
        both = (matrix[start:start + 250] @ matrix.T).tocoo()
        a, b = both.row + start, both.col
        similarity = both.data / (sizes[a] + sizes[b] - both.data)
        kept = (a < b) & (similarity >= THRESHOLD)
        left.append(a[kept]), right.append(b[kept]), alike.append(similarity[kept])
    left, right, alike = map(numpy.concatenate, (left, right, alike))
    edges = coo_matrix((numpy.ones(len(left)), (left, right)), shape=(len(ids), len(ids)))
    exact_count, exact = connected_components(edges, directed=False)
    cluster = {row["program_id"]: row["cluster_id"] for row in table}
    found_of = [cluster[one] for one in ids]
    home = {}
    strangers = sum(home.setdefault(of, exact[at]) != exact[at] for at, of in enumerate(found_of))
    clear = alike >= THRESHOLD + ABOVE
    together = numpy.array([found_of[a] == found_of[b] for a, b in zip(left, right)])
    print(f"{len(ids):,} real programs, {len(ids) * (len(ids) - 1) // 2:,} pairs; {len(alike):,} are at {THRESHOLD} or "
          f"more, {clear.sum():,} at {THRESHOLD + ABOVE:.2f} or more")
    print(f"clusters: {len(set(found_of)):,}, of all pairs: {exact_count:,}; programs with strangers: {strangers}")
    print(f"recall: {together[clear].mean():.5f} at {THRESHOLD + ABOVE:.2f} or more, {together.mean():.5f} at {THRESHOLD} or more")
    if strangers or together[clear].mean() < 0.99:
        sys.exit("error: clusters are not what all pairs say")


def real(folder: Path, logs: Path) -> None:
    """Real logs, against all pairs."""
    for source in {logs, ROOT / "data/logs"}:
        shutil.copytree(source, folder / "logs" / source.parent.name, ignore=shutil.ignore_patterns("README.md", "golden"))
    renamed(folder / "logs", folder / "other")
    one = clusters(folder, folder / "logs", "one", 1)
    same = {"2 threads": clusters(folder, folder / "logs", "two", 2) == one,
            "other names and order": clusters(folder, folder / "other", "three", 2) == one}
    print("the table is the same with", ", ".join(f"{what}: {'yes' if is_so else 'NO'}" for what, is_so in same.items()))
    codes = query(folder / "one", "SELECT c.program_id, p.code FROM clusters c JOIN programs p ON p.program_id = c.program_id",
                  "jsonl")
    codes = {row["program_id"]: row["code"] for row in map(json.loads, codes.splitlines())}
    compare(list(csv.DictReader(io.StringIO(one))), codes)
    if not all(same.values()):
        sys.exit("error: the table of clusters depends on more than the programs")


def generated(folder: Path, count: int) -> int:
    """A Parquet file of generated programs; how many bytes of text they are."""
    said = subprocess.run([found.generate, folder, "--programs", str(count)], check=True, capture_output=True, text=True)
    print(said.stdout.strip())
    import pyarrow.compute as compute
    import pyarrow.parquet as parquet
    codes = parquet.ParquetFile(folder / "programs.parquet")
    return sum(compute.sum(compute.binary_length(batch.column(0))).as_py() for batch in codes.iter_batches(columns=["code"]))


def timed(name: str, threads: int, command: list, size: int, rows: list) -> None:
    """One contestant. The rate of a core is the whole rate by the threads: some let others wait for their workers."""
    run = watch.timed(command, found.work / "words")
    rate = size / run.seconds / 1e6
    rows.append([name, f"{rate:.1f}", f"{rate / threads:.1f}", f"{run.anonymous / 1e6:.0f}", f"{run.seconds:.1f}"])


def speed(folder: Path, count: int, with_peers: bool) -> None:
    """Generated programs, by all who can."""
    folder.mkdir()
    size = generated(folder, count)
    rows = [["", "MB/s", "MB/s per core", "peak anonymous MB", "seconds"]]
    for threads, limit in ((2, "2GiB"), (1, "2GiB"), (2, "512MiB")):
        out = folder / f"finch-{threads}-{limit}"
        out.mkdir()
        timed(f"finch, {threads} thread{'s' * (threads > 1)}, {limit}", threads,
              [found.near, folder / "programs.parquet", out, "--threads", str(threads), "--memory-limit", limit], size, rows)
    tables = {(folder / f"finch-{name}/clusters/clusters-00000.parquet").read_bytes() for name in ("2-2GiB", "1-2GiB", "2-512MiB")}
    if with_peers:
        import pyarrow.parquet as parquet
        parts, table = folder / "parts", parquet.read_table(folder / "programs.parquet")
        parts.mkdir()
        for part in range(8):
            parquet.write_table(table.slice(part * len(table) // 8, len(table) // 8), parts / f"{part}.parquet")
        timed("datatrove, 2 workers", 2,
              [PYTHON, Path(__file__).parent / "peers/with_datatrove.py", parts, folder / "datatrove", "2"], size, rows)
        timed("text-dedup, 2 processes", 2,
              [PYTHON, "-m", "text_dedup.minhash", "--path", "parquet", "--data_files", folder / "programs.parquet",
               "--split", "train", "--column", "code", "--num_perm", "128", "--threshold", str(THRESHOLD), "--ngram", "5",
               "--hash_func", "xxh3", "--num_proc", "2", "--cache_dir", folder / "cache", "--output", folder / "text-dedup"],
              size, rows)
    watch.show(rows, found.markdown, 1)
    print("the clusters are the same for every number of threads and memory limit:", "yes" if len(tables) == 1 else "NO")
    shutil.rmtree(folder)
    if len(tables) != 1:
        sys.exit("error: clusters depend on threads or memory")


if __name__ == "__main__":
    if Path(sys.prefix) != ENVIRONMENT:
        install()
        sys.exit(subprocess.run([PYTHON, *sys.argv]).returncode)
    found = arguments(__doc__, near=ROOT / "target/release/examples/near", logs=ROOT / "data/logs", programs="1000000",
                      sample="20000", markdown="no")
    found.markdown = found.markdown == "yes"
    machine(found)
    work = found.work / "near"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    print("\n== real programs, against all pairs")
    real(work, Path(found.logs))
    print(f"\n== {int(found.sample):,} generated programs, all tools")
    speed(work / "sample", int(found.sample), True)
    print(f"\n== {int(found.programs):,} generated programs, finch")
    speed(work / "full", int(found.programs), False)
    shutil.rmtree(work)
