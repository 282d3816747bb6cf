"""Write the manual pages from the arguments: python docs/man.py DIRECTORY."""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from observer import __version__, config
from observer.arguments import parser, run_options

if TYPE_CHECKING:
    from collections.abc import Iterator

FILES: Final = {
    "/etc/pci-observer/pci-observer.toml": "configuration, see pci-observer.toml(5)",
    "/etc/pci-observer/web.yml": "who may read the metrics",
    "/run/pci-observer/observer.sock": "where the daemon answers the other verbs",
    "/var/lib/pci-observer/history.sqlite": "what was observed, kept across boots",
}
SEE_ALSO: Final = "systemctl(1), journalctl(1), driverctl(8), lspci(8), modprobe.d(5)"


def roff(text: str) -> str:
    """Spell a text so that it means itself, on one line."""
    text = " ".join(text.split()).replace("\\", "\\e").replace("-", "\\-")
    text = text.replace("~", "\\(ti").replace("^", "\\(ha")
    return f"\\&{text}" if text.startswith((".", "'")) else text


def bold(text: str) -> str:
    """Spell a text in bold."""
    return f"\\fB{roff(text)}\\fR"


def paragraph(term: str, text: str) -> Iterator[str]:
    """Yield a term, which is roff already, and what it means."""
    yield from (".TP", term, *([roff(text)] if text else []))


def head(name: str, section: int, title: str) -> Iterator[str]:
    """Yield the page's first lines; the date is the package's, else today's."""
    seconds = int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))
    date = time.strftime("%Y-%m-%d", time.gmtime(seconds))
    yield '.\\" Written by docs/man.py. Do not edit.'
    version = f"pci-observer {__version__}"
    yield f'.TH {name.upper()} {section} "{date}" "{version}"'
    yield from (".ad l", ".nh")
    yield from (".SH NAME", f"{roff(name)} \\- {roff(title)}")


def command_page(whole: argparse.ArgumentParser) -> Iterator[str]:
    """Yield pci-observer(1): every verb with all that it takes."""
    description = whole.description or ""
    yield from head(whole.prog, 1, description[0].lower() + description[1:].rstrip("."))
    yield from (".SH SYNOPSIS", f"{bold(whole.prog)} \\fIVERB\\fR [\\fIOPTIONS\\fR]")
    yield from (".SH DESCRIPTION", roff(description))
    yield ".SH OPTIONS"
    for action in whole._actions:
        if not isinstance(action, argparse._SubParsersAction):
            yield from option(whole, action)
    yield ".SH VERBS"
    for verb in verbs(whole).values():
        yield from verb_section(verb)
    yield ".SH EXIT STATUS"
    for status, meaning in exits(whole.epilog or ""):
        yield from paragraph(bold(status), meaning)
    yield ".SH FILES"
    for path, meaning in FILES.items():
        yield from paragraph(f"\\fI{roff(path)}\\fR", meaning)
    yield from (".SH SEE ALSO", f"{roff('pci-observer.toml(5), ' + SEE_ALSO)}")


def verbs(whole: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the parser of each verb."""
    (found,) = (a for a in whole._actions if isinstance(a, argparse._SubParsersAction))
    return dict(found.choices)


def verb_section(verb: argparse.ArgumentParser) -> Iterator[str]:
    """Yield what a verb does, how it is called and what it takes."""
    usage = verb.format_usage().removeprefix("usage: ")
    yield from (f".SS {roff(verb.prog)}", bold(usage), ".PP")
    yield roff(verb.description or "")
    for action in verb._actions:
        if action.dest != "help":
            yield from option(verb, action)


def option(of: argparse.ArgumentParser, action: argparse.Action) -> Iterator[str]:
    """Yield an option or an argument; its help is what --help shows."""
    formatter = of._get_formatter()
    text = formatter._expand_help(action) if action.help else ""
    term = bold(", ".join(action.option_strings))
    if not action.option_strings or action.nargs != 0:
        value = formatter._format_args(action, str(action.dest).upper())
        if isinstance(action.choices, (list, tuple)) and action.metavar is None:
            value = " | ".join(map(str, action.choices))
        term = f"{term} \\fI{roff(value)}\\fR".strip()
        term = term.removeprefix("\\fB\\fR ")
    yield from paragraph(term, text)


def exits(epilog: str) -> list[tuple[str, str]]:
    """Return exit statuses with their meanings from what stands below --help."""
    found = re.findall(r"(\d) (.*?)(?:, (?=\d )|$)", epilog)
    if not found:
        raise ValueError(f"no exit status in {epilog!r}")
    return found


def config_page() -> Iterator[str]:
    """Yield pci-observer.toml(5): the file, and every key."""
    yield from head("pci-observer.toml", 5, "configuration of pci-observer")
    yield from (".SH SYNOPSIS", "\\fI/etc/pci\\-observer/pci\\-observer.toml\\fR")
    yield from (".SH DESCRIPTION", roff("A file in TOML, version 1.0, encoded as"))
    yield roff("UTF-8. Its keys are the options of")
    yield bold("pci-observer run")
    yield roff(
        "without the dashes. What is given there goes before what the file says."
    )
    yield roff(
        "A text is a TOML string, a number an integer, what has no value is true"
    )
    yield roff("or false, and what has commas on the command line is an array.")
    yield from (".PP", bold("pci-observer config --check"))
    yield roff("names what is wrong in it, by file, line and key;")
    yield bold("systemctl reload pci-observer")
    yield roff("reads it again.")
    yield ".SH KEYS"
    known = run_options()
    for key, action in config.options(known).items():
        text = known._get_formatter()._expand_help(action)
        yield from paragraph(bold(key), text)
    yield from (".SH SEE ALSO", roff("pci-observer(1), systemd.service(5)"))


def main(directory: Path) -> None:
    """Write the pages."""
    # As wide as needed: usage is filled by troff.
    os.environ["COLUMNS"] = "10000"
    for name, lines in {
        "pci-observer.1": command_page(parser()),
        "pci-observer.toml.5": config_page(),
    }.items():
        (directory / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
