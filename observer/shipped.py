"""The programs as they were compiled when the package was built, one file a method.

Only what differs between kernels is missing in them; `program.put_in_constants` puts
it in. `make bpf` writes the files.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Final

from observer.program import Program, ProgramError

if TYPE_CHECKING:
    from collections.abc import Mapping

# In the checkout a link to the top-level directory, in packages a copy of it.
BPF_DIR: Final = Path(__file__).resolve().parent / "data" / "bpf"
FORMAT: Final = "pci-observer-programs"
VERSION: Final = 1
# What JSON that is something else ends in.
_NONE: Final = (
    *(ValueError, LookupError, TypeError, AttributeError),
    *(OverflowError, RecursionError, struct.error),
)
_LICENSE: Final = "SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0"


class ShippedError(Exception):
    """There are no programs for this machine; the sentence says why."""


def name(method: str, machine: str) -> str:
    """Return the name of a file."""
    return f"{method}.{machine}.json"


def text(program: Program) -> str:
    """Return what the file of a program with markers holds, a line for each part."""
    parts = program.as_dict()
    codes = ",\n".join(json.dumps([k, *v]) for k, v in sorted(parts["codes"].items()))
    return (
        f'{{"format": "{FORMAT}", "version": {VERSION}, "license": "{_LICENSE}",\n'
        f'"maps": {json.dumps(parts["maps"])},\n"codes": [\n{codes}\n]}}\n'
    )


def read(
    method: str, machine: str, values: Mapping[str, int], directory: Path = BPF_DIR
) -> Program:
    """Return the programs for a kernel with these values.

    Raises ShippedError when there are none, or these don't fit.
    """
    path = directory / name(method, machine)
    try:
        data = json.loads(path.read_bytes())
        if (data["format"], data["version"]) != (FORMAT, VERSION):
            raise ShippedError(f"{path} is of another version")
        codes = {key: places for key, *places in data["codes"]}
        program = Program.from_dict({"maps": data["maps"], "codes": codes})
        return program.with_constants(values)
    except OSError as e:
        raise ShippedError(f"{path}: {e.strerror}") from e
    except ProgramError as e:
        raise ShippedError(f"{path}: {e}") from e
    except _NONE as e:
        raise ShippedError(f"{path} holds no programs") from e
