"""What a library could use but need not can be kept from it."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from observer.unimportable import unimportable


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
