# SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
"""Compile the programs that are shipped: python bpf/generate.py [DIRECTORY].

The same sources and the same bcc give the same bytes. bcc creates the maps while it
compiles, so this needs a machine where that is allowed.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from observer import hooks, shipped
from observer.compiler import compile_program
from observer.program import Program, markers, take_out_constants


def programs(method: str) -> Program:
    """Compile all programs with a marker for each value of the kernel."""
    marked = markers(hooks.CONSTANTS)
    program = compile_program(marked, hooks.defines(method))
    codes = program.codes.items()
    return program._replace(
        codes={name: take_out_constants(code, marked) for name, code in codes}
    )


def main(directory: Path) -> None:
    """Write all of them."""
    for method in hooks.METHODS:
        path = directory / shipped.name(method, os.uname().machine)
        path.write_text(shipped.text(programs(method)), encoding="ascii")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else shipped.BPF_DIR)
