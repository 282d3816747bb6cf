"""The command line: words with a NUL between them."""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING

from fuzz.target import Target
from observer import arguments

if TYPE_CHECKING:
    from collections.abc import Iterable

PARSER = arguments.parser()
WRONG = 2  # exit status


def run(data: bytes) -> None:
    """Understand the words, or end with the status of wrong usage, or with help."""
    words = data.decode("utf-8", "surrogateescape").split("\0")
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            PARSER.parse_args(words)
    except SystemExit as e:
        assert e.code in (0, WRONG), e


def seeds() -> Iterable[bytes]:
    """Yield verbs with their options."""
    lines = (
        "run --listen :9817 --attach kprobe --ring-bytes 1048576 --log-level debug",
        "run --series devices --series-class 03,0c03 --series-vendor 8086,0x10de",
        "run --state-days 7 --state-mib 64 --textfile a.prom --no-state",
        "predict --semantics linux-3.16 --new-id-rules linux-7.3 cases.jsonl",
        "replay --semantics linux-3.16 --what-if --json day.jsonl.gz",
        "explain 00:02.0 --driver vfio-pci --json",
        "preflight --kernel 7.3 --root / --image vmlinuz --json",
        "status --interval 0.5 --once --socket a",
        "boot-args --btf vmlinuz",
        "history 00:02.0 --state a --json",
        "semantics rfc-2021-06-14",
    )
    return (line.replace(" ", "\0").encode() for line in lines)


TARGET = Target(run, (), seeds, share=2, max_bytes=256)
