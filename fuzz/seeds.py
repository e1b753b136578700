#!/usr/bin/env python3
"""Writes the seeds of the fuzz targets: small files of every form that finch reads, made here and nowhere else.

The seeds are committed, so this runs only to change them. Parquet needs the package pyarrow, HDF5 the package h5py, and zstd its program; seeds
of what is missing stay as they are. Names of files: what makes the seed special. A file that
begins with `crash_` is the input of a mistake that was found, and is not written here.
"""

import collections
import gzip
import io
import json
import os
import pickle
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import types
import warnings
import zipfile

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "seeds")
BREAK = b"\xff\x00"
BREAK_LOG = b"\xff\x00write-ahead\xff\x00"

PARENT = "# EVOLVE-BLOCK-START\ndef f(x):\n    return x\n# EVOLVE-BLOCK-END\n"
CHILD = PARENT.replace("return x", "return x + 1")
DIFF = "Adds one.\n<<<<<<< SEARCH\n    return x\n=======\n    return x + 1\n>>>>>>> REPLACE\n"
FENCE = "Here:\n```python\n" + CHILD + "```\n"
PROMPT = "# Current Program\n```python\n" + PARENT + "```\n# Task\nImprove it.\n"


def put(target, name, content):
    if isinstance(content, str):
        content = content.encode()
    folder = os.path.join(HERE, target)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "wb") as file:
        file.write(content)


def text(value):
    return json.dumps(value)


def folder(target, name, names, files):
    """An input that is a folder: pieces, each with a first byte that picks a name."""
    pieces = []
    for within, content in files:
        content = content.encode() if isinstance(content, str) else content
        assert BREAK not in content, within
        at = names.index(within)
        first = next(byte for byte in range(65, 65 + len(names)) if byte % len(names) == at)
        pieces.append(bytes([first]) + content)
    put(target, name, BREAK.join(pieces))


# --- one file a program, traces, consoles -----------------------------------------------------------------------------

program = {
    "id": "p1", "code": CHILD, "language": "python", "parent_id": "p0", "generation": 1, "timestamp": 1760000000.5,
    "iteration_found": 3, "metrics": {"combined_score": 0.5, "eval_time": 1.25, "note": "ok", "valid": True},
    "complexity": 0.0, "diversity": 0.0,
    "metadata": {"changes": "adds one", "parent_metrics": {"combined_score": 0.25}, "island": 1},
    "prompts": {"diff_user": {"system": "s", "user": PROMPT, "responses": [DIFF]}},
    "artifacts_json": text({"stderr": "Traceback (most recent call last):\nValueError: x", "n": None, "more": [1, 2]}),
}
put("openevolve_program", "step", text(program))
put("openevolve_program", "migrant", text({**program, "id": "p1_migrant_2", "metadata": {"migrant": True}, "prompts": None}))
put("openevolve_program", "words", text({**program, "prompts": None, "artifacts_json": None}).replace("0.5", "NaN").replace("1.25", "-Infinity"))
put("openevolve_program", "fenced", text({**program, "artifacts": {"a": "b"}, "prompts": {"full_rewrite_user": {"user": PROMPT, "responses": ["<think>\nhm</think>" + FENCE]}, "evaluation": {}}}))
put("openevolve_program", "surrogate", b'\xef\xbb\xbf{"id": 7, "code": "\\ud83d\xa1", "metrics": {"error": 0.0, "timeout": true}, "code_hash": "x"}')
put("openevolve_program", "half", text(program)[:300])
put("openevolve_program", "packed.gz", gzip.compress(text({**program, "prompts": None}).encode(), mtime=0))

step = {
    "iteration": 1, "timestamp": 1760000000.0, "parent_id": "p0", "child_id": "p1", "parent_metrics": {"combined_score": 0.1},
    "child_metrics": {"combined_score": 0.2}, "parent_code": PARENT, "child_code": CHILD, "prompt": {"system": "s", "user": PROMPT},
    "llm_response": DIFF, "improvement_delta": {"combined_score": 0.1}, "island_id": 0, "generation": 1, "artifacts": {"stdout": "1"},
    "metadata": {"model": "m", "iteration_time": 2.0},
}
bare = {key: value for key, value in step.items() if key not in ("parent_code", "child_code")}
put("openevolve_trace", "lines", text(step) + "\n\n  " + text({**bare, "iteration": 2, "child_id": "p2"}) + "\n")
put("openevolve_trace", "glued", text(bare)[:120] + text(bare) + text(bare)[:90] + "\n" + text({"child_id": "x"}))
put("openevolve_trace", "document", text({"metadata": {}, "traces": [step, {**bare, "child_id": 3}, None]}))

bulk = {"p0": {**program, "id": "p0", "parent_id": None, "prompts": None}, "p1": {**program, "prompts": None}, "p2": {"id": "p2"}, "p3": 4}
put("openevolve_bulk", "bulk", text(bulk))
put("openevolve_bulk", "database", text({"programs": bulk, "last_iteration": 3, "current_island": 0, "training_step": 1}))

line = "2025-12-06 11:41:34,763 - openevolve.process_parallel - "
put("openevolve_console", "steps", (
    line + "INFO - Iteration 3: Program a-1 (parent: b-2) completed in 93.41s\n"
    + line + "INFO - Metrics: runs_successfully=1.0000, combined_score=1.2910\n"
    + line + "INFO - Iteration 31: Child c from parent None in 3.60s. Metrics: count=47.0000, score=-inf, ok=True\n"
    + line + "WARNING - Iteration 12 error: No valid diffs found in response\n"
    + line + "INFO - Evaluated program d in 0.50s: combined_score=nan\n").encode() + b"x - INFO - \xa1\xfa\r\n")

sky = {key: value for key, value in program.items() if key not in ("code", "artifacts_json")}
sky = {**sky, "solution": CHILD, "other_context_ids": ["p5", "p6"], "parent_info": ["", "p0"], "artifacts": {"feedback": "good"}}
sky["prompts"] = {"diff_user_message": {"system": "s", "user": PROMPT.replace("Program", "Solution"), "responses": [FENCE]}}
put("skydiscover", "step", text(sky))
put("skydiscover", "migrant", text({**sky, "metadata": {"migrated_from": 0}, "prompts": None, "metrics": {"validity": 0.0, "error": "timed out"}}))

# --- pickles ----------------------------------------------------------------------------------------------------------


def module(name, **classes):
    made = types.ModuleType(name)
    for word, bases in classes.items():
        made.__dict__[word] = type(word, bases, {"__module__": name})
    sys.modules[name] = made
    return made


def having(made, **state):
    made.__dict__.update(state)
    return made


codeevolve = module("codeevolve", )
database = module("codeevolve.database", Program=(), ProgramDatabase=())


def evolved(identity, **state):
    usual = dict(id=identity, code=CHILD, language="python", returncode=0, output="1", error=None, warning=None,
                 eval_metrics={"benchmark_ratio": 0.5, "eval_time": 1.5}, fitness=0.5, parent_id=None, iteration_found=0,
                 generation=0, island_found=0, prompt_id="q", inspiration_ids=[], model_id=None, model_msg=None, prog_msg=None)
    return having(database.Program(), **{**usual, **state})


first = evolved("s0", code=PARENT)
second = evolved("s1", parent_id="s0", iteration_found=2, model_id=0, model_msg=DIFF, inspiration_ids=["s0"])
third = evolved("s2", iteration_found=1, model_msg=FENCE, returncode=1, error="Traceback: No module named x", fitness=0)
solutions = having(database.ProgramDatabase(), id=0, programs={one.id: one for one in (first, second, third)}, roots=["s0"])
solutions.selection = {"self": solutions}
prompts = having(database.ProgramDatabase(), id=0, programs={"q": evolved("q", code="Improve it.", language="text")})
state = {
    "errors": [{"epoch": 4, "motive": "sr_evolve_prog", "parent_sol": first, "sol_diff": DIFF, "error_msg": "no match"},
               {"epoch": 5, "motive": "sr_meta_prompt", "parent_sol": first, "sol_diff": "", "error_msg": None}],
    "tok_usage": [{"epoch": 2, "motive": "generate_prog", "prompt_tok": 10, "compl_tok": 5, "model_name": "m"}],
}
checkpoint = {"prompt_db": prompts, "sol_db": solutions, "evolve_state": state}
for protocol in (0, 2, 4, 5):
    data = pickle.dumps(checkpoint, protocol)
    if protocol in (2, 4):
        put("codeevolve", f"protocol_{protocol}", data)
    put("pickle", f"objects_{protocol}", data)

gepa_state = {
    "program_candidates": [{"code": PARENT}, {"code": CHILD}, {"instruction": "a", "refiner": "b"}],
    "parent_program_for_candidate": [[None], [0], [0, 1]],
    "prog_candidate_val_subscores": [{0: 0.5, 1: 0.25}, {0: 1.0}, {}],
    "prog_candidate_objective_scores": [{}, {"speed": 2.0}, {}],
    "num_metric_calls_by_discovery": [0, 10, 20],
    "full_program_trace": [
        {"i": 0, "selected_program_candidate": 0, "subsample_ids": [1], "subsample_scores": [0.5], "new_subsample_scores": [1.0], "new_program_idx": 1},
        {"i": 1, "selected_program_candidate": 1, "subsample_ids": [1], "subsample_scores": [1.0], "new_subsample_scores": [0.5]},
        {"i": 2, "new_program_indices": [2]},
    ],
    "i": 2, "validation_schema_version": 4,
}
call = {"call_num": 1, "component": "code", "current_code": PARENT, "full_prompt": PROMPT, "llm_response": FENCE, "new_code": CHILD}
GEPA = ["gepa_state.bin", "gepa_state.json", "candidates.json", "run_log.json", "proposer_calls/call_001.json", "proposer_calls/call_002.json"]
for protocol in (2, 4):
    data = pickle.dumps(gepa_state, protocol)
    folder("gepa", f"pickle_{protocol}", GEPA, [("gepa_state.bin", data), ("proposer_calls/call_001.json", text(call))])
    put("pickle", f"data_{protocol}", data)
folder("gepa", "json", GEPA, [("gepa_state.json", text(gepa_state)), ("proposer_calls/call_002.json", text({**call, "new_code": "other"}))])
folder("gepa", "parts", GEPA, [("candidates.json", text(gepa_state["program_candidates"] + [{}, 3])), ("run_log.json", text(gepa_state["full_program_trace"]))])
folder("gepa", "half", GEPA, [("gepa_state.bin", pickle.dumps(gepa_state, 4)[:100]), ("candidates.json", text(gepa_state["program_candidates"]))])

funsearch = module("funsearch")
programs_database = module("funsearch.programs_database", Island=(), Cluster=())
code_manipulation = module("funsearch.code_manipulation", Function=())
function = having(code_manipulation.Function(), name="priority", args="x", body="  return x", return_type="float", docstring="Doc.")
cluster = having(programs_database.Cluster(), _score=3.5, _programs=[function, function], _lengths=[1])
island = having(programs_database.Island(), _clusters={(3.5, 1): cluster, (2,): having(programs_database.Cluster(), _score=None, _programs=[5])})
for protocol in (2, 4):
    put("funsearch", f"database_{protocol}", pickle.dumps({"_islands": [island, island], "programs_database": 1}, protocol))
FUNSEARCH = ["prompt_0.log", "response_0.log", "prompt_1.log", "response_1.log", "response_12.log"]
folder("funsearch", "folder", FUNSEARCH, [("prompt_0.log", "def priority_v0(x):\n  return x\n"), ("response_0.log", "```python\ndef f(x):\n  return x\n```"),
                                          ("response_1.log", "I cannot."), ("response_12.log", "  return x - 1\n")])

put("pickle", "kinds_4", pickle.dumps([None, True, 1, -1, 2**31, 2**63, 2**200, -2**100, 1.5, float("nan"), "é", b"\xff", bytearray(b"a"), (1,), (1, 2, 3), {1, 2},
                                      frozenset({3}), {"a": 1, 2: 3}], 4))
put("pickle", "kinds_0", pickle.dumps([None, True, 1, 2**70, 1.5, "é\n\\", b"ab\xff", (1, 2), {3}, {"a": 1}], 0))
shared = ["x"]
shared.append(shared)
put("pickle", "cycle_4", pickle.dumps([shared, {"id": shared, **{f"k{n}": n for n in range(40)}}], 4))
put("pickle", "dicts_4", pickle.dumps([collections.OrderedDict(a=1), collections.Counter("aab"), collections.deque([1]), collections.defaultdict(list, b=[2])], 4))
scalar = b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(X\x02\x00\x00\x00f8K\x00K\x01tR(K\x03X\x01\x00\x00\x00<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tbC\x08\x00\x00\x00\x00\x00\x00\xf8?tR."
put("pickle", "numpy", b"\x80\x04" + scalar)
put("pickle", "old", b"(iold\nThing\np0\n(dp1\nS'a\\x41'\np2\nI01\nsS\"b\"\nL5L\nsV\\u00e9\n\nF1.5\nsb.")

# --- folders ----------------------------------------------------------------------------------------------------------

EOH = ["samples/samples_1~4.json", "samples/samples_5~8.json", "samples/samples_1~2.json", "samples/samples_0~18446744073709551615.json",
       "pops/population_generation_0.json", "pops/population_generation_1.json", "pops/population_generation_9223372036854775807.json", "run_log.txt"]
samples = [{"sample_order": 1, "operator": "i1", "algorithm": "one", "code": PARENT, "objective": 2.5},
           {"sample_order": 2, "operator": "e1", "algorithm": "two", "code": CHILD, "objective": 1.5},
           {"sample_order": 3, "operator": "m1", "algorithm": "", "code": None, "objective": None}]
population = [{"algorithm": "one", "code": PARENT, "objective": 2.5, "other_inf": None}, {"algorithm": "x", "code": "def g(): pass", "objective": float("inf")}]
run_log = "[2026-05-18 22:40:29]\n[Init] (2 samples)\n[2026-05-18 22:40:31]   #1    [i1]  2.5   best=2.5  *\n[Gen 1/20]\n[2026-05-18 22:40:43]   #3   [m1]  None (generation failed)  best=2.5\n"
folder("eoh", "both", EOH, [("samples/samples_1~4.json", text(samples)), ("pops/population_generation_0.json", text(population)),
                            ("pops/population_generation_1.json", text(population[:1] + [{"code": CHILD}])), ("run_log.txt", run_log)])
folder("eoh", "populations", EOH, [("pops/population_generation_0.json", text(population)), ("pops/population_generation_1.json", text(population[0]))])
folder("eoh", "restart", EOH, [("samples/samples_1~4.json", text(samples)), ("samples/samples_1~2.json", text(samples[:2] + [3])), ("pops/population_generation_1.json", text([{"code": "x"}]))])

REEVO = ["problem_iter0_response0.txt", "problem_iter0_stdout0.txt", "problem_iter0_code0.py", "problem_iter1_response0.txt",
         "problem_iter1_response0.txt_stdout.txt", "problem_iter1_response1.txt", "config.yaml", ".hydra/config.yaml"]
folder("reevo", "run", REEVO, [("problem_iter0_response0.txt", FENCE), ("problem_iter0_stdout0.txt", "[*] Average:\n10.5\n\n"), ("problem_iter0_code0.py", CHILD),
                               ("problem_iter1_response0.txt", DIFF), ("problem_iter1_response0.txt_stdout.txt", "Traceback (most recent call last):\nValueError"),
                               ("problem_iter1_response1.txt", "no"), ("config.yaml", "problem:\n  obj_type: max\n")])

DGM = ["dgm_metadata.jsonl", "a/metadata.json", "a/model_patch.diff", "b/metadata.json", "b/model_patch.diff", "c/metadata.json", "c/model_patch.diff"]
generations = '{\n "generation": 0,\n "selfimprove_entries": [["initial", "x"]],\n "children": ["a"]\n}\n{"generation": 1, "children": ["b", "c"], "archive": ["a"]}\n'
folder("dgm", "run", DGM, [
    ("dgm_metadata.jsonl", generations),
    ("a/metadata.json", text({"run_id": "a", "parent_commit": "initial", "overall_performance": {"accuracy_score": 0.5}, "problem_statement": "p"})),
    ("a/model_patch.diff", "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n"),
    ("b/metadata.json", text({"run_id": "b", "parent_commit": "a", "overall_performance": {}})), ("b/model_patch.diff", "+c\n"),
    ("c/metadata.json", text({"run_id": "c", "parent_commit": "b"}))])

SHINKA = ["gen_0/main.py", "gen_0/results/metrics.json", "gen_0/results/correct.json", "gen_1/main.py", "gen_1/original.py", "gen_1/results/metrics.json",
          "gen_1/results/correct.json", "gen_1/search_replace.txt", "gen_1/attempts/novelty_1/resample_1/patch_1/metadata.json",
          "gen_1/attempts/novelty_1/resample_1/patch_1/llm_response.txt", "gen_2/main.cpp", "gen_2/original.cpp", "gen_2/rewrite.txt", "meta_memory.json"]
measured = text({"combined_score": 0.5, "public": {"speed": 1}, "private": {}, "all_validation_errors": ["bad", ""], "nothing": None})
tried = {"generation": 1, "success": True, "timestamp": "2026-01-01T00:00:00Z", "llm_cost": 0.01, "llm_model": "m", "error_msg": None}
folder("shinka_folder", "run", SHINKA, [
    ("gen_0/main.py", PARENT), ("gen_0/results/metrics.json", measured), ("gen_0/results/correct.json", text({"correct": True, "error": None})),
    ("gen_1/main.py", CHILD), ("gen_1/original.py", PARENT.replace("x\n", "x \n")), ("gen_1/results/correct.json", text({"correct": False, "error": "timed out"})),
    ("gen_1/search_replace.txt", "<NAME>\nn\n</NAME>\n<DIFF>\n" + DIFF + "</DIFF>"),
    ("gen_1/attempts/novelty_1/resample_1/patch_1/metadata.json", text(tried)), ("gen_2/main.cpp", "int main() {}\n"), ("gen_2/rewrite.txt", "int main() {}\n")])
folder("shinka_folder", "summary", SHINKA, [
    ("gen_1/main.py", CHILD), ("gen_1/attempts/novelty_1/resample_1/patch_1/metadata.json", text({**tried, "success": False, "error_msg": "no"})),
    ("gen_1/attempts/novelty_1/resample_1/patch_1/llm_response.txt", FENCE),
    ("meta_memory.json", text({"meta_summary": "Reached a combined score of -2.79, good.\n**Program Identifier:** Generation 1 - Patch Name x - Correct Program: True\n"}))])


def sqlite(rows, wal=False, extra=""):
    """A database; with its log, as a run that did not end leaves it."""
    with tempfile.TemporaryDirectory() as place:
        path = os.path.join(place, "a.sqlite")
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("PRAGMA page_size = 512")
        if wal:
            connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE programs (id TEXT PRIMARY KEY, code TEXT, language TEXT, parent_id TEXT, generation INTEGER, timestamp REAL, combined_score REAL,"
                           " public_metrics TEXT, correct BOOLEAN, metadata TEXT, island_idx INTEGER)" + extra)
        for row in rows:
            connection.execute("INSERT INTO programs VALUES (?, ?, 'python', ?, ?, 1.5, ?, ?, 1, ?, 0)", row)
        main = open(path, "rb").read()
        log = open(path + "-wal", "rb").read() if wal else b""
        connection.close()
    return main + (BREAK_LOG + log if wal else b"")


meta = text({"llm_result": {"content": DIFF, "msg": "u", "system_msg": "s", "model_name": "local/m@http://h", "kwargs": {"temperature": 0.5}, "cost": 0.1}, "patch_type": "cross"})
rows = [("r0", PARENT, None, 0, 0.5, "{}", "{}"), ("r1", CHILD, "r0", 1, 0.75, text({"a": 1}), meta),
        ("r2", PARENT, None, 0, 0.5, "{", text({"_is_island_copy": True, "_original_program_id": "r0"})), (None, None, None, None, None, None, None)]
put("shinka_database", "rows", sqlite(rows))
put("shinka_database", "log", sqlite(rows[:1], wal=True))
put("shinka_database", "keyed", sqlite(rows[:2], extra=" WITHOUT ROWID"))

# --- mapped records ---------------------------------------------------------------------------------------------------

aide = {"nodes": [{"id": "b", "code": CHILD, "step": 1, "ctime": 1.0, "metric": {"value": 1.0, "maximize": False}, "is_buggy": False, "_term_out": ["a", "b"]},
                  {"id": "c", "code": "y", "metric": {"value": None, "maximize": None}, "is_buggy": True, "exc_type": "TimeoutError"}], "node2parent": {"c": "b"}}
put("mapping_json", "aide", b"\x00" + text(aide).encode())
put("mapping_json", "llm4ad", b"\x01" + b'[{"sample_order": 1, "function": "def f(): pass", "score": 2.0, "program": "def f(): pass"}, {"function": "x", "score": -Infinity}, {"function": null, "score": null}]')
put("mapping_json", "llmsr", b"\x02" + b'{"sample_order": 1, "function": "def f(): pass", "score": -0.5}')
put("mapping_json", "tttdiscover", b"\x03" + text({"step": 1, "states": [{"id": "a", "timestep": 1, "value": 0.5, "code": "x", "parents": [{"id": "z"}], "observation": "o"}], "initial_states": [{"id": "z", "code": "y", "value": None}], "puct_n": {}}).encode())
wide = {"n": 1, "run": "r", "task": {"a": 1}, "loss": "2.5", "up": True, "from": [0, "x"], "copy": "0", "answer": FENCE, "code": CHILD, "before": PARENT, "loss_before": 3,
        "generation": 2, "more": "{\"m\": NaN}", "errors": ["e1", "timed out"], "ms": 1500, "us": "12", "when": "2026-01-01 00:00:00.5", "prompt": "p", "models": ["m"],
        "temperature": "0.5", "tokens": 3.0, "cost": 0.5, "seen": ["a", 1], "island": "4", "thoughts": "t"}
put("mapping_json", "wide", b"\x04" + text([wide, {"id": "q", "code": "x"}, {"code": ""}, 3, None]).encode())
put("mapping_json", "lines", b"\x05" + (text(wide) + "\n{half\n\n" + text({"id": 2, "code": "x", "loss": 5000}) + "\n").encode())
put("mapping_csv", "rows", '\ufeffid,code,loss,from,errors,when,answer,before\na,"def f():\n  pass",1.5,,,2026-01-01T00:00:00Z,,\nb,"x ""q""",nan,a,e,,"```\ny\n```",z\nc\n,,,,,,,,,extra\r\n')
put("mapping_spec", "wide", 'scaffold = "mine"\n[[detect]]\ncontainer = "lines"\nkeys = ["id"]\ntelling = ["x"]\n[records]\nform = "json"\nat = ["/a", "/b/0"]\nby_key = true\n[run]\nof = "folder"\nid = "r"\n[score]\nkey = "s"\ndirection = "minimize"\n'
    '[candidate]\nid = ["$key", "/n~1m", "$program"]\ncode = { at = "code", as = ["json", "first", "fence"] }\nmetrics = { lookup = "/m", key = "id" }\niteration = "$ordinal"\nmodel = { value = "m" }\n[parent]\ncode = "/p"\n'
    '[[failure]]\nat = "s"\nis = 1.5\nfailure = "timeout"\n[[failure]]\nat = "t"\nmissing = true\n'.encode() + BREAK + b'{"a": {"k": {"code": "[\\"```\\\\nx\\\\n```\\"]", "s": 1.5, "p": "y"}}, "b": [{"n/m": 1, "code": "x"}], "m": {}}')
put("mapping_spec", "small", "[candidate]\nid = \"id\"\ncode = \"code\"\n")
put("mapping_spec", "mistakes", "scaffold = \"A b\"\nfoo = 1\n[candidate]\nid = { at = \"c\", as = \"upper\" }\n[[failure]]\nat = \"x\"\n[records]\nat = \"a\"\nform = \"xml\"\n")

try:
    import pyarrow
    import pyarrow.parquet

    table = {"task": ["t", "t"], "domain": ["d", None], "parent_id": ["p0", "p1"], "child_id": ["p1", "p2"], "child_code": [CHILD, "x"], "parent_code": [PARENT, CHILD],
             "response": [DIFF, None], "reasoning": ["r", ""], "iteration": [1, 2], "island_id": [0, 1], "generation": [1, 2], "child_metrics": ['{"combined_score": 0.5}', "{"],
             "parent_metrics": ["{}", None], "system_prompt": ["s", "s"], "user_prompt": [PROMPT, None]}
    for name, options in [("plain", {"compression": "none", "use_dictionary": False}), ("zstd", {"compression": "zstd"})]:
        sink = io.BytesIO()
        pyarrow.parquet.write_table(pyarrow.table(table), sink, write_statistics=False, store_schema=False, **options)
        put("finch_parquet", name, sink.getvalue())
    small = {"child_id": [[1, 2], None], "child_code": [{"a": 1.5}, {"a": None}], "response": [b"x", b"y"], "iteration": [1.5, float("nan")], "task": [True, False], "parent_id": [1, 2]}
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(small), sink, compression="none", write_statistics=False, store_schema=False)
    put("finch_parquet", "kinds", sink.getvalue())
except ImportError:
    print("no pyarrow: the seeds of finch_parquet stay as they are")

try:
    import h5py

    def hdf5(name, steps, group="traces", **options):
        with tempfile.TemporaryDirectory() as place:
            path = os.path.join(place, "trace")
            with h5py.File(path, "w", **options) as file:
                traces = file.create_group(group)
                file.create_group("metadata").attrs["total_traces"] = len(steps)
                for number, fields in enumerate(steps):
                    one = traces.create_group(f"trace_{number:06d}")
                    for key, value in fields.items():
                        one.attrs[key] = json.dumps(value) if isinstance(value, dict) else value
            with open(path, "rb") as file:
                put("openevolve_hdf5", name, file.read())

    child = {**step, "iteration": 2, "parent_id": "p1", "child_id": "p2", "child_metrics": {"combined_score": float("nan")}}
    hdf5("steps", [step, child])
    hdf5("newest", [step, {**bare, "child_id": 3, "generation": True, "timestamp": float("inf")}], libver="latest")
    hdf5("many", [{"child_id": f"p{number}", "child_metrics": {}} for number in range(20)])
    hdf5("elsewhere", [step], group="other")
except ImportError:
    print("no h5py: the seeds of openevolve_hdf5 stay as they are")

# --- texts ------------------------------------------------------------------------------------------------------------

put("json", "words", '{"a": NaN, "b": [Infinity, -Infinity, -1, 1e308, -0.0], "c": "NaN \\ud83d \\ud83d\\ude00 \\" x"}')
put("json", "bytes", b'\xef\xbb\xbf["\xa1\xfa", 18446744073709551615, -9223372036854775808, 1E+2, "\\u0000"]')
put("json", "half", '{"a": [1, 2')
put("json", "deep", "[" * 100 + "{}" + "]" * 100)

NAMES = ["a.json", "a.jsonl", "metadata.json", "a.pkl", "a.parquet", "a.csv", "a.log", "a.json.gz", "a.jsonl.zst", "a.tar", "a.zip", "a.tar.gz", "evolution_trace.hdf5", "a.db", "a.txt", "a.gz"]


def named(name, within, content):
    put("recognise", name, bytes([NAMES.index(within)]) + (content.encode() if isinstance(content, str) else content))


named("program", "a.json", text(program)[:600])
named("trace", "a.jsonl", text(bare))
named("best", "a.json", text({"id": "a", "metrics": {}, "saved_at": 1.0}))
named("list", "a.json", text(samples))
named("bulk", "a.json", text({"a": {"id": "a", "code": "", "metrics": {}, "parent_id": None}}))
named("pickle", "a.pkl", pickle.dumps(gepa_state, 4))
named("table", "a.csv", '"task", parent_id,child_id,child_code,response\n')
named("console", "a.log", line + "INFO - x\n")
named("packed", "a.json.gz", gzip.compress(text(aide).encode(), mtime=0))
named("metadata", "metadata.json", "x")

put("prompt", "shown", PROMPT)
put("prompt", "nested", "# Current Program Information\n```text\nx\n```\n# Current Solution\n```python\n\"\"\"\n```\nx\n```\n\"\"\"\n```\n# Task\n")

parent = "import a\n" + PARENT + "    def g(y):\n        if y:\n            return y\n        return 0\nprint(1)\n"


def answers(name, said, before=parent):
    put("replay", name, (before.encode() + BREAK if before is not None else b"") + said.encode())


answers("diff", DIFF)
answers("two", DIFF + "<<<<<<< SEARCH\nif y:\n    return y\n=======\nif y > 0:\n    return -y\n>>>>>>> REPLACE\n")
answers("inline", "a <<<<<<< SEARCH\n    return x\n=======\n    return 2\n>>>>>>> REPLACE b")
answers("fence", FENCE)
answers("alone", FENCE, None)
answers("thinking", "<think>\n```\nno\n```\n</think>" + FENCE.replace("```", "~~~~"))
answers("tagged", "<CODE>\n```python\nprint(2)\n```\n</CODE>")
answers("append", "<<<<<<< SEARCH\n=======\n# more\n>>>>>>> REPLACE\n")
answers("stray", "<<<<<<< SEARCH\nx\n=======\n=======\n>>>>>>> REPLACE\n<<<<< SEARCH\n", PARENT.replace("\n", "\r\n"))
answers("regions", "# EVOLVE-BLOCK-START\nx = 1\n# EVOLVE-BLOCK-END\n# EVOLVE-BLOCK-START\ny = 2\n# EVOLVE-BLOCK-END\n", PARENT + PARENT)

# --- archives and compressed files ------------------------------------------------------------------------------------


def tar(entries, form, mode="w"):
    sink = io.BytesIO()
    options = {"format": form}
    with tarfile.open(fileobj=sink, mode=mode, **options) as archive:
        for name, content, kind in entries:
            entry = tarfile.TarInfo(name)
            entry.type = kind
            entry.mtime = 1_700_000_000
            if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
                entry.linkname = "../../etc/passwd"
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    data = sink.getvalue()
    # Two blocks of zeros end it; the rest of a tape's record does not matter.
    return data if mode != "w" else data.rstrip(b"\0").ljust(-(-len(data.rstrip(b"\0")) // 512) * 512, b"\0") + b"\0" * 1024


entries = [("a/", b"", tarfile.DIRTYPE), ("a/b.txt", b"hello\n", tarfile.REGTYPE), ("../out", b"x", tarfile.REGTYPE), ("l", b"", tarfile.SYMTYPE), ("a/b.txt/c", b"y", tarfile.REGTYPE)]
put("archive_tar", "ustar", tar(entries[:2], tarfile.USTAR_FORMAT))
put("archive_tar", "links", tar(entries[2:], tarfile.USTAR_FORMAT))
put("archive_tar", "long", tar([("n" * 150, b"z", tarfile.REGTYPE)], tarfile.GNU_FORMAT))
put("archive_tar", "pax", tar([("é" * 60, b"z", tarfile.REGTYPE)], tarfile.PAX_FORMAT))
put("archive_tar", "packed", gzip.compress(tar(entries, tarfile.USTAR_FORMAT), mtime=0))


def zipped(method):
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", method) as archive:
        for name, content in [("a/", b""), ("a/b.txt", b"hello " * 20), ("../out", b"x"), ("a/b.txt", b"again"), ("a\\c", b"y")]:
            archive.writestr(zipfile.ZipInfo(name, (2026, 1, 2, 3, 4, 6)), content, method)
    return sink.getvalue()


warnings.simplefilter("ignore")
put("archive_zip", "stored", zipped(zipfile.ZIP_STORED))
put("archive_zip", "deflated", zipped(zipfile.ZIP_DEFLATED))
put("archive_zip", "cut", zipped(zipfile.ZIP_DEFLATED)[:200])

packed = gzip.compress(b"hello " * 50, mtime=0)
put("stream", "plain", "hello\n")
put("stream", "gzip", packed)
put("stream", "members", packed + gzip.compress(b"more", mtime=0) + b"\0" * 16)
put("stream", "cut", packed[:-4])
put("stream", "hidden", b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd")
if shutil.which("zstd"):
    def squeeze(data):
        return subprocess.run(["zstd", "-q", "-c"], input=data, stdout=subprocess.PIPE, check=True).stdout

    one = squeeze(b"hello " * 50)
    put("stream", "zstd", one)
    put("stream", "frames", one + b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd" + squeeze(b"x" * 1000))
    put("archive_tar", "zstd", squeeze(tar(entries, tarfile.USTAR_FORMAT)))
    named("zstd", "a.jsonl.zst", squeeze(text(bare).encode()))
else:
    print("no zstd: its seeds stay as they are")
