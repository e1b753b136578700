#!/usr/bin/env python3
"""How long finch takes to find out that there is nothing to do: 10,000 source files, 20 stages.

Everything is built once. Then `finch run` and `finch plan` are timed, cold (the logs are dropped from the page cache,
the program is not) and warm. The design asks for under 1 s warm.
"""

from bench import arguments, forget, logs, machine, size, timed

found = arguments(__doc__, files="10000", scale="1.0", times="5")
folder = logs(found, "--files", found.files, "--runs", "20", "--scale", found.scale)
spec = folder / "stages.toml"
machine(found)
files, length = size(folder / "logs")
first, _ = timed([found.finch, "run", "--quiet", spec], 1)
print(f"logs      {files} files, {length / 1e6:.0f} MB; the first build or one of another program took {first:.1f} s")
print(f"\n{'command':<12}{'cold':>10}{'warm, median':>16}{'warm, least':>14}")
for command in ("run", "plan"):
    call = [found.finch, command, spec] + (["--quiet"] if command == "run" else [])
    forget(folder / "logs")
    cold, _ = timed(call, 1)
    median, least = timed(call, int(found.times))
    print(f"{command:<12}{cold:>8.3f} s{median:>14.3f} s{least:>12.3f} s")
