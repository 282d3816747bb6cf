"""What holds for all tests."""

from __future__ import annotations

import pytest
from hypothesis import settings

# A busy machine is no slow code.
settings.register_profile("ours", deadline=None)
settings.load_profile("ours")


@pytest.hookimpl(tryfirst=True)  # before xdist looks at the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of one guest in one process, where several share the work."""
    for item in items:
        if item.get_closest_marker("guest"):
            item.add_marker(pytest.mark.xdist_group(_guest(item)))


def _guest(item: pytest.Item) -> str:
    """Name the guest of a test: its file, and the kernel if that is a parameter."""
    spec, module = getattr(item, "callspec", None), getattr(item, "module", None)
    kernels = getattr(module, "KERNELS", ())
    values = spec.params.values() if spec else ()
    found = {value for value in values if isinstance(value, str) and value in kernels}
    return "-".join([item.path.stem, *sorted(found)])
