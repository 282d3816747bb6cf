#!/usr/bin/env python3
"""One QMP command to a running guest: plug a device in, pull it out.

qmp.py SOCKET COMMAND [KEY=VALUE...]      print the answer
"""

import json
import socket
import sys
from pathlib import Path
from typing import TextIO

TIMEOUT_SECONDS = 20.0


class QmpError(Exception):
    """QEMU refused, or isn't there."""


def ask(path: Path, command: str, **arguments: str) -> object:
    """Send one command to the QEMU behind the socket `path`; its answer."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(TIMEOUT_SECONDS)
            connection.connect(str(path))
            with connection.makefile("rw", encoding="utf-8") as stream:
                stream.readline()  # the greeting
                _execute(stream, "qmp_capabilities", {})
                return _execute(stream, command, arguments)
    except (OSError, ValueError) as error:
        raise QmpError(f"{path}: {error}") from error


def _execute(stream: TextIO, command: str, arguments: dict[str, str]) -> object:
    stream.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
    stream.flush()
    while line := stream.readline():
        answer = json.loads(line)
        if "error" in answer:
            raise QmpError(f"{command}: {answer['error'].get('desc', answer['error'])}")
        if "return" in answer:  # all else are events
            return answer["return"]
    raise QmpError(f"{command}: QEMU hung up")


def main() -> int:
    """Run the command line."""
    if len(sys.argv) < 3 or not all("=" in word for word in sys.argv[3:]):
        sys.stderr.write(f"{__doc__}\n")
        return 2
    try:
        arguments = dict(word.split("=", 1) for word in sys.argv[3:])
        answer = ask(Path(sys.argv[1]), sys.argv[2], **arguments)
    except QmpError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{json.dumps(answer)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
