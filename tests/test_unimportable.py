"""What a library could use but need not can be kept from it."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from observer.unimportable import stand_in, unimportable


def test_meanwhile() -> None:
    """The module can't be imported meanwhile, and can afterwards."""
    with unimportable("colorsys"), pytest.raises(ImportError):
        importlib.import_module("colorsys")
    assert importlib.import_module("colorsys").rgb_to_hsv


def test_imported_before() -> None:
    """A module that was there is there afterwards, the same one, also on an error."""
    before = importlib.import_module("colorsys")
    with pytest.raises(ImportError), unimportable("colorsys"):
        importlib.import_module("colorsys")
    assert importlib.import_module("colorsys") is before


def test_the_log_brings_no_rich() -> None:
    """The log, which the daemon imports, leaves rich alone; later it can be had."""
    code = (
        "import sys, observer.log;"
        "assert not [name for name in sys.modules if name.startswith('rich')];"
        "import observer.status;"
        "assert 'rich.live' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_stand_in() -> None:
    """It has every name, and is gone afterwards."""
    sys.modules.pop("colorsys", None)
    with stand_in("colorsys"):
        assert importlib.import_module("colorsys").anything is object
    assert importlib.import_module("colorsys").rgb_to_hsv


def test_no_stand_in_for_what_is_there() -> None:
    """A module that was imported before stays itself."""
    before = importlib.import_module("colorsys")
    with stand_in("colorsys"):
        assert importlib.import_module("colorsys") is before
    assert importlib.import_module("colorsys") is before


def test_the_daemon_brings_neither_openssl_nor_asyncio() -> None:
    """They are 9 MB on each host; whoever needs them later can have them.

    Nor what only `--web.config.file` asks for.
    """
    code = (
        "import sys;"
        "from observer import cli;"
        "assert cli.main(['run', '--listen', 'unix:/nowhere/at/all']) == cli.USAGE;"
        "assert 'observer.daemon' in sys.modules;"
        "unwanted = {'asyncio', 'ssl', '_ssl', '_hashlib', 'bcrypt', 'yaml'};"
        "assert not unwanted & sys.modules.keys();"
        "import asyncio, ssl;"
        "assert ssl.SSLContext and asyncio.run"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
