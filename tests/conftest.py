"""What holds for all tests."""

from __future__ import annotations

from hypothesis import settings

# A busy machine is no slow code.
settings.register_profile("ours", deadline=None)
settings.load_profile("ours")
