"""Write the shells' completions from the arguments: python docs/completions.py DIR."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

import shtab

from observer.arguments import parser

# By shell, the name under which it looks for them.
FILES: Final = {
    "bash": "pci-observer",
    "zsh": "_pci-observer",
    "fish": "pci-observer.fish",
}


def complete_paths(of: argparse.ArgumentParser) -> None:
    """Let what is a path be completed as one."""
    for action in of._actions:
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                complete_paths(each)
        elif action.type is Path:
            kind = shtab.DIRECTORY if action.metavar == "DIR" else shtab.FILE
            action.complete = kind  # type: ignore[attr-defined] # shtab's way


def main(directory: Path) -> None:
    """Write a directory for each shell."""
    whole = parser()
    complete_paths(whole)
    for shell, name in FILES.items():
        (directory / shell).mkdir(exist_ok=True)
        text = shtab.complete(whole, shell=shell)
        (directory / shell / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
