#!/usr/bin/env python3
"""Training on one card: finch-train beside PyTorch with `transformers` and Liger's kernels, on the same made-up packs.

First what the card can do: a product of 8192 x 8192 bf16 matrices of random numbers, and a large copy. Then each model,
the largest first: finch-train and the opponent's variants, a process each with a time limit, so that one that runs out
of memory or hangs is a row that says so. Nothing starts that the time for all may not see end. At last both train from
one checkpoint of the smallest model, and their losses are compared.

The opponent's weights, gradients and moments are bf16, 8 bytes a parameter without a master copy; finch-train's state is
named in its row. Operations are counted alike: 6 for each weight of a matrix product and 6 x layers x heads x head width
x document length a token; nothing that is computed again counts. Memory is what the card had given away at the end.

Everything is in `--out` after each run: `results.json` with every step, and `results.md`.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
# What 8192 x 8192 bf16 products of random numbers give on an H200, the measure of both sides' use of it.
PEAK = 790.0
# Bytes of a parameter with its state for finch-train, and the tokens of a pass that the opponent has room for without
# checkpointing: 8 bytes a parameter and 5.8, 4.6 and 2.4 MB a token of 139 GiB.
MODELS = {"8b": ([12, 10], 8192), "4b": ([16], 16384), "1.7b": ([16], 32768)}
# How far the losses of two programs in bf16 may be apart with the same weights.
AGREE = 2e-2


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--finch-train", type=Path, default=HERE.parents[1] / "target/release/finch-train",
                        help="the program, or the archive's finch-train.sh")
    parser.add_argument("--liger", type=Path, help="the wheel of liger_kernel; without it those rows are left out")
    parser.add_argument("--out", type=Path, required=True, help="where results go")
    parser.add_argument("--models", default="8b,4b,1.7b", help="which, in which order; a path to a config.json works too")
    parser.add_argument("--tokens", type=int, default=32768)
    parser.add_argument("--document", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--limit", type=int, default=240, help="seconds for one process")
    parser.add_argument("--minutes", type=float, default=25, help="for all of it")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--ceilings", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def ceilings(out: Path) -> None:
    """What the card can do, in a process of its own so that its memory is free afterwards."""
    import torch

    def seconds(work, times: int) -> float:
        for _ in range(3):
            work()
        begun, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begun.record()
        for _ in range(times):
            work()
        ended.record()
        torch.cuda.synchronize()
        return begun.elapsed_time(ended) / 1e3 / times

    size = 8192
    left, right = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    product = torch.empty_like(left)
    tflops = 2 * size**3 / seconds(lambda: torch.mm(left, right, out=product), 50) / 1e12
    source = torch.randn(2**30, device="cuda")
    target = torch.empty_like(source)
    copied = 2 * source.nbytes / seconds(lambda: target.copy_(source), 10) / 1e12
    out.write_text(json.dumps({"gemm_tflops": tflops, "copy_tb_per_second": copied, "card": torch.cuda.get_device_name()}))


class Session:
    """The runs so far, and the time that is left."""

    def __init__(self, asked: argparse.Namespace, folder: Path):
        self.asked, self.folder = asked, folder
        self.ends = time.monotonic() + asked.minutes * 60
        self.results = {"machine": self.machine(), "tokens": asked.tokens, "document": asked.document, "ceilings": None,
                        "runs": [], "same_weights": None}
        self.environment = os.environ | {"HF_HUB_OFFLINE": "1", "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
        if asked.liger:
            with zipfile.ZipFile(asked.liger) as wheel:
                wheel.extractall(folder / "liger")
            paths = [str(folder / "liger"), os.environ.get("PYTHONPATH", "")]
            self.environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))

    def machine(self) -> dict:
        found = {"python": platform.python_version(), "kernel": platform.release(), "cores": os.cpu_count()}
        for name in ("torch", "transformers", "triton"):
            found[name] = importlib.metadata.version(name)
        found["finch-train"] = subprocess.run([self.asked.finch_train, "--version"], capture_output=True, text=True, check=True).stdout.strip()
        if shutil.which("nvidia-smi"):
            query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
            found["card"] = subprocess.run(query, capture_output=True, text=True).stdout.strip()
        return found

    def process(self, command: list, out: Path) -> tuple[dict | None, str]:
        """One process: the JSON object that it wrote, or why there is none."""
        left = self.ends - time.monotonic()
        if left < 45:
            return None, "no time was left"
        limit = min(self.asked.limit, left)
        printed = self.folder / "printed"
        try:
            with printed.open("wb") as stdout:
                ended = subprocess.run([str(part) for part in command], env=self.environment, timeout=limit, stdout=stdout,
                                       stderr=subprocess.PIPE)
        except subprocess.TimeoutExpired:
            return None, f"not done after {limit:.0f} s"
        if ended.returncode != 0:
            lines = ended.stderr.decode(errors="replace").strip().splitlines()
            (self.asked.out / "failed.log").open("a").write("\n".join([f"== {' '.join(map(str, command))}", *lines[-40:], ""]))
            if any("out of memory" in line.lower() for line in lines):
                return None, "out of memory"
            return None, (lines or [f"ended with {ended.returncode}"])[-1][:120]
        return json.loads((out if out.exists() else printed).read_text()), ""

    def run(self, model: Path, name: str, options: list | None, state: int, who: str) -> dict:
        """One row."""
        out = self.folder / "run.json"
        out.unlink(missing_ok=True)
        pack = ["--tokens", self.asked.tokens, "--document", self.asked.document, "--steps", self.asked.steps, "--dtype", "bf16",
                "--device", self.asked.device]
        if options is None:
            command = [self.asked.finch_train, "bench", model, *pack, "--state-bytes", state, "--json"]
        else:
            command = [sys.executable, HERE / "opponent.py", model, *pack, *options, "--out", out]
        begun = time.monotonic()
        report, failure = self.process(command, out)
        row = {"model": model.stem, "who": who, "name": name, "state_bytes": state, "failure": failure,
               "wall_seconds": time.monotonic() - begun, "report": report}
        print(f"{row['model']}, {who}, {name}: " + (f"{report['tokens_per_second']:,.0f} tokens/s" if report else failure)
              + f" ({row['wall_seconds']:.0f} s)", flush=True)
        return row

    def write(self) -> None:
        """Both files, aside first: what was there stays whole."""
        for name, text in (("results.json", json.dumps(self.results, indent=1) + "\n"), ("results.md", markdown(self.results))):
            aside = self.asked.out / f"{name}.tmp"
            aside.write_text(text)
            aside.rename(self.asked.out / name)


def variants(micro: int, tokens: int, with_liger: bool) -> list[tuple[str, list]]:
    """What the opponent is given a try with, the most promising first."""
    size = ["--micro", min(micro, tokens)]
    passes = f"{min(micro, tokens):,} tokens a pass"
    found = [(f"Liger, {passes}", ["--liger", *size]), ("Liger, checkpointing", ["--liger", "--ckpt"]),
             (f"Liger, {passes}, compiled", ["--liger", "--compile", *size])] if with_liger else []
    # Logits of many rows in f32 leave no room for more.
    size = ["--micro", min(8192, tokens)]
    passes = f"{min(8192, tokens):,} tokens a pass"
    return found + [(f"checkpointing, {passes}, compiled", ["--ckpt", "--compile", *size]),
                    (f"checkpointing, {passes}", ["--ckpt", *size])]


def last_half(report: dict, value) -> float:
    steps = report["steps"]
    return statistics.median(value(step) for step in steps[len(steps) // 2:])


def table(rows: list[list[str]], texts: int) -> str:
    head, *rest = rows
    line = ["---" if column < texts else "---:" for column in range(len(head))]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, line, *rest]) + "\n"


def markdown(results: dict) -> str:
    """The results as text that can be committed."""
    machine = ", ".join(f"{name} {value}" for name, value in results["machine"].items())
    text = f"One pack of {results['tokens']:,} tokens in documents of {results['document']:,}, every token trained; bf16.\n\n{machine}\n"
    if results["ceilings"]:
        found = results["ceilings"]
        text += (f"\nThe card: {found['gemm_tflops']:.0f} TFLOP/s in 8192 x 8192 bf16 products of random numbers, "
                 f"{found['copy_tb_per_second']:.2f} TB/s read and written in copies.\n")
    rows = [["model", "program", "tokens/s", f"of {PEAK:.0f} TFLOP/s", "of the best peer", "card GB", "bytes/parameter", "loss, first and last"]]
    best = {}
    for run in results["runs"]:
        if run["report"] and run["who"] != "finch-train":
            best[run["model"]] = max(best.get(run["model"], 0.0), run["report"]["tokens_per_second"])
    for run in results["runs"]:
        report, name = run["report"], ", ".join(filter(None, [run["who"], run["name"]]))
        if not report:
            rows.append([run["model"], name, run["failure"], "", "", "", str(run["state_bytes"]), ""])
            continue
        rate, memory, steps = report["tokens_per_second"], report["device_memory"], report["steps"]
        rows.append([run["model"], name, f"{rate:,.0f}", f"{report['tflops'] / PEAK:.1%}",
                     f"{rate / best[run['model']]:.2f}" if run["model"] in best else "-", f"{memory / 1e9:.1f}" if memory else "-",
                     str(run["state_bytes"]), f"{steps[0]['loss']:.3f}, {steps[-1]['loss']:.3f}"])
    text += "\n" + table(rows, 2)
    ours = [run for run in results["runs"] if run["report"] and run["who"] == "finch-train"]
    names = list(dict.fromkeys(name for run in ours for name in run["report"]["steps"][-1]["phase_ms"]))
    if names:
        rows = [["finch-train, ms", *names, "a step", "kept", "planned GB"]]
        for run in ours:
            report = run["report"]
            spent = [f"{last_half(report, lambda step: step['phase_ms'].get(name, 0.0)):.0f}" for name in names]
            kept = ", ".join(f"{level} {layers}" for level, layers in (report.get("kept") or {}).items())
            rows.append([", ".join([run["model"], run["name"]]), *spent, f"{last_half(report, lambda step: step['seconds']) * 1e3:.0f}",
                         kept, f"{report.get('plan_bytes', 0) / 1e9:.1f}"])
        text += "\n" + table(rows, 1)
    if results["same_weights"]:
        found = results["same_weights"]
        losses = [", ".join(f"{loss:.4f}" for loss in found[who]) for who in ("finch-train", "PyTorch")]
        text += (f"\nFrom the same weights ({found['model']}), losses of finch-train {losses[0]}; of PyTorch {losses[1]}; the first "
                 f"are off by {found['off']:.1e}.\n")
    return text


def same_weights(session: Session, config: Path, state: int) -> bool:
    """Both from one checkpoint; whether their losses agree."""
    start = session.folder / "start"
    subprocess.run([sys.executable, HERE / "opponent.py", config, "--tokens", "1", "--document", "1", "--steps", "0", "--device",
                    session.asked.device, "--save", start], env=session.environment, check=True, stderr=subprocess.DEVNULL)
    session.asked.steps = 3
    rows = [session.run(start, "same weights", None, state, "finch-train"),
            session.run(start, "same weights", ["--ckpt", "--micro", 8192], 8, "PyTorch")]
    shutil.rmtree(start)
    if not all(row["report"] for row in rows):
        return False
    losses = [[step["loss"] for step in row["report"]["steps"]] for row in rows]
    # Only the first is of the same weights: PyTorch's have no master copy and round small updates away.
    off = abs(losses[0][0] - losses[1][0])
    session.results["same_weights"] = {"model": config.stem, "finch-train": losses[0], "PyTorch": losses[1], "off": off}
    return off <= AGREE


def main() -> int:
    asked = arguments()
    if asked.ceilings:
        ceilings(asked.ceilings)
        return 0
    asked.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="finch-gpu-") as folder:
        session = Session(asked, Path(folder))
        if asked.device == "cuda":
            out = session.folder / "ceilings.json"
            session.results["ceilings"], failure = session.process(
                [sys.executable, __file__, "--out", asked.out, "--ceilings", out], out)
            print("ceilings:", session.results["ceilings"] or failure, flush=True)
        smallest = None
        for size in asked.models.split(","):
            states, micro = MODELS.get(size, ([16], asked.tokens))
            config = HERE / f"models/qwen3-{size}.json" if size in MODELS else Path(size)
            smallest = config, states[0]
            runs = [(None, state, f"state of {state}") for state in states]
            others = [(options, 8, name) for name, options in variants(micro, asked.tokens, asked.liger is not None)]
            # One of ours and the best of theirs come first: what a session that is cut short should have.
            for options, state, name in [runs[0], *others, *runs[1:]]:
                row = session.run(config, name, options, state, "PyTorch" if options is not None else "finch-train")
                session.results["runs"].append(row)
                session.write()
        agreed = same_weights(session, *smallest)
        session.write()
    print("\n" + (asked.out / "results.md").read_text())
    if not agreed:
        print(f"error: the losses from the same weights were not both had, or are off by more than {AGREE}")
    return int(not agreed)


if __name__ == "__main__":
    sys.exit(main())
