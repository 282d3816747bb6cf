"""Fuzz one target in this process: python -m fuzz.one NAME [options of libFuzzer]."""

from __future__ import annotations

import gc
import sys
from contextlib import suppress
from time import process_time
from typing import TYPE_CHECKING

import atheris

from fuzz.target import PACKAGES, load

if TYPE_CHECKING:
    from collections.abc import Callable

    from fuzz.target import Target


def timed(target: Target) -> Callable[[bytes], None]:
    """Return what runs one input, and says so when none took as long before."""
    run, errors = target.run, target.errors
    slowest = 0.0

    def one_input(data: bytes) -> None:
        nonlocal slowest
        began = process_time()  # others may have the processor meanwhile
        with suppress(*errors):
            run(data)
        took = process_time() - began
        if took > slowest:
            slowest = took
            print(f"slowest: {1000 * took:.2f} ms", file=sys.stderr)

    return one_input


def main(name: str, *options: str) -> None:
    """Fuzz until libFuzzer ends the process."""
    with atheris.instrument_imports(include=[*PACKAGES]):
        target = load(name)
    gc.freeze()  # what is there stays
    more = {} if target.mutate is None else {"custom_mutator": target.mutate}
    atheris.Setup([sys.argv[0], *options], timed(target), **more)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
