#!/usr/bin/env python3
"""The trainer's plan of memory against what it takes, on this machine's processor.

`finch-train bench` says what it plans before it makes the model. Held against the most memory without a file behind it
that the process had, less what it had before the model was made: as the program reads it itself, and as it was seen from
outside 50 times a second. Models of different shapes, all levels of kept activations, all sizes of state.

For that, malloc is told to give back what is freed: the figures are what was asked for at once. The last columns are of a
process as it is started otherwise, which keeps what is freed for the next step.
A plan that is too low ends in a refusal by the machine, one that is too high in tokens that were never tried.
"""

import argparse
import json
import sys

import watch
from bench import machine, parsed, trainer_arguments

QWEN3 = {
    "model_type": "qwen3", "vocab_size": 32000, "hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 8,
    "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 64, "hidden_act": "silu", "attention_bias": False,
    "max_position_embeddings": 4096, "rms_norm_eps": 1e-6, "initializer_range": 0.02, "tie_word_embeddings": False,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
}
# Few layers under many words, narrow and wide; narrow layers, many of them; no biases, all heads with keys of their own.
SHAPES = {
    "qwen3": QWEN3,
    "words": QWEN3 | {"vocab_size": 151936, "num_hidden_layers": 2, "hidden_size": 256, "intermediate_size": 768,
                      "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": True},
    "wide words": QWEN3 | {"vocab_size": 151936, "num_hidden_layers": 2, "hidden_size": 1024, "intermediate_size": 3072},
    "deep": QWEN3 | {"num_hidden_layers": 32, "hidden_size": 256, "intermediate_size": 768, "num_attention_heads": 4,
                     "num_key_value_heads": 2},
    "llama": {name: value for name, value in QWEN3.items() if name != "head_dim"} | {
        "model_type": "llama", "mlp_bias": False, "num_key_value_heads": 8},
}
# Shape, number format, bytes of state, kept activations, tokens of a pack, of a document, the part that is trained.
CASES = [
    ("qwen3", "f32", 16, "everything", 2048, 512, 1.0),
    ("qwen3", "f32", 16, "lean", 2048, 512, 1.0),
    ("qwen3", "f32", 16, "inputs", 2048, 512, 0.3),
    ("qwen3", "bf16", 16, "lean", 4096, 1024, 0.3),
    ("qwen3", "bf16", 8, "everything", 4096, 512, 0.3),
    ("words", "f32", 16, "lean", 2048, 512, 1.0),
    ("words", "bf16", 12, "lean", 4096, 4096, 0.3),
    ("deep", "f32", 16, "everything", 1024, 256, 0.3),
    ("deep", "bf16", 10, "inputs", 8192, 1024, 0.3),
    ("llama", "bf16", 12, "everything", 4096, 2048, 1.0),
    ("wide words", "bf16", 12, "lean", 1024, 512, 1.0),
]
MALLOC = ["MALLOC_MMAP_THRESHOLD_=65536", "MALLOC_TRIM_THRESHOLD_=0", "MALLOC_ARENA_MAX=1"]


def arguments() -> argparse.Namespace:
    parser = trainer_arguments(__doc__, "plan")
    parser.add_argument("--steps", type=int, default=2, help="two, so that a step begins beside the optimizer's state")
    return parsed(parser)


def measure(shape: str, dtype: str, state: int, kept: str, tokens: int, document: int,
            trained: float) -> tuple[list[str], list[float]]:
    """One case: its row of the table, and how far the plan is from what was asked for, and from what was kept."""
    config, out = found.work / f"{shape}.json", found.work / "report.json"
    config.write_text(json.dumps(SHAPES[shape], indent=2) + "\n")
    command = [found.finch, "bench", config, "--tokens", tokens, "--document", document, "--trained", trained,
               "--steps", found.steps, "--dtype", dtype, "--state-bytes", state, "--activations", kept, "--device", "cpu",
               "--threads", found.threads, "--json"]
    command = [str(part) for part in command]
    keeps = watch.timed(command, found.work / "words", out)
    first = json.loads(out.read_text())
    gives = watch.timed(["env", *MALLOC, *command], found.work / "words", out)
    said = json.loads(out.read_text())
    before = said["anonymous_before"]
    planned, taken, seen = said["plan_bytes"], said["anonymous_peak"] - before, gives.anonymous - before
    held = max(first["anonymous_peak"], keeps.anonymous) - first["anonymous_before"]
    off = [planned / taken - 1, planned / held - 1]
    row = [f"{shape}, {said['parameters'] / 1e6:.0f} M", dtype, str(state), kept, f"{tokens:,} in {document:,}, {trained:.0%}",
           f"{planned / 1e6:.0f}", f"{taken / 1e6:.0f}", f"{seen / 1e6:.0f}", f"{off[0]:+.1%}", f"{held / 1e6:.0f}", f"{off[1]:+.1%}"]
    return row, off


def main() -> None:
    machine(found)
    found.work.mkdir(parents=True, exist_ok=True)
    rows = [["model", "dtype", "state", "kept", "tokens, trained", "planned MB", "taken MB", "seen MB", "plan is off by",
             "kept MB", "off by"]]
    off = []
    for case in CASES:
        row, one = measure(*case)
        print(f"{', '.join(map(str, case))}: {one[0]:+.1%}, {one[1]:+.1%}", file=sys.stderr, flush=True)
        rows.append(row)
        off.append(one)
    watch.show(rows, found.markdown, 5)
    for what, one in zip(("was asked for at once", "a process keeps"), zip(*off)):
        print(f"plans are off by {min(one):+.1%} to {max(one):+.1%} from what {what}")


if __name__ == "__main__":
    found = arguments()
    main()
