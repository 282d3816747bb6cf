#!/usr/bin/env python3
"""Make a golden recording of what the scenario left: golden.py DIRECTORY...

DIRECTORY is one that tests/live/scenario.py filled. The steps of its kprobe part, up to
the first burst, become tests/golden/<release>.jsonl.xz.
"""

from __future__ import annotations

import json
import lzma
import sys
from pathlib import Path

if not __package__:  # run as a script
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from live import oracle

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


def trim(directory: Path, golden: Path = GOLDEN) -> Path:
    """Keep what was recorded before the bursts; return where it was written."""
    result = json.loads((directory / "result.json").read_text())
    end_ns = result["parts"]["kprobe"]["steps_end_ns"]
    kept = [
        json.dumps(line, separators=(",", ":")) + "\n"
        for line in oracle.lines(directory / "kprobe.jsonl.gz")
        if line.get("ktime_ns", 0) <= end_ns
    ]
    path = golden / f"{result['release']}.jsonl.xz"
    path.write_bytes(lzma.compress("".join(kept).encode("ascii"), preset=9))
    return path


if __name__ == "__main__":
    for name in sys.argv[1:]:
        path = trim(Path(name))
        print(path.name, path.stat().st_size)
