#!/usr/bin/env python3
"""Builds into a container of azurite, the Azure Blob Storage emulator: `az://` with its own conditional puts.

Installs the npm package azurite below build/ (once), starts it on the loopback address, makes a container, and builds a
spec there: the digests must be those of a build in a folder, another machine (another cache) must find everything,
`verify` must be clean, and of two builds at once both must succeed. The same logs, read from the container, must give
the same rows. Needs node and npm; says SKIPPED without them.
"""

import argparse
import base64
import datetime
import hashlib
import hmac
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/faults"))
from store import Finch, demo, fresh  # noqa: E402

# The emulator's account, which its documentation publishes: https://learn.microsoft.com/azure/storage/common/storage-use-azurite
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
CONTAINER = "container"


def request(address: str, method: str, path: str, query: dict[str, str], body: bytes = b"", headers: dict | None = None) -> bytes:
    """A request signed with the account's key."""
    date = datetime.datetime.now(datetime.timezone.utc).strftime("%a, %d %b %Y %H:%M:%S GMT")
    headers = {"x-ms-date": date, "x-ms-version": "2021-12-02", **(headers or {})}
    canonical = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers) if name.startswith("x-ms-"))
    resource = f"/{ACCOUNT}/{ACCOUNT}{path}" + "".join(f"\n{name}:{query[name]}" for name in sorted(query))
    length = str(len(body)) if body else ""
    text = f"{method}\n\n\n{length}\n\n\n\n\n\n\n\n\n{canonical}{resource}"
    signature = base64.b64encode(hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()).decode()
    headers["Authorization"] = f"SharedKey {ACCOUNT}:{signature}"
    # urllib would add a type, which would have to be signed.
    sent = urllib.request.Request(f"http://{address}/{ACCOUNT}{path}?" + "&".join(f"{n}={v}" for n, v in query.items()),
                                  data=body or None, method=method, headers=headers)
    sent.add_unredirected_header("Content-Type", "")
    with urllib.request.urlopen(sent, timeout=30) as answer:
        return answer.read()


def main() -> int:
    """The exit code is 1 when anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--finch", required=True, help="the program")
    found = parser.parse_args()
    if not shutil.which("npm") or not shutil.which("node"):
        print("SKIPPED azurite: needs node and npm")
        return 0
    installed, work = ROOT / "build/azurite", ROOT / "build/azurite-work"
    program = installed / "node_modules/azurite/dist/src/blob/main.js"
    if not program.exists():
        subprocess.run(["npm", "install", "--silent", "--no-fund", "--no-audit", "--prefix", installed, "azurite@3"], check=True)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"127.0.0.1:{port}"
    command = ["node", program, "--silent", "--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", work / "data",
               "--skipApiVersionCheck", "--disableTelemetry"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.1)
        request(address, "PUT", f"/{CONTAINER}", {"restype": "container"})
        return check(found.finch, address, work)
    finally:
        server.kill()
        server.wait()


def check(binary: str, address: str, work: Path) -> int:
    """What should be so of a store and of sources in the container."""
    spec = demo(work)
    near = Finch(binary, spec)
    wrong = []

    def far(machine: str) -> Finch:
        finch = Finch(binary, spec)
        finch.environment |= {"AZURE_STORAGE_USE_EMULATOR": "true", "AZURITE_BLOB_STORAGE_URL": f"http://{address}",
                              "FINCH_CACHE": str(work / f"cache-{machine}"), "FINCH_RETRY_SECONDS": "20"}
        return finch

    def run(finch: Finch, *arguments: str) -> str:
        done = subprocess.run([finch.binary, *arguments], env=finch.environment, capture_output=True, text=True, errors="replace")
        if KEY in done.stdout + done.stderr:
            wrong.append(f"the account's key was printed by {arguments[0]}")
        if done.returncode != 0:
            wrong.append(f"`finch {' '.join(arguments)}` ended with {done.returncode}: {done.stderr.strip()[-800:]}")
        return done.stdout

    stages = "SELECT DISTINCT stage, fingerprint, manifest FROM meta.stages ORDER BY stage"
    store, here = f"az://{CONTAINER}/store", str(fresh(work / "near"))
    run(near, "run", str(spec), "--store", here)
    expected = run(near, "query", "--store", here, "--format", "csv", stages)
    begun = time.monotonic()
    run(far("one"), "run", str(spec), "--store", store)
    print(f"built in {time.monotonic() - begun:.1f} s in {store}")
    if run(far("two"), "query", "--store", store, "--format", "csv", stages) != expected:
        wrong.append("the build in the container came out different")
    if "0 of " not in run(far("two"), "run", str(spec), "--store", store):
        wrong.append("another machine computed something again")
    print(run(far("three"), "verify", "--store", store).strip())
    print(run(far("three"), "gc", "--store", store, "--keep", "1", "--grace", "0s").strip().splitlines()[-1:])
    pair = f"az://{CONTAINER}/pair"
    started = []
    for n in range(2):
        finch = far(f"pair-{n}")
        started.append(subprocess.Popen([finch.binary, "run", str(spec), "--store", pair], env=finch.environment,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True))
    for process in started:
        said = process.communicate()[1]
        if process.returncode != 0:
            wrong.append(f"one of two builds at once ended with {process.returncode}: {said.strip()[-600:]}")
    if run(far("two"), "query", "--store", pair, "--format", "csv", stages) != expected:
        wrong.append("two builds at once came out different")
    run(far("two"), "verify", "--store", pair)
    logs = ROOT / "data/init/logs"
    for path in sorted(path for path in logs.rglob("*") if path.is_file()):
        key = f"/{CONTAINER}/logs/{path.relative_to(logs).as_posix()}"
        request(address, "PUT", urllib.request.quote(key), {}, path.read_bytes(), {"x-ms-blob-type": "BlockBlob"})
    count = "SELECT count(*) AS n, min(candidate_id) AS first FROM candidates"
    if run(far("four"), "query", "--logs", f"az://{CONTAINER}/logs", "--format", "csv", count) != \
            run(near, "query", "--logs", str(logs), "--format", "csv", count):
        wrong.append("logs in the container were read differently")
    for line in wrong:
        print(f"FAILED {line}")
    print("as it should be" if not wrong else f"{len(wrong)} failures")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
