"""Write a fleet's history, or serve it: PYTHONPATH=.:tests python -m fleet --help."""

from __future__ import annotations

import argparse
import sys
import time

from fleet.exposition import imported, openmetrics
from fleet.scenario import HOUR, Fleet
from fleet.server import serve

MEBIBYTE = 1 << 20


def main() -> int:
    """Do what the arguments say."""
    parser = argparse.ArgumentParser("fleet", description=__doc__)
    parser.add_argument("--hosts", type=int, default=50, help="default: %(default)s")
    parser.add_argument(
        "--devices", type=int, default=20, help="of each host (default: %(default)s)"
    )
    parser.add_argument(
        "--hours", type=int, default=24, help="until now (default: %(default)s)"
    )
    parser.add_argument(
        "--step", type=int, default=240, help="seconds (default: %(default)s)"
    )
    parser.add_argument(
        "--format",
        choices=("openmetrics", "import", "serve"),
        default="openmetrics",
        help="for promtool, for VictoriaMetrics, or each host as it is now, to be "
        "scraped at http://127.0.0.1:PORT/NUMBER/metrics (default: %(default)s)",
    )
    parser.add_argument("--port", type=int, default=9900, help="default: %(default)s")
    options = parser.parse_args()
    end = int(time.time()) // options.step * options.step
    fleet = Fleet(
        *(options.hosts, options.devices, end - options.hours * HOUR, end, options.step)
    )
    if options.format == "serve":
        with serve(fleet, port=options.port) as server:
            print(f"{options.hosts} hosts on {server.url}/0/metrics", file=sys.stderr)
            server.wait()
        return 0
    write = openmetrics if options.format == "openmetrics" else imported
    size = 0
    for piece in write(fleet):
        sys.stdout.write(piece)
        before, size = size, size + len(piece)
        if before // (16 * MEBIBYTE) != size // (16 * MEBIBYTE):
            print(f"{size // MEBIBYTE} MiB", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
