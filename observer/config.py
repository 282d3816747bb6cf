"""The configuration file: the options of `run` in TOML, each under its own name.

What an option takes is said once, by the parser of the command line.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import textwrap
from typing import TYPE_CHECKING, Final, NamedTuple, cast

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_BYTES: Final = 1 << 16
_WIDTH: Final = 88
_TRIES: Final = 20  # to find the line of a mistake
_NOT_HERE: Final = {"help", "config"}
_PLACE: Final = re.compile(r" \(at (?:line ([0-9]+), column [0-9]+|end of document)\)")
_WEB: Final = "web.config.file"


class ConfigError(Exception):
    """A line for each mistake in the file: where, in which key, what and what to do."""


class Setting(NamedTuple):
    """What a file sets."""

    value: object  # as the command line would give it
    written: object  # as TOML has it


Settings = dict[str, Setting]  # by key


def options(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """Return the options that a file can set, by key: the long name without dashes."""
    return {
        action.option_strings[0].removeprefix("--"): action
        for action in parser._actions  # noqa: SLF001 - argparse has no public name
        if action.dest not in _NOT_HERE
    }


def read(path: Path, parser: argparse.ArgumentParser) -> Settings:
    """Read a file for the verb that has this parser. Raises ConfigError."""
    try:
        # A pipe must not hold up whoever reads again.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:  # noqa: PTH123
            data = file.read(_BYTES + 1)
    except (OSError, ValueError) as e:  # a NUL in the name
        why = e.strerror if isinstance(e, OSError) else e
        raise ConfigError(f"{path}: {why}") from e
    return parse(data, parser, name=str(path))


def parse(data: bytes, parser: argparse.ArgumentParser, *, name: str) -> Settings:
    """Understand what is in a file. Raises ConfigError with all mistakes, by line."""
    if len(data) > _BYTES:
        raise ConfigError(f"{name}: is longer than {_BYTES} bytes")
    try:
        text = data.decode()
    except UnicodeDecodeError as e:
        line = 1 + data.count(b"\n", 0, e.start)
        raise ConfigError(f"{name}:{line}: is not UTF-8") from e
    try:
        written = _loads(text)
    except (ValueError, RecursionError) as e:
        raise ConfigError(_no_toml(name, text, e)) from e
    settings: Settings = {}
    mistakes: list[tuple[int, str]] = []
    for key, value in written.items():
        try:
            settings[key] = Setting(_value(parser, key, value), value)
        except ValueError as e:
            mistakes.append((_line(text, key), f"{key}: {e}"))
    for key, other in _contradictions(parser, settings):
        sentence = f"{key}: can't stand beside {other}; keep one of them"
        mistakes.append((_line(text, key), sentence))
    if mistakes:
        lines = (
            f"{name}:{line}: {mistake}" if line else f"{name}: {mistake}"
            for line, mistake in sorted(mistakes)
        )
        raise ConfigError("\n".join(lines))
    return settings


def defaults(
    settings: Settings, parser: argparse.ArgumentParser, given: argparse.Namespace
) -> dict[str, object]:
    """Return what is to be the options' default, by destination.

    ``given`` is the command line without the file. It goes before the file: what can't
    stand beside an option of it is not taken from there.
    """
    known = options(parser)
    values = {known[key].dest: setting.value for key, setting in settings.items()}
    for members in _exclusive(parser):
        if any(getattr(given, dest) != parser.get_default(dest) for dest in members):
            values = {dest: v for dest, v in values.items() if dest not in members}
    return values


def web_config(settings: Settings) -> Path | None:
    """Return the other file that this one names, to be looked at as well."""
    return cast("Path", settings[_WEB].value) if _WEB in settings else None


def as_toml(settings: Settings, parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield the lines of a file that says the same; what is not set is a comment."""
    for place, (key, action) in enumerate(options(parser).items()):
        if place:
            yield ""
        text = (action.help or "") % vars(action)
        yield from textwrap.wrap(
            text,
            _WIDTH,
            initial_indent="# ",
            subsequent_indent="# ",
            break_on_hyphens=False,
        )
        if key in settings:
            yield f"{key} = {_spelled(settings[key].written)}"
        else:
            yield f"# {key} = {_example(action)}"


def _loads(text: str) -> dict[str, object]:
    """Return values by key, tables taken apart. Raises ValueError, RecursionError."""
    import tomllib  # noqa: PLC0415 - the verbs without a file do without

    return dict(_flat(tomllib.loads(text)))


def _flat(
    table: Mapping[str, object], prefix: str = ""
) -> Iterator[tuple[str, object]]:
    """Yield values by key: a table's name is the part before a dot in an option's."""
    for key, value in table.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _no_toml(name: str, text: str, error: Exception) -> str:
    if isinstance(error, RecursionError):
        return f"{name}: is nested too deeply"
    sentence = str(error)
    place = _PLACE.search(sentence)
    if place is None:  # a number that is too long
        return f"{name}: is not TOML: {sentence}"
    line = place[1] or 1 + text.rstrip("\n").count("\n")
    return f"{name}:{line}: is not TOML: {_PLACE.sub('', sentence)}"


def _line(text: str, key: str) -> int:
    """Return the line on which what sets a key begins; tomllib does not tell.

    Up to the line before, the text is whole and lacks the key. 0: not found, as where
    the key is spelled in an odd way.
    """
    name = re.escape(key.rpartition(".")[2])
    named = re.compile(f"""(^|[\\s.\\["']){name}([\\s.\\]"']|$)""")
    lines = text.splitlines(keepends=True)
    tried = 0
    for number, line in enumerate(lines):
        if line.lstrip().startswith("#") or not named.search(line.partition("=")[0]):
            continue
        tried += 1
        if tried > _TRIES:
            break
        try:
            if key not in _loads("".join(lines[:number])):
                return number + 1
        except (ValueError, RecursionError):
            continue  # within another value
    return 0


def _value(parser: argparse.ArgumentParser, key: str, written: object) -> object:
    """Return what the command line would give. Raises ValueError with a sentence."""
    known = options(parser)
    if key not in known:
        raise ValueError(f"there is no such option; there are {', '.join(known)}")
    action = known[key]
    if action.nargs == 0:
        if not isinstance(written, bool):
            raise ValueError(f"write true or false, not {_spelled(written)}")
        return written
    several = isinstance(action.default, tuple)
    text = _text(written, several=several)
    if text is None:
        wanted = "a list of texts" if several else "a text or a number"
        raise ValueError(f"write {wanted}, not {_spelled(written)}")
    try:
        value: object = parser._get_values(action, [text])  # noqa: SLF001
    except argparse.ArgumentError as e:
        raise ValueError(e.message) from e
    if isinstance(value, int) is not isinstance(written, int):
        wanted = "a number" if isinstance(value, int) else "a text"
        raise ValueError(f"write {wanted}, not {_spelled(written)}")
    return value


def _text(written: object, *, several: bool) -> str | None:
    """Return a value as it stands on a command line; None: it can't."""
    if several:
        if not isinstance(written, list) or not written:
            return None
        return ",".join(written) if all(type(w) is str for w in written) else None
    return str(written) if type(written) in {str, int} else None


def _contradictions(
    parser: argparse.ArgumentParser, settings: Settings
) -> Iterator[tuple[str, str]]:
    """Yield keys that can't stand beside another one, and that one."""
    keys = {action.dest: key for key, action in options(parser).items()}
    for members in _exclusive(parser):
        present = [keys[dest] for dest in members if keys[dest] in settings]
        yield from ((key, present[0]) for key in present[1:])
    listen = settings.get("listen")
    if _WEB in settings and listen is not None and listen.value == "none":
        yield _WEB, 'listen = "none"'


def _exclusive(parser: argparse.ArgumentParser) -> Iterator[list[str]]:
    for group in parser._mutually_exclusive_groups:  # noqa: SLF001
        yield [action.dest for action in group._group_actions]  # noqa: SLF001


def _spelled(value: object) -> str:
    """Spell a value as TOML does, as far as an option can have it."""
    return json.dumps(value, ensure_ascii=False, default=str).replace("\x7f", "\\u007F")


def _example(action: argparse.Action) -> str:
    """Spell the default of an option, or what stands for its value."""
    if action.default is None:
        return f'"{action.metavar}"'
    return _spelled(action.default)
