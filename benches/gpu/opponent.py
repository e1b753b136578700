#!/usr/bin/env python3
"""The opponent: PyTorch and `transformers` train the packs of `finch-train bench`, as well as they can.

    python3 benches/gpu/opponent.py benches/gpu/models/qwen3-8b.json --tokens 32768 --document 4096 --liger --ckpt

MODEL is a config.json (random weights, made on the device) or a checkpoint's folder. Tokens, trained positions, the loss,
the clipping and AdamW's constants are those of `finch-train bench`, and so are the keys of the JSON object that it prints.
Weights, gradients and moments have the dtype that is named: in bf16 that is 8 bytes a parameter and no master copy.

`--micro` takes a step in several passes, which is often faster than `--ckpt` at the same memory. `--check` trains
nothing: it compares the loss and every gradient with those of each document alone, through plain attention.
"""

import argparse
import importlib.metadata
import json
import math
import resource
import statistics
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import AttentionInterface, AutoConfig, AutoModelForCausalLM

IGNORED = -100
# How far packed documents may be from separate ones: the loss, and a gradient relative to its norm.
BARS = {"f32": (1e-5, 1e-4), "bf16": (2e-2, 1e-1)}
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a config.json, or the folder of a checkpoint")
    parser.add_argument("--tokens", type=int, required=True, help="tokens of a step")
    parser.add_argument("--document", type=int, required=True, help="tokens of a document; the last may have fewer")
    parser.add_argument("--trained", type=float, default=1.0, help="the part of a document, from its end, that is trained")
    parser.add_argument("--micro", type=int, help="tokens of a pass; a step has as many passes as it needs")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--dtype", choices=DTYPES, default="bf16")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--lr", type=float, default=1e-5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--attention", choices=["varlen", "gqa", "repeat", "batch"],
                        help="varlen: packed; gqa, repeat: a call for each document; batch: equal documents as rows")
    parser.add_argument("--logits", choices=["all", "trained"], default="all", help="of all rows, as `transformers` does, "
                        "or of those that are trained")
    parser.add_argument("--liger", action="store_true", help="with Liger's kernels")
    parser.add_argument("--ckpt", action="store_true", help="with activation checkpointing")
    parser.add_argument("--compile", action="store_true", help="with torch.compile")
    parser.add_argument("--save", type=Path, help="write the weights as they are before the first of `--steps`, of which there may be none")
    parser.add_argument("--out", type=Path, help="write the JSON object here, not to standard output")
    parser.add_argument("--check", action="store_true", help="compare with separate documents")
    found = parser.parse_args()
    found.attention = found.attention or ("varlen" if found.device == "cuda" else "gqa")
    found.micro = found.micro or found.tokens
    return found


def tokens(count: int, vocabulary: int, seed: int) -> list[int]:
    """Tokens of a linear congruence, which two programs can make alike."""
    state, made = seed, []
    for _ in range(count):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        made.append((state >> 33) % vocabulary)
    return made


def lengths(count: int, document: int) -> list[int]:
    return [min(document, count - start) for start in range(0, count, document)]


def labels(ids: torch.Tensor, trained: float) -> torch.Tensor:
    """The trained end of a document, never its first token."""
    kept = ids.clone()
    kept[: max(1, len(ids) - math.ceil(trained * len(ids)))] = IGNORED
    return kept


def packed(module, query, key, value, mask, scaling=None, cu_seq_lens_q=None, max_length_q=None, **_):
    """Attention within documents that lie in one row, by torch's own kernel for that."""
    from torch.nn.attention.varlen import varlen_attn

    assert mask is None, "a mask of tokens by tokens was made"
    query, key, value = (part[0].transpose(0, 1).contiguous() for part in (query, key, value))
    made = varlen_attn(query, key, value, cu_seq_lens_q, cu_seq_lens_q, max_length_q, max_length_q, scale=scaling,
                       window_size=(-1, 0))
    return made[None], None


def one_by_one(repeat: bool):
    """Attention within documents that lie in one row, by a call for each."""

    def attention(module, query, key, value, mask, scaling=None, cu_seq_lens_q=None, **_):
        assert mask is None, "a mask of tokens by tokens was made"
        if repeat:
            key, value = (part.repeat_interleave(module.num_key_value_groups, dim=1) for part in (key, value))
        ends = cu_seq_lens_q.tolist()
        documents = [
            F.scaled_dot_product_attention(query[:, :, start:end], key[:, :, start:end], value[:, :, start:end],
                                           is_causal=True, scale=scaling, enable_gqa=not repeat)
            for start, end in zip(ends, ends[1:])
        ]
        return torch.cat(documents, dim=2).transpose(1, 2), None

    return attention


AttentionInterface.register("varlen", packed)
AttentionInterface.register("gqa", one_by_one(False))
AttentionInterface.register("repeat", one_by_one(True))


def make(asked: argparse.Namespace):
    """The model, with plain attention and no help yet."""
    dtype = DTYPES[asked.dtype]
    torch.manual_seed(asked.seed)
    if asked.model.is_dir():
        model = AutoModelForCausalLM.from_pretrained(asked.model, dtype=dtype, attn_implementation="sdpa").to(asked.device)
    else:
        fields = json.loads(asked.model.read_text())
        config = AutoConfig.for_model(fields.pop("model_type"), **fields)
        with torch.device(asked.device):
            model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")
    assert all(weight.dtype == dtype for weight in model.parameters())
    return model.train()


def prepare(model, asked: argparse.Namespace) -> None:
    """Attention and help, as they were asked for."""
    model.set_attn_implementation("sdpa" if asked.attention == "batch" else asked.attention)
    if asked.liger:
        from liger_kernel.transformers import _apply_liger_kernel_to_instance

        _apply_liger_kernel_to_instance(model=model)
    if asked.ckpt:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if asked.compile:
        model.model.compile()


def passes(documents: list, asked: argparse.Namespace) -> list[dict]:
    """The model's arguments for each pass of a step: whole documents, up to the size that was asked for."""
    groups, room = [], 0
    for ids in documents:
        if len(ids) > room:
            groups.append([])
            room = max(asked.micro, len(ids))
        groups[-1].append(ids)
        room -= len(ids)
    made = []
    for group in groups:
        if asked.attention == "batch":
            if len({len(ids) for ids in group}) > 1:
                sys.exit("error: `--attention batch` needs documents of one length")
            made.append({"input_ids": torch.stack(group), "labels": torch.stack([labels(ids, asked.trained) for ids in group])})
            continue
        ends = torch.tensor([0, *(len(ids) for ids in group)], dtype=torch.int32).cumsum(0, dtype=torch.int32)
        longest = max(map(len, group))
        made.append({
            "input_ids": torch.cat(group)[None],
            "labels": torch.cat([labels(ids, asked.trained) for ids in group])[None],
            "position_ids": torch.cat([torch.arange(len(ids)) for ids in group])[None],
            "cu_seq_lens_q": ends, "cu_seq_lens_k": ends, "max_length_q": longest, "max_length_k": longest,
        })
    on_device = lambda value: value.to(asked.device) if torch.is_tensor(value) else value
    return [{name: on_device(value) for name, value in one.items()} for one in made]


def loss_of(model, given: dict, trained: int, logits: str):
    """A pass's part of the mean loss of all trained tokens."""
    if logits == "all":
        return model(**given, use_cache=False, num_items_in_batch=trained).loss
    given = dict(given)
    wanted = given.pop("labels").roll(-1, dims=1)
    wanted[:, -1] = IGNORED
    rows = wanted != IGNORED
    hidden = model.model(**given, use_cache=False).last_hidden_state[rows]
    return F.cross_entropy(model.lm_head(hidden).float(), wanted[rows], reduction="sum") / trained


def parameters(model) -> tuple[int, float]:
    """The number of weights, and the FLOPs of a token in one step: 6 a weight that is multiplied with."""
    config = model.config
    multiplied = sum(weight.numel() for weight in model.parameters() if weight.ndim > 1)
    if not config.tie_word_embeddings:
        multiplied -= config.vocab_size * config.hidden_size
    return sum(weight.numel() for weight in model.parameters()), 6.0 * multiplied


def device_memory() -> int:
    """What the card has given away, CUDA's own part included; torch keeps what it once took."""
    free, total = torch.cuda.mem_get_info()
    return total - free


def check(model, documents: list, asked: argparse.Namespace) -> int:
    """Packed documents against each alone."""
    trained = sum(int((labels(ids, asked.trained) != IGNORED).sum()) for ids in documents)

    def gradients(inputs: list, logits: str) -> tuple[float, dict]:
        total = 0.0
        for given in inputs:
            loss = loss_of(model, given, trained, logits)
            loss.backward()
            total += loss.item()
        made = {name: weight.grad.float().clone() for name, weight in model.named_parameters()}
        model.zero_grad()
        return total, made

    alone = argparse.Namespace(**{**vars(asked), "attention": "batch", "micro": 1})
    expected_loss, expected = gradients(passes(documents, alone), "all")
    prepare(model, asked)
    loss, found = gradients(passes(documents, asked), asked.logits)
    worst = max(float((found[name] - one).norm() / one.norm()) for name, one in expected.items())
    most_loss, most = BARS[asked.dtype]
    print(f"loss {loss:.6f}, of each document alone {expected_loss:.6f}; gradients off by {worst:.1e} of their norm at most")
    return int(abs(loss - expected_loss) > most_loss or worst > most)


def main() -> int:
    asked = arguments()
    if asked.threads:
        torch.set_num_threads(asked.threads)
    model = make(asked)
    config = model.config
    ids = torch.tensor(tokens(asked.tokens, config.vocab_size, asked.seed))
    documents = list(ids.split(lengths(asked.tokens, asked.document)))
    if asked.save:
        model.save_pretrained(asked.save)
    if asked.steps == 0:
        return 0
    if asked.check:
        return check(model, documents, asked)
    prepare(model, asked)
    inputs = passes(documents, asked)
    trained = sum(int((labels(ids, asked.trained) != IGNORED).sum()) for ids in documents)
    optimizer = torch.optim.AdamW(model.parameters(), lr=asked.lr, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0, fused=True)

    on_gpu = asked.device == "cuda"
    steps = []
    for _ in range(asked.steps):
        phases = {}
        if on_gpu:
            torch.cuda.synchronize()
        begun = last = time.perf_counter()

        def phase(name: str) -> None:
            # Where work is queued, only the whole step has a time.
            nonlocal last
            if not on_gpu:
                now = time.perf_counter()
                phases[name] = phases.get(name, 0.0) + (now - last) * 1e3
                last = now

        total = torch.zeros((), device=asked.device)
        for given in inputs:
            loss = loss_of(model, given, trained, asked.logits)
            total += loss.detach()
            phase("forward")
            loss.backward()
            # Its graph may hold logits, which the next pass has no room beside.
            del loss
            phase("backward")
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        phase("clip")
        optimizer.step()
        optimizer.zero_grad()
        phase("update")
        said = {"loss": total.item(), "grad_norm": norm.item()}
        steps.append({"seconds": time.perf_counter() - begun, **said, "phase_ms": phases})

    count, flops = parameters(model)
    # Causal attention multiplies half of its square, forward once and backward twice.
    width = config.num_attention_heads * (getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)
    pairs = sum(len(ids) ** 2 for ids in documents) / asked.tokens
    flops += 6.0 * config.num_hidden_layers * width * pairs
    seconds = statistics.median(step["seconds"] for step in steps[len(steps) // 2:])
    versions = {name: importlib.metadata.version(name) for name in ["torch", "transformers"] + ["liger_kernel"] * asked.liger}
    result = {
        "parameters": count, "tokens": asked.tokens, "trained_tokens": trained, "steps": steps,
        "tokens_per_second": asked.tokens / seconds, "tflops": flops * asked.tokens / seconds / 1e12,
        "peak_memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "device_memory": device_memory() if on_gpu else None,
        "device_allocated": torch.cuda.max_memory_allocated() if on_gpu else None,
        "environment": {**versions, "device": torch.cuda.get_device_name() if on_gpu else "cpu",
                        "threads": torch.get_num_threads(), "attention": asked.attention, "logits": asked.logits,
                        "micro": asked.micro, "liger": asked.liger, "ckpt": asked.ckpt, "compile": asked.compile},
    }
    text = json.dumps(result)
    if asked.out:
        asked.out.write_text(text + "\n")
    else:
        print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
