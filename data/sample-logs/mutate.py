"""The mutation operator: proposes a changed program, sometimes a broken one.

It plays the part of the language model in the sample runs.  It knows each task
through `moves.toml`: named constants with their ranges, and for each function
of the program (a *slot*) several interchangeable bodies of different quality.
So it makes real progress, and it also fails in the ways a model fails: syntax
errors, unknown names, wrong answers, endless loops, edits that cannot be
applied.  It sees nothing but the text of the program; it never sees a score.
"""

import math
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

# How often a proposal is spoiled, by kind; the rest is meant to work.
SPOILS = {"syntax": 0.020, "name": 0.025, "wrong": 0.030, "hang": 0.012, "unusable": 0.025}

# A model usually notices that the program before it is broken, not always.
NOTICES_BREAKAGE = 0.75


@dataclass
class Edit:
    """One replacement of exact text, with the sentence that explains it."""

    old: str
    new: str
    why: str


@dataclass
class Block:
    """One body for a slot; `rank` orders the bodies of a slot by quality."""

    slot: str
    rank: int
    name: str
    why: str
    code: str
    bad: bool = False


class Moves:
    """What the operator knows about one task."""

    def __init__(self, folder: Path, language: str):
        with open(folder / "moves.toml", "rb") as handle:
            raw = tomllib.load(handle)
        self.language = language
        self.constants = raw["constants"]
        self.blocks = [Block(**{**b, "code": b["code"].strip("\n")}) for b in raw["blocks"]]
        self.slots = list(dict.fromkeys(b.slot for b in self.blocks))

    def find_slot(self, program: str, slot: str) -> str | None:
        """Return the text of a slot's function, or None if it is not there."""
        if self.language == "python":
            pattern = rf"^def {slot}\(.*(?:\n(?:[ \t].*|[ \t]*))*"
        else:
            pattern = rf"^[\w:<>&*, ]+ {slot}\(.*\{{\n(?:.*\n)*?\}}$"
        found = re.search(pattern, program, re.MULTILINE)
        return found.group(0).rstrip() if found else None

    def find_constant(self, program: str, name: str):
        """Return the match of the line that sets a constant, or None."""
        pattern = rf"^(?P<head>(?:const \w+ )?{name} = )(?P<value>[-\d.e]+)(?P<tail>;?)$"
        return re.search(pattern, program, re.MULTILINE)

    def broken_slots(self, program: str) -> list[str]:
        """Slots whose text is none of the bodies that are known to work."""
        good = {b.code for b in self.blocks if not b.bad}
        return [s for s in self.slots if (t := self.find_slot(program, s)) and t not in good]


def propose(moves: Moves, program: str, whole: bool, rng) -> tuple[list[Edit], str]:
    """Return the edits of one proposal and the kind of spoil (or "none")."""
    broken = moves.broken_slots(program)
    if broken and rng.random() < NOTICES_BREAKAGE:
        return [_swap(moves, program, slot, rng, repair=True) for slot in broken], "none"
    edits = _improve(moves, program, whole, rng)
    draw, spoil = rng.random(), "none"
    for kind, share in SPOILS.items():
        if draw < share:
            spoil = kind
            break
        draw -= share
    if spoil in ("syntax", "name", "hang", "wrong"):
        edits = _spoil(moves, program, edits, spoil, rng) or edits
    return edits, spoil


def apply_edits(program: str, edits: list[Edit]) -> str:
    """Apply the edits in order; each text is replaced once."""
    for edit in edits:
        program = program.replace(edit.old, edit.new, 1)
    return program


def _improve(moves, program, whole, rng) -> list[Edit]:
    """Edits that are meant to make the program better."""
    swaps = rng.choice([0, 1, 1, 2]) if whole else rng.choice([0, 0, 1])
    tunes = rng.choice([1, 1, 2, 3]) if whole else rng.choice([1, 1, 2])
    if swaps and rng.random() < 0.5:
        tunes = 0
    edits = []
    slots = [s for s in moves.slots if moves.find_slot(program, s)]
    for slot in rng.sample(slots, min(swaps, len(slots))):
        edits.append(_swap(moves, program, slot, rng))
    # A constant that no function reads is not worth a change.
    names = [n for n in moves.constants
             if moves.find_constant(program, n) and len(re.findall(rf"\b{n}\b", program)) > 1]
    for name in rng.sample(names, min(tunes, len(names))):
        edits.append(_tune(moves, program, name, rng))
    edits = [e for e in edits if e and e.old != e.new]
    if not edits and names:
        edits = [_tune(moves, program, rng.choice(names), rng)]
    return edits


def _swap(moves, program, slot, rng, repair=False) -> Edit | None:
    """Put another body into a slot, more often a better one than a worse one."""
    old = moves.find_slot(program, slot)
    known = [b for b in moves.blocks if b.slot == slot and not b.bad]
    rank = next((b.rank for b in known if b.code == old), -1)
    others = [b for b in known if b.code != old]
    better = [b for b in others if b.rank >= rank]
    pool = better if better and rng.random() < 0.7 else others
    if not pool:
        return None
    block = rng.choice(pool)
    head = f"`{slot}` does not work as it stands; " if repair else ""
    return Edit(old, block.code, f"{head}use {block.name} in `{slot}`: {block.why}")


def _tune(moves, program, name, rng) -> Edit:
    """Change one constant, a little more often towards a value known as good."""
    rule = moves.constants[name]
    line = moves.find_constant(program, name)
    value = float(line["value"])
    if rule["kind"] == "seed":
        text = str(rng.randint(1, 999))
        why = f"`{name}` = {text}: the search depends on luck, try another seed"
        return Edit(line.group(0), line["head"] + text + line["tail"], why)
    low, high, good = rule["low"], rule["high"], rule.get("good")
    if good is not None and rng.random() < 0.6:
        value += (good - value) * rng.uniform(0.2, 1.1)
    elif low > 0:
        value *= math.exp(rng.gauss(0.0, 0.4))
    else:
        value += rng.gauss(0.0, 0.15) * (high - low)
    value = min(high, max(low, value))
    text = str(round(value)) if rule["kind"] == "int" else f"{value:.4g}"
    if rule["kind"] == "float" and "." not in text and "e" not in text:
        text += ".0"
    if text == line["value"] and rule["kind"] == "int":
        text = str(max(int(low), int(text) - 1) if value >= high else int(text) + 1)
    turn = "raise" if float(text) > float(line["value"]) else "lower"
    why = f"{turn} `{name}` from {line['value']} to {text}: {rule.get('why', 'it looks off')}"
    return Edit(line.group(0), line["head"] + text + line["tail"], why)


def _spoil(moves, program, edits, kind, rng) -> list[Edit] | None:
    """Break the proposal in one slot; the explanation stays as confident as ever."""
    slot = rng.choice(moves.slots)
    old = moves.find_slot(program, slot)
    if old is None:
        return None
    if kind == "wrong":
        bad = [b for b in moves.blocks if b.bad]
        block = rng.choice(bad) if bad else None
        old = moves.find_slot(program, block.slot) if block else None
        return [Edit(old, block.code, f"{block.name}: {block.why}")] if old else None
    target = next((e for e in edits if e.old == old), None)
    body = target.new if target else old
    why = target.why if target else f"tidy `{slot}` and make it faster"
    text = _damage(body, kind, moves.language, rng)
    return None if text == body else [Edit(old, text, why)]


def _damage(body: str, kind: str, language: str, rng) -> str:
    """Break the text of a function in the given way."""
    lines = body.split("\n")
    if kind == "hang":
        python = language == "python"
        loop = ["    step = 1", "    while step > 0:", "        step += 1"] if python else [
            "    volatile int step = 1;", "    while (step > 0) step = 2 - (step & 1);"]
        after = 2 if python and len(lines) > 1 and '"""' in lines[1] else 1
        return "\n".join(lines[:after] + loop + lines[after:])
    if kind == "name":
        words = [w for w in re.findall(r"\b[a-z_]{4,}\b(?=[(\[])", "\n".join(lines[1:]))]
        if not words:
            return body
        word = rng.choice(words)
        return lines[0] + "\n" + re.sub(rf"\b{word}\b(?=[(\[])", "best_" + word, "\n".join(lines[1:]), count=1)
    ending = ":" if language == "python" else ";"
    marks = [i for i, line in enumerate(lines) if line.endswith((ending, ")"))]
    if marks:
        index = rng.choice(marks)
        lines[index] = lines[index][:-1]
    return "\n".join(lines)
