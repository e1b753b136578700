"""Counts and digests of what a contestant wrote, as JSON: `agree.py finch|peer LAYOUT FOLDER`.

`readers.py` compares them. Digests are of sets: of the candidates' ids in the logs, of the programs' canonical texts (as
finch defines them), of prompts and answers. finch writes one row a candidate where the others write one a record, so
steps are what both can tell: children with a parent, each once, copies of migration left out.
"""

import json
import re
import sys
from hashlib import sha256
from pathlib import Path

import pyarrow.parquet as pq

writer, layout, folder = sys.argv[1:]
DIALOGUE = ("system", "user", "response")


def rows(table: str, *columns: str):
    """Rows of a table, of all its files, a few at a time."""
    for path in sorted(Path(folder).glob(f"{table}*.parquet" if writer == "peer" else f"{table}/*.parquet")):
        file = pq.ParquetFile(path)
        found = [column for column in columns if column in file.schema_arrow.names]
        for batch in file.iter_batches(256, columns=found):
            values = dict(zip(found, (column.to_pylist() for column in batch.columns)))
            yield from zip(*(values.get(column, [None] * batch.num_rows) for column in columns))


def canonical(text: str) -> str:
    lines = re.split(r"\r\n|\r|\n", text.removeprefix("\ufeff"))
    return "\n".join(line.rstrip(" \t") for line in lines).rstrip("\n") + "\n"


def named(text: str) -> bytes:
    return sha256(text.encode()).digest()


def of(things: set) -> str:
    """A digest of a set."""
    return sha256(b"".join(sorted(thing if isinstance(thing, bytes) else thing.encode() for thing in things))).hexdigest()[:16]


ids, steps, records, programs, raw, texts, dialogue, parents = set(), set(), 0, set(), set(), set(), set(), set()
if writer == "finch":
    for native, copies, made, source in rows("candidates", "native_id", "copy_native_ids", "records", "raw_blake3"):
        ids |= {native, *copies}
        records += made
        raw.add(source)
    for child, parent, *sources in rows("transitions", "child_candidate", "parent_candidate", "parent_raw_blake3", "child_raw_blake3"):
        steps.add(child)
        raw |= set(sources)
    wanted = {text for row in rows("transitions", "system_prompt_id", "user_prompt_id", "response_id") for text in row}
    wanted |= {text for row in rows("attempts", "response_id") for text in row}
    programs = {named(code) for code, in rows("programs", "code")}
    for name, text in rows("texts", "text_id", "text"):
        texts.add(name)
        if name in wanted:
            dialogue.add(named(text))
    if layout == "trace":
        # A trace has a line a step; the records of its candidates count a parent once more for each child.
        records = len(steps)
else:
    wanted, wide = set(), not list(Path(folder).glob("programs*.parquet"))
    columns = ("parent_id", "child_id", "migrant", "parent_program", "child_program", "system", "user", "response", "feedback")
    for parent, child, migrant, *contents in rows("steps", *columns):
        records += 1
        ids.add(child)
        if layout == "trace":
            ids.add(parent)
        if parent is not None and not migrant:
            steps.add(child)
        if wide:
            for code in set(contents[:2]) - {None}:
                if (name := named(code)) not in raw:
                    raw.add(name)
                    programs.add(named(canonical(code)))
            dialogue |= {named(text) for text in contents[2:5] if text is not None}
            texts |= {named(text) for text in contents[2:] if text is not None}
        else:
            wanted |= {text for text in contents[2:5] if text is not None}
    for code, in rows("programs", "text"):
        raw.add(named(code))
        programs.add(named(canonical(code)))
    for name, text in rows("texts", "text_id", "text"):
        texts.add(name)
        if name in wanted:
            dialogue.add(named(text))
raw.discard(None)
print(json.dumps({
    "records": records, "steps": len(steps), "ids": len(ids), "programs": len(raw), "canonical programs": len(programs),
    "texts": len(texts), "set of ids": of(ids), "set of programs": of(programs), "set of prompts and answers": of(dialogue),
}))
