"""The configuration file of `run`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fuzz.target import Target
from observer import config
from observer.arguments import run_options
from observer.config import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

OPTIONS = run_options()


def run(data: bytes) -> None:
    """Take it, and what is written of it again: both say the same."""
    settings = config.parse(data, OPTIONS, name="x.toml")
    written = "\n".join(config.as_toml(settings, OPTIONS))
    again = config.parse(written.encode(), OPTIONS, name="x.toml")
    assert settings == again, written


def seeds() -> Iterable[bytes]:
    """Yield files with texts, numbers, switches, lists and tables."""
    yield b""
    yield b'listen = "[::1]:9817"\nlog-level = "debug"\nseries = 250\ncompile = true\n'
    yield b'series-class = ["02", "0302"]\nseries-vendor = [\n  "0x8086",\n]\n'
    yield b"[web.config]\nfile = '/w.yml'\n"
    yield b'state = """\n/a"""\nstate-days = 0x10\nstate-mib = 1_0\n'


WORDS = tuple(config.options(OPTIONS))
TARGET = Target(run, (ConfigError,), seeds, share=3, max_bytes=512, words=WORDS)
