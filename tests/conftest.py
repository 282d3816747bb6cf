"""What holds for all tests."""

from __future__ import annotations

import re
from typing import Final

import pytest
from hypothesis import settings

# A busy machine is no slow code.
settings.register_profile("ours", deadline=None)
settings.load_profile("ours")

_KERNEL: Final = re.compile(r"[0-9]+\.[0-9]+(\..*)?")


@pytest.hookimpl(tryfirst=True)  # before xdist looks at the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of one guest in one process, where several share the work."""
    for item in items:
        if item.get_closest_marker("guest"):
            item.add_marker(pytest.mark.xdist_group(_guest(item)))


def _guest(item: pytest.Item) -> str:
    """Name the guest of a test: its file, and the kernel if that is a parameter."""
    spec = getattr(item, "callspec", None)
    texts = [str(value) for value in spec.params.values()] if spec else []
    kernels = [text for text in texts if _KERNEL.fullmatch(text)]
    return "-".join([item.path.stem, *kernels])
