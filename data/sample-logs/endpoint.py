"""A loopback server that speaks the OpenAI chat protocol for the scaffolds.

One address per task (`/<task>/v1/chat/completions`), so the operator need not
guess the task.  Every answer follows from the content of the request and from
how often the same content came before; nothing else is random, so a run can be
remade as far as the scaffold itself is reproducible.
"""

import hashlib
import json
import random
import re
import threading
import tomllib
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from mutate import Edit, Moves, apply_edits, propose

# Share of the answers that start with a passage of thinking.
THINKS = 0.35

OPENINGS = (
    "I looked at where the program loses most.",
    "The structure is sound, but there is room in the details.",
    "Here is a change that should raise the fitness.",
    "Two things stand out in this program.",
    "The cheapest gain I can see is the following.",
    "I keep the interface as it is and change the inside.",
)
THOUGHTS = (
    "The score depends on {slot} more than on the rest.",
    "What would happen if {slot} did nothing at all? Then the result would be far worse, so it matters.",
    "The interface has to stay the same, so only the inside of {slot} may move.",
    "The time limit is tight, I must not do much more work than now.",
    "A larger search usually helps here, but the gain shrinks quickly.",
    "I could rewrite everything, but a small change is easier to judge.",
    "The earlier attempt points in the same direction.",
)


class Operator:
    """Turns chat messages into an answer in the format that the prompt asks for."""

    def __init__(self, tasks: Path):
        self.moves = {}
        for folder in sorted(p.parent for p in tasks.glob("*/task.toml")):
            with open(folder / "task.toml", "rb") as handle:
                task = tomllib.load(handle)
            self.moves[folder.name] = Moves(tasks / task.get("moves", folder.name), task["language"])
        self.seen = Counter()
        self.lock = threading.Lock()

    def answer(self, task: str, messages: list[dict]) -> str:
        """Return the text of the assistant's turn."""
        system = "\n".join(m["content"] for m in messages if m["role"] == "system")
        user = messages[-1]["content"]
        digest = hashlib.sha256((task + "\0" + system + "\0" + user).encode()).hexdigest()
        with self.lock:
            self.seen[digest] += 1
            count = self.seen[digest]
        rng = random.Random(f"{digest}/{count}")
        moves = self.moves[task]
        program = current_program(user)
        shinka = "<NAME>" in system
        whole = "<DIFF>" not in system if shinka else "SEARCH/REPLACE" not in user
        edits, spoil = propose(moves, program, whole, rng)
        edits = [e for e in edits if e]
        if spoil == "unusable" and not whole:
            edits = [Edit(_misquote(e.old), e.new, e.why) for e in edits]
        text = _as_rewrite(moves.language, program, edits, spoil, shinka) if whole else _as_diff(edits, shinka)
        if shinka:
            text = _with_headers(edits, text)
        else:
            text = rng.choice(OPENINGS) + " " + _sentences(edits) + "\n\n" + text
        return _thinking(moves, rng) + text if rng.random() < THINKS else text


def current_program(user: str) -> str:
    """Cut the program under change out of the prompt of either scaffold."""
    start = max(user.rfind("# Current Program\n"), user.rfind("# Current program\n"),
                user.rfind("# Incorrect Program to Fix"))
    found = re.search(r"```\w*\n(.*?)\n?```", user[max(start, 0):], re.DOTALL)
    return found.group(1) if found else ""


def _sentences(edits) -> str:
    return " ".join(f"{e.why[0].upper()}{e.why[1:]}." for e in edits)


def _thinking(moves, rng) -> str:
    slot = rng.choice(moves.slots)
    picked = rng.sample(THOUGHTS, rng.randint(2, 4))
    return "<think>\n" + "\n".join(t.format(slot=f"`{slot}`") for t in picked) + "\n</think>\n\n"


def _misquote(text: str) -> str:
    """A quotation from memory: the words are right, the text is not."""
    return re.sub(r" = ", "=", text, count=1) if " = " in text else text.replace("    ", "  ")


def _as_diff(edits, shinka: bool) -> str:
    parts = [f"<<<<<<< SEARCH\n{e.old}\n=======\n{e.new}\n>>>>>>> REPLACE" for e in edits]
    joined = "\n\n".join(parts)
    return f"<DIFF>\n{joined}\n\n</DIFF>" if shinka else joined


def _as_rewrite(language, program, edits, spoil, shinka: bool) -> str:
    if spoil == "unusable":
        return "The change is small, so I describe it only: apply it where the constants are set."
    fenced = f"```{language}\n{apply_edits(program, edits)}\n```"
    return f"<CODE>\n{fenced}\n</CODE>" if shinka else fenced


def _with_headers(edits, text: str) -> str:
    words = re.findall(r"[a-z]+", edits[0].why.lower() if edits else "no change")
    return f"<NAME>\n{'_'.join(words[:4])}\n</NAME>\n\n<DESCRIPTION>\n{_sentences(edits)}\n</DESCRIPTION>\n\n{text}"


class Handler(BaseHTTPRequestHandler):
    """POST /<task>/v1/chat/completions, and nothing else."""

    operator: Operator
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        """Answer one chat request."""
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        task = self.path.split("/")[1]
        try:
            text = self.operator.answer(task, request["messages"])
        except Exception as err:
            self._send(500, {"error": {"message": repr(err)}})
            return
        spent = sum(len(m["content"]) for m in request["messages"]) // 4
        usage = {"prompt_tokens": spent, "completion_tokens": len(text) // 4,
                 "total_tokens": spent + len(text) // 4}
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        self._send(200, {"id": "sample", "object": "chat.completion", "created": 0,
                         "model": request.get("model", ""), "choices": [choice], "usage": usage})

    def _send(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        """Say nothing: one line per request would only hide the runs' own output."""


def start(tasks: Path) -> ThreadingHTTPServer:
    """Serve on a free loopback port in a background thread."""
    handler = type("TaskHandler", (Handler,), {"operator": Operator(tasks)})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
