"""Run one candidate program in a process of its own, under a time limit.

Why a process: candidates are written by a mutation operator that breaks
programs on purpose, so they may loop for ever or kill their interpreter.  Why
no file names in the errors: an error text becomes a metric and so part of the
logs, and the scaffolds give every candidate a random temporary name.
"""

import json
import os
import subprocess
import sys
import tempfile

# A candidate that needs longer than this is killed.  A scaffold whose own
# time-out is shorter reports the time-out itself; with a longer one the
# evaluator reports it.
LIMIT_S = 4.0

# Runs inside the child: load the program, call one function, print the answer.
_CHILD = """
import json, sys
path, function = sys.argv[1], sys.argv[2]
try:
    with open(path, encoding="utf-8") as handle:
        source = handle.read()
    scope = {"__name__": "candidate"}
    exec(compile(source, "candidate", "exec"), scope)
    if function not in scope:
        raise NameError("the program defines no function " + function)
    answer = {"ok": scope[function](*json.load(sys.stdin))}
except SyntaxError as err:
    answer = {"error": "SyntaxError: %s (line %s)" % (err.msg, err.lineno)}
except BaseException as err:
    answer = {"error": type(err).__name__ + ": " + str(err)}
print("\\n" + json.dumps(answer))
"""


class Failure(Exception):
    """The candidate gave no usable answer; the text says why."""


def run_python(program_path, function, arguments, limit_s=LIMIT_S):
    """Return `function(*arguments)` of the program, passed through JSON."""
    command = [sys.executable, "-S", "-E", "-c", _CHILD, program_path, function]
    output = _run(command, json.dumps(arguments), limit_s)
    try:
        answer = json.loads(output.strip().split("\n")[-1])
    except ValueError:
        raise Failure("the program ended without an answer") from None
    if "error" in answer:
        raise Failure(answer["error"])
    return answer["ok"]


def run_cpp(program_path, text, limit_s=LIMIT_S):
    """Compile the program with `g++ -O1`, feed it `text`, return its output."""
    with tempfile.TemporaryDirectory() as folder:
        binary = os.path.join(folder, "candidate")
        command = ["g++", "-O1", "-std=c++17", "-w", "-x", "c++", program_path, "-o", binary]
        built = subprocess.run(command, capture_output=True, text=True)
        if built.returncode != 0:
            first = next((l for l in built.stderr.split("\n") if "error:" in l), "error: unknown")
            raise Failure("CompileError:" + first.split("error:", 1)[1])
        return _run([binary], text, limit_s)


def _run(command, text, limit_s):
    """Run a command to its end; a kill or a bad exit status is a `Failure`."""
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=limit_s)
    except subprocess.TimeoutExpired:
        raise Failure(f"TimeLimit: no answer within {limit_s:g} s") from None
    if done.returncode != 0:
        raise Failure(f"RuntimeError: exit status {done.returncode}")
    return done.stdout


def numbers(seed):
    """Endless uniform numbers in [0, 1) that no library version can change."""
    state = seed
    while True:
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        yield (state >> 11) / 2**53


def failed(reason):
    """The metrics of a candidate without a valid answer."""
    return {"combined_score": 0.0, "valid": 0.0, "error": str(reason)[:160]}
