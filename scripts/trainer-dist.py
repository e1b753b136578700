#!/usr/bin/env python3
"""Builds the trainer for machines without Rust: build/finch-train-VERSION-x86_64-linux.tar.gz.

    python3 scripts/trainer-dist.py               # `make trainer-dist`; libtorch must be in build/libtorch

In it are the two programs, a script that finds an installed PyTorch, and what a person needs to know. The programs
are built in a target folder of their own, with no path of this machine in them. What is packed is looked at: what it
needs of the system, that no path is left, and that the archive, unpacked elsewhere, starts. Equal programs give an
equal archive, byte for byte.
"""

import gzip
import os
import re
import shlex
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "build/dist-target"
LIBTORCH = ROOT / "build/libtorch"
PARTS = ROOT / "scripts/dist"
PROGRAMS = ["finch-train", "finch-train-torch"]

# What RHEL 9 has; Ubuntu 22.04 and Debian 12 have more. libtorch asks for less.
NEWEST = {"GLIBC": (2, 34), "GLIBCXX": (3, 4, 29), "CXXABI": (1, 3, 13), "GCC": (12, 0, 0)}


def output(*command) -> str:
    """What a command says; it must succeed."""
    return subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True).stdout


def paths() -> dict[Path, str]:
    """Folders of this machine that compilers write into programs, and what stands for them; the innermost last."""
    home = Path.home()
    cargo = Path(os.environ.get("CARGO_HOME") or home / ".cargo")
    known = {ROOT: "finch", cargo: "cargo", Path(output(os.environ.get("RUSTC", "rustc"), "--print", "sysroot").strip()): "rust"}
    sources = sorted((cargo / "registry/src").glob("*"))
    known |= {source: "crates" for source in sources}
    # The same by their real names, where there are links.
    return known | {path.resolve(): name for path, name in known.items()}


def build() -> list[Path]:
    """The two programs."""
    cargo = os.environ.get("CARGO", "cargo")
    output(cargo, "fetch", "--locked", "--manifest-path", ROOT / "Cargo.toml")
    known = paths()
    # The last one that fits counts.
    flags = [f"--remap-path-prefix={path}={name}" for path, name in known.items()]
    maps = shlex.join(f"-ffile-prefix-map={path}={name}" for path, name in known.items())
    environment = {
        **os.environ,
        "FINCH_DIST": "1",
        "LIBTORCH": str(LIBTORCH),
        "CARGO_ENCODED_RUSTFLAGS": "\x1f".join(flags),
        "CC_SHELL_ESCAPED_FLAGS": "1",
        "CFLAGS": maps,
        "CXXFLAGS": maps,
    }
    for name in ["LIBTORCH_USE_PYTORCH", "LIBTORCH_INCLUDE", "LIBTORCH_LIB", "CARGO_BUILD_TARGET"]:
        environment.pop(name, None)
    command = [cargo, "build", "--release", "--locked", "--package", "finch-train", "--features", "torch", "--bins"]
    subprocess.run([*command, "--target-dir", TARGET], cwd=ROOT, env=environment, check=True)
    programs = [TARGET / "release" / name for name in PROGRAMS]
    for program in programs:
        output("strip", program)
    return programs


def complaints(program: Path) -> list[str]:
    """What keeps a program from running elsewhere, or tells where it was built."""
    found = []
    symbols = output("objdump", "-T", program)
    for family, newest in NEWEST.items():
        needed = {tuple(map(int, version.split("."))) for version in re.findall(rf"\b{family}_([0-9.]+)", symbols)}
        if needed and max(needed) > newest:
            words = [".".join(map(str, version)) for version in (max(needed), newest)]
            found.append(f"needs {family} {words[0]}; {words[1]} is the newest that it may")
    found += re.findall(r"\((?:RPATH|RUNPATH)\).*", output("readelf", "--dynamic", "--wide", program))
    content = program.read_bytes()
    for path in {*paths(), TARGET, Path.home()}:
        # The slash, because a home may be `/root`, with which other words begin.
        at = content.find(f"{path}/".encode())
        if at >= 0:
            shown = content[at : at + 120].split(b"\0")[0].decode(errors="replace")
            found.append(f"holds a path of this machine: {shown}")
    # A home holds cargo's folder, which holds the sources: one path, found three times.
    return list(dict.fromkeys(found))


def pack(programs: list[Path]) -> Path:
    """The archive: names in order, no times, no owners."""
    version = output(programs[0], "--version").split()[1]
    name = f"finch-train-{version}-x86_64-linux"
    files = {path.name: path for path in [*programs, *PARTS.iterdir(), ROOT / "LICENSE"]}
    archive = ROOT / "build" / f"{name}.tar.gz"
    aside = archive.with_suffix(".tmp")
    with aside.open("wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as packed:
        with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for file, path in sorted(files.items()):
                entry = tarfile.TarInfo(f"{name}/{file}")
                entry.size = path.stat().st_size
                entry.mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
                with path.open("rb") as content:
                    tar.addfile(entry, content)
    aside.rename(archive)
    return archive


def try_out(archive: Path) -> list[str]:
    """Unpacks the archive and starts it where nothing of this repository is near."""
    found = []
    with tempfile.TemporaryDirectory(prefix="finch-dist-") as name:
        folder = Path(name)
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
        script = next(folder.glob("*/finch-train.sh"))
        other = folder / "other/lib"
        other.mkdir(parents=True)
        (other / "libtorch_cpu.so").touch()
        (other / "../build-version").write_text("2.110.0\n")
        (folder / "bin").mkdir()
        (folder / "bin/python3").write_text("#!/bin/sh\nexit 1\n")
        (folder / "bin/python3").chmod(0o755)
        run = ["run", "config.toml", "--data", "packs", "--out", "out"]
        cases = [
            (["--version"], 0, "finch-train "),
            (["explain", "F0805"], 0, "F0805"),
            (["run", "--help"], 0, "--data"),
            (run, 3, "python3: it has no torch, or is not there"),
            (["--torch", folder / "none", *run], 3, "no libtorch_cpu.so in or below"),
            (["--torch", folder / "other", *run], 3, "holds 2.110.0"),
        ]
        for arguments, code, words in cases:
            environment = {"PATH": f"{folder}/bin:/usr/bin:/bin"}
            ended = subprocess.run([script, *arguments], cwd=folder, env=environment, capture_output=True, text=True)
            if ended.returncode != code or words not in ended.stdout + ended.stderr:
                shown = " ".join(map(str, arguments))
                found.append(f"`{shown}` ends with {ended.returncode}: {ended.stdout}{ended.stderr}")
    return found


def main() -> int:
    """Build, look, pack, try; the number of complaints is the exit code."""
    programs = build()
    found = [f"{program.name} {complaint}" for program in programs for complaint in complaints(program)]
    if not found:
        archive = pack(programs)
        found = try_out(archive)
        print(f"trainer-dist: {archive.relative_to(ROOT)}, {archive.stat().st_size / 1e6:.1f} MB")
    for complaint in found:
        print(f"trainer-dist: {complaint}", file=sys.stderr)
    return min(len(found), 100)


if __name__ == "__main__":
    sys.exit(main())
