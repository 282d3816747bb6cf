"""All benchmarks: PYTHONPATH=tests .venv/bin/python tests/bench/table.py [FILE].

Prints a line for each row: what, ours and the peer's, how many times the peer's ours
is; FILE gets the same as JSON. A missed target is a failure.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cost
import diff
import fleet_queries
import model
import replay
import scrape
import store
import upgrade

BENCHMARKS = (model, replay, scrape, upgrade, diff, store, fleet_queries, cost)


def main(output: str | None = None) -> int:
    """Print the table, and write it to `output`."""
    measured = [row for benchmark in BENCHMARKS for row in benchmark.rows()]
    if output:
        table = [row._asdict() | {"ratio": row.ratio} for row in measured]
        Path(output).write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")
    for row in measured:
        peer = f"{row.peer:>12,.1f}" if row.peer else " " * 12
        ratio = f"{row.ratio:>8.2f}" if row.ratio else " " * 8
        missed = "  MISSED" if row.missed else ""
        print(f"{row.name:62}{row.ours:>12,.1f}{peer}{ratio}  {row.unit}{missed}")
    return 1 if any(row.missed for row in measured) else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
