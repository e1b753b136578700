#!/usr/bin/env python3
"""Sets up libtorch for the CPU in a folder: what building and running `finch-train` needs, about 500 MB.

    python3 scripts/libtorch.py [FOLDER]          # default: build/libtorch

The files come from three wheels of the Python Package Index, pinned by version and SHA-256; pip checks the
hashes. No CUDA library is among them but two small ones that libtorch_cpu.so was linked with; a machine with a
GPU has its own torch 2.11, which `finch-train` finds and uses instead. A folder that is complete is left alone.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

VERSION = "2.11.0+cu130"

WHEELS = """\
torch==2.11.0 --hash=sha256:0f68f4ac6d95d12e896c3b7a912b5871619542ec54d3649cf48cc1edd4dd2756
nvidia-cuda-runtime==13.0.96 --hash=sha256:7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548
nvidia-cuda-cupti==13.0.85 --hash=sha256:4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8
"""

# The wheels are for CPython 3.12 whatever runs this script: nothing of Python is taken out of them.
PLATFORMS = ["manylinux_2_28_x86_64", "manylinux_2_25_x86_64", "manylinux2014_x86_64"]

LIBRARIES = {
    "torch/lib/libtorch_cpu.so",
    "torch/lib/libc10.so",
    "torch/lib/libgomp.so.1",
    "nvidia/cu13/lib/libcudart.so.13",
    "nvidia/cu13/lib/libcupti.so.13",
}

STAMP = "finch-setup.json"


def complete(folder: Path) -> bool:
    """Whether the folder holds this version with every file at its size."""
    try:
        stamp = json.loads((folder / STAMP).read_text())
        return stamp["wheels"] == WHEELS and all(
            (folder / name).stat().st_size == size for name, size in stamp["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def download(folder: Path) -> list[Path]:
    """The wheels, with their hashes checked by pip."""
    requirements = folder / "wheels.txt"
    requirements.write_text(WHEELS)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--no-cache-dir", "--only-binary=:all:", "--require-hashes", "--implementation=cp", "--python-version=3.12"]
    command += [f"--platform={platform}" for platform in PLATFORMS]
    command += ["--dest", str(folder), "--requirement", str(requirements)]
    if subprocess.run(command).returncode != 0:
        sys.exit("libtorch: the wheels could not be downloaded, or are not what was pinned (pip says why above)")
    return sorted(folder.glob("*.whl"))


def extract(wheels: list[Path], folder: Path) -> None:
    """Libraries into lib/, headers into include/."""
    (folder / "lib").mkdir(parents=True)
    found = set()
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for entry in archive.infolist():
                name = entry.filename
                if name in LIBRARIES:
                    found.add(name)
                    target = folder / "lib" / Path(name).name
                elif name.startswith("torch/include/") and not entry.is_dir() and ".." not in Path(name).parts:
                    target = folder / Path(name).relative_to("torch")
                else:
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as source, target.open("wb") as out:
                    shutil.copyfileobj(source, out, 1 << 20)
    if found != LIBRARIES:
        sys.exit(f"libtorch: the wheels lack {sorted(LIBRARIES - found)}")
    # torch-sys links with -ltorch; the wheel's own libtorch.so would ask for libtorch_cuda.so.
    (folder / "lib/libtorch.so").write_text("INPUT(-ltorch_cpu)\n")
    (folder / "build-version").write_text(VERSION + "\n")


def main() -> None:
    root = Path(__file__).resolve().parent.parent
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else root / "build/libtorch"
    folder = folder.absolute()
    if complete(folder):
        print(f"libtorch {VERSION} is in {folder}")
        return
    if folder.exists() and not (folder / STAMP).exists() and any(folder.iterdir()):
        sys.exit(f"libtorch: {folder} holds something else; name an empty folder, or one that is not there")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="libtorch-", dir=folder.parent) as name:
        aside = Path(name)
        print(f"libtorch {VERSION}: downloading 544 MB", flush=True)
        made = aside / "made"
        extract(download(aside), made)
        files = {str(p.relative_to(made)): p.stat().st_size for p in sorted(made.rglob("*")) if p.is_file()}
        (made / STAMP).write_text(json.dumps({"wheels": WHEELS, "files": files}))
        if folder.exists():
            shutil.rmtree(folder)
        made.rename(folder)
    print(f"libtorch {VERSION} is in {folder}")


if __name__ == "__main__":
    main()
