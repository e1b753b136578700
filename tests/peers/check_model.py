#!/usr/bin/env python3
"""Other programs read what finch trained: `datasets` the packs, `transformers` the model and its tokenizer, and
TensorBoard the numbers of its log.

Runs the demo (or reuses what is built), loads the packs with `datasets` and the model with `transformers`, and
compares the loss of every trained token of every held-out example with `finch-train eval --per-token`. Writes the
reference for the test of logits into build/peers-parity. The packages (5 GB, with PyTorch) come from the Python
Package Index into build/peers-torch; where they cannot be had, one line says so.
"""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ROOT / "build/peers-torch"
WANTED = ["torch==2.11.0", "transformers==5.17.0", "datasets==5.2.0", "safetensors==0.8.0", "tensorboard==2.20.0"]


def packages() -> bool:
    """Whether the packages are there, installed on first use; the stamp is written last."""
    stamp = PACKAGES / "finch-setup.json"
    if stamp.exists() and json.loads(stamp.read_text()) == WANTED:
        return True
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade", "--target", PACKAGES]
    if subprocess.run([*pip, *WANTED]).returncode != 0:
        return False
    stamp.write_text(json.dumps(WANTED))
    return True


def scalars(log: Path) -> dict[tuple[str, int], float]:
    """What TensorBoard must show of a log, by tag and step."""
    shown, resumed = {}, None
    for event in map(json.loads, filter(str.strip, log.read_text().splitlines())):
        step, found = event.get("step"), {}
        if event["event"] == "start":
            resumed = event["resumed_from"]
        elif event["event"] == "step":
            names = ["loss", "grad_norm", "lr", "tokens_per_second", "trained_tokens", "tflops", "mfu"]
            found = {f"train/{name}": event.get(name) for name in names}
            found |= {"memory/process": event["memory"], "memory/device": event.get("device_memory")}
            found |= {f"phase_ms/{name}": time for name, time in event["phase_ms"].items()}
        elif event["event"] == "eval":
            found = {"held_out/loss": event["loss"]}
            found |= {f"held_out/task/{of['split']}/{of['task']}": of["loss"] for of in event["tasks"]}
            found |= {f"held_out/outcome/{of['split']}/{of['outcome']}": of["loss"] for of in event["outcomes"]}
        elif event["event"] == "skipped":
            found = {"train/skipped": 1.0}
        if found and resumed is not None:
            shown = {key: value for key, value in shown.items() if key[1] <= resumed}
            resumed = None
        shown |= {(tag, step): value for tag, value in found.items() if value is not None}
    return shown


def boards(trainings: Path) -> int:
    """How many trainings TensorBoard shows otherwise than their logs say; none at all is a difference too."""
    from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

    different, logs = 0, sorted(trainings.glob("*/log.jsonl"))
    for log in logs:
        folder = log.with_name("tensorboard")
        if not folder.is_dir():
            different += 1
            print(f"peers: {folder} is not there")
            continue
        board = EventAccumulator(str(folder), size_guidance={SCALARS: 0}).Reload()
        theirs = {(tag, point.step): point.value for tag in board.Tags()[SCALARS] for point in board.Scalars(tag)}
        # Scalars are single precision.
        ours = {key: struct.unpack("f", struct.pack("f", value))[0] for key, value in scalars(log).items()}
        wrong = [key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)]
        if wrong or not ours:
            different += 1
            print(f"peers: {log}: TensorBoard shows {len(wrong)} of {len(ours)} numbers otherwise: {sorted(wrong)[:3]}")
        else:
            print(f"peers: TensorBoard shows all {len(ours)} numbers of {log.parent.name[:12]}'s log")
    if not logs:
        print(f"peers: no training in {trainings} has a log")
    return different + (not logs)


def main() -> int:
    """Compare; the number of differences is the exit code."""
    finch = Path(sys.argv[1]).resolve()
    if not packages():
        print("SKIPPED peers-torch: PyTorch, transformers and datasets cannot be installed from PyPI")
        return 0
    if os.environ.get("PYTHONPATH") != str(PACKAGES):
        os.environ["PYTHONPATH"] = str(PACKAGES)
        os.execv(sys.executable, [sys.executable, *sys.argv])

    import pyarrow.parquet as pq
    import torch
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer

    def run(*command) -> str:
        return subprocess.run([str(part) for part in command], cwd=ROOT, check=True, capture_output=True, text=True).stdout

    built = run(finch, "run", "pipelines/demo.toml")
    model_folder = next(line.split(": ", 1)[1] for line in built.splitlines() if line.startswith("model: "))
    shards = run(finch, "path", "--store", "build/demo", "packs").splitlines()
    examples = run(finch, "path", "--store", "build/demo", "examples").splitlines()
    per_token = ROOT / "build/peers-tokens.parquet"
    run(finch.with_name("finch-train"), "eval", model_folder, "--data", Path(shards[0]).parents[1], "--per-token", per_token)
    ours = {}
    for row in pq.read_table(per_token).to_pylist():
        ours[row["example_id"], row["position"]] = row["loss"]

    torch.set_num_threads(2)
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    packs = load_dataset("parquet", data_files=shards, split="train", cache_dir=str(ROOT / "build/peers-cache"))
    chats = {}
    for path in examples:
        for row in pq.read_table(path, columns=["example_id", "messages"]).to_pylist():
            chats[row["example_id"]] = row["messages"]

    theirs, differences, same_ids, texts = {}, 0, 0, 0
    for pack in packs:
        if pack["split"] == "train":
            continue
        ends = pack["cu_seqlens"]
        for example, start, end in zip(pack["example_ids"], ends, ends[1:]):
            ids = torch.tensor(pack["input_ids"][start:end])
            with torch.no_grad():
                logs = model(input_ids=ids[None]).logits[0].float().log_softmax(-1)
            for position in range(1, end - start):
                if pack["loss_mask"][start + position]:
                    theirs[example, position] = -logs[position - 1, ids[position]].item()
            text = tokenizer.apply_chat_template(chats[example], tokenize=False)
            texts += 1
            if tokenizer.decode(ids) != text:
                differences += 1
                print(f"peers: example {example} decodes to another text than its chat")
            same_ids += tokenizer(text)["input_ids"] == ids.tolist()

    worst = max((abs(loss - theirs[key]) for key, loss in ours.items()), default=0.0)
    if ours.keys() != theirs.keys() or worst > 1e-4:
        differences += 1
        print(f"peers: losses differ: {len(ours)} and {len(theirs)} tokens, off by {worst:.1e} at most")
    print(f"peers: transformers gives the loss of {len(theirs)} held-out tokens in {texts} examples; off by {worst:.1e} at most")
    # Markers that a log spells out are plain text for finch and special tokens for `transformers`: ids may differ there.
    print(f"peers: the chat template gives the text of all {texts} examples, and the very ids of {same_ids}")
    make = ROOT / "crates/finch-train/tests/fixtures/make.py"
    run(sys.executable, make, "--checkpoint", model_folder, "--out", ROOT / "build/peers-parity")
    return differences + boards(ROOT / "build/demo/training")


if __name__ == "__main__":
    sys.exit(main())
