"""The observer's own parts, attached with arguments that only tests have.

python -m live.direct DIRECTORY NAME LOADER-ARGUMENTS... does a few things that make
the kernel match, prints the books as JSON and leaves DIRECTORY/NAME.jsonl.gz.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Final

from live import pci
from observer import kernel
from observer.attachment import Attachment, attach
from observer.books import Books
from observer.live import Live
from observer.pipeline import Pipeline
from observer.record import Repeat
from observer.recording import Header, Writer

QUIET_SECONDS: Final = 1.0
POLL_SECONDS: Final = 0.2


def make_matches() -> None:
    """Have long and short tables walked, with hits and without, twice."""
    places = pci.addresses()
    for _ in range(2):
        pci.write("drivers/e1000/unbind", places["nic"])
        pci.write("drivers_probe", places["nic"])
        pci.write("drivers_probe", places["edu"])
        pci.write("drivers_probe", places["testdev"])


def observe(attachment: Attachment, recording: Path) -> dict[str, object]:
    """Judge what comes until nothing has come for a while; return the books."""
    layout = attachment.layout
    running = kernel.running()
    header = Header(
        running.release, running.machine, layout.as_dict(), layout.semantics
    )
    live, books = Live(attachment), Books()
    pipeline = Pipeline(layout.semantics, (books,))
    with Writer(recording, header) as writer:
        make_matches()
        last = time.monotonic()
        while time.monotonic() - last < QUIET_SECONDS:
            for record in live.poll(POLL_SECONDS):
                last = time.monotonic()
                if not isinstance(record, Repeat):  # no recording has those
                    writer.write(record)
                pipeline.feed(record)
    return {
        "emitted": live.counters.emitted,
        "repeated": live.counters.repeated,
        "undigested": live.counters.no_digest,
        "decoded": live.decoded,
        "judgements": books.judgements,
        "indeterminate": books.indeterminate,
        "divergences": sum(books.divergences.values()),
        "lost": books.lost,
    }


def main(directory: str, name: str, *arguments: str) -> None:
    """Run the command line."""
    attachment = attach(arguments)
    result = observe(attachment, Path(directory, f"{name}.jsonl.gz"))
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
