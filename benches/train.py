#!/usr/bin/env python3
"""Training on this machine's processor: finch-train beside PyTorch with `transformers`, in one run.

A Qwen3 of 58 million random weights trains in f32 on packs of equal documents: once every token, once the last third of
each document, as finch trains transitions. PyTorch gets what a careful user would give it: fused AdamW, documents kept
apart by a call of attention for each or laid out as rows, the head for trained rows alone, the settings of malloc that
finch-train gives itself or malloc as it is (each runs both ways), and with `--compile` torch.compile, which takes minutes
before its first step. All start from the same weights and see the same tokens; the losses of all steps must agree to 1e-4,
or there is no table and the exit code is 1.

Contestants take turns; a rate is the median over turns of the median of the last half of the steps. The first step of
each process warms up. Memory is the peak of the process tree: anonymous, and resident with the libraries' pages.

`--times` are the turns, `--tokens` and `--document` the sizes of packs and documents, `--only finch` leaves PyTorch out.
Needs 5 GB of disk for PyTorch, which goes where `make peers-torch` puts it, and 7 GB of memory.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import watch
from bench import ROOT, machine, parsed, trainer_arguments

sys.path.append(str(ROOT / "tests/peers"))
from check_model import PACKAGES, packages

OPPONENT = ROOT / "benches/gpu/opponent.py"
CONFIG = {
    "model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "vocab_size": 32000, "hidden_size": 512,
    "intermediate_size": 1536, "num_hidden_layers": 8, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 64,
    "hidden_act": "silu", "max_position_embeddings": 4096, "rms_norm_eps": 1e-6, "initializer_range": 0.02,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}, "tie_word_embeddings": False, "attention_bias": False,
}
# What `finch-train` sets for itself: blocks below 32 MiB that a step frees go to the next one, not to the kernel.
MALLOC = re.search(r'MALLOC: &str = "(.*)"', (ROOT / "crates/finch-train/src/libtorch.rs").read_text())[1]
# How far the losses of two programs may be apart in f32.
AGREE = 1e-4


@dataclass
class Contestant:
    """A program with its options, and what its turns gave."""

    name: str
    options: list | None
    malloc: bool = False
    turns: list = field(default_factory=list)
    runs: list = field(default_factory=list)

    def rates(self) -> list:
        return sorted(turn["tokens"] / last_half(turn, lambda step: step["seconds"]) for turn in self.turns)

    def rate(self) -> float:
        return statistics.median(self.rates())


def last_half(turn: dict, value) -> float:
    steps = turn["steps"]
    return statistics.median(value(step) for step in steps[len(steps) // 2:])


def arguments() -> argparse.Namespace:
    parser = trainer_arguments(__doc__, "train")
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--document", type=int, default=512)
    parser.add_argument("--compile", action="store_true", help="torch.compile too; needs a C++ compiler")
    parser.add_argument("--only", choices=["finch"], help="without PyTorch, and without the weights that it makes")
    parser.add_argument("--json", type=Path, help="write every turn of every contestant here")
    return parsed(parser)


def weights() -> Path:
    """What all start from: a checkpoint that PyTorch makes; without PyTorch a config."""
    found.work.mkdir(parents=True, exist_ok=True)
    config = found.work / "config.json"
    config.write_text(json.dumps(CONFIG, indent=2) + "\n")
    if found.only:
        return config
    start = found.work / "start"
    shutil.rmtree(start, ignore_errors=True)
    subprocess.run([sys.executable, OPPONENT, config, "--tokens", "1", "--document", "1", "--steps", "0", "--dtype", "f32",
                    "--device", "cpu", "--save", start], check=True, stderr=subprocess.DEVNULL)
    return start


def turn(contestant: Contestant, model: Path, trained: float) -> None:
    """One process, from its start to its end."""
    out = found.work / "turn.json"
    pack = ["--tokens", found.tokens, "--document", found.document, "--trained", trained, "--steps", found.steps,
            "--dtype", "f32", "--threads", found.threads, "--device", "cpu", "--lr", 1e-5, "--seed", 0]
    if contestant.options is None:
        run = watch.timed([str(part) for part in [found.finch, "bench", model, *pack, "--json"]], found.work / "words", out)
    else:
        command = [sys.executable, OPPONENT, model, *pack, *contestant.options, "--out", out]
        command = ["env", f"GLIBC_TUNABLES={MALLOC}", *command] if contestant.malloc else command
        run = watch.timed([str(part) for part in command], found.work / "words")
    contestant.turns.append(json.loads(out.read_text()))
    contestant.runs.append(run)
    out.unlink()


def contest(title: str, model: Path, trained: float, variants: dict) -> list:
    """All contestants in turns, for one choice of trained tokens; their table."""
    contestants = [Contestant("finch-train", None)]
    if not found.only:
        contestants += [Contestant(f"PyTorch, {name}{setting}", options, malloc)
                        for name, options in variants.items() for setting, malloc in (("", False), (", malloc set", True))]
    for at in range(found.times):
        # Nobody is always first on a machine that warms up.
        for contestant in contestants[at % len(contestants):] + contestants[:at % len(contestants)]:
            turn(contestant, model, trained)
    finch, peers = contestants[0], contestants[1:]
    first = finch.turns[0]
    print(f"\n== {title}: {first['parameters']:,} weights, {first['tokens']:,} tokens in documents of {found.document}, "
          f"{first['trained_tokens']:,} of them trained")
    agree(finch, peers)
    best = max((peer.rate() for peer in peers), default=None)
    rows = [["", "tokens/s", "of turns", "of the best peer", "anonymous MB", "resident MB", "others' load"]]
    for one in contestants:
        part = f"{one.rate() / best:.2f}" if best else "-"
        median = lambda value: statistics.median(map(value, one.runs))
        slowest, fastest = one.rates()[0], one.rates()[-1]
        rows.append([one.name, f"{one.rate():.1f}", f"{slowest:.0f}-{fastest:.0f}", part, f"{median(lambda run: run.anonymous) / 1e6:.0f}",
                     f"{median(lambda run: run.resident) / 1e6:.0f}", f"{median(lambda run: run.others):.0%}"])
    watch.show(rows, found.markdown, 1)
    phases(contestants)
    return [{"name": one.name, "title": title, "turns": one.turns, "runs": [vars(run) for run in one.runs]} for one in contestants]


def agree(finch: Contestant, peers: list) -> None:
    """The losses of all steps, against each peer's."""
    ours = finch.turns[0]
    for other in [turn for peer in peers for turn in peer.turns] + finch.turns[1:]:
        for key in ("parameters", "tokens", "trained_tokens"):
            if other[key] != ours[key]:
                sys.exit(f"error: `{key}` is {ours[key]:,} and {other[key]:,}: they do not train the same")
    if not peers:
        return
    off = {key: max(abs(mine[key] - step[key]) for peer in peers for turn in peer.turns
                    for mine, step in zip(ours["steps"], turn["steps"], strict=True)) for key in ("loss", "grad_norm")}
    print(f"losses of {len(ours['steps'])} steps, {ours['steps'][0]['loss']:.4f} to {ours['steps'][-1]['loss']:.4f}: off by "
          f"{off['loss']:.1e} at most from PyTorch's; gradients' norms by {off['grad_norm']:.1e}")
    if off["loss"] > AGREE:
        sys.exit(f"error: the losses are off by more than {AGREE}: they do not train the same")


def phases(contestants: list) -> None:
    """Where a step's time goes, as each program says."""
    for one in contestants:
        names = one.turns[0]["steps"][-1].get("phase_ms") or {}
        spent = {name: statistics.median(last_half(turn, lambda step: step["phase_ms"].get(name, 0.0)) for turn in one.turns)
                 for name in names}
        print(f"{one.name}, ms: " + ", ".join(f"{name} {value:.0f}" for name, value in spent.items()))


def main() -> None:
    machine(found)
    if not found.only and not packages():
        sys.exit("error: PyTorch and transformers cannot be installed; `--only finch` needs neither")
    os.environ |= {"PYTHONPATH": str(PACKAGES), "HF_HUB_OFFLINE": "1"}
    model = weights()
    rows, trained = ["--attention", "batch"], ["--logits", "trained"]
    every = {"a call for each document": ["--attention", "gqa"],
             "the same, keys repeated": ["--attention", "repeat"],
             "documents as rows": rows}
    third = {"a call for each document, trained rows": ["--attention", "gqa", *trained],
             "documents as rows, all logits": rows,
             "documents as rows, trained rows": rows + trained}
    if found.compile:
        every["documents as rows, compiled"] = [*rows, "--compile"]
        third["documents as rows, trained rows, compiled"] = [*rows, *trained, "--compile"]
    said = contest("every token", model, 1.0, every) + contest("the last third", model, 1 / 3, third)
    said_by = [one["turns"][0].get("environment") for one in said[:2]]
    print("\n" + "\n".join(f"{name}: {environment}" for name, environment in zip(("finch-train", "PyTorch"), said_by)))
    if found.json:
        found.json.write_text(json.dumps(said, indent=1) + "\n")


if __name__ == "__main__":
    found = arguments()
    main()
