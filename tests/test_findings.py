"""observer/findings.py: what is wrong appears when caused and goes when cured."""

from __future__ import annotations

from observer.findings import Name

# The names that the contract with the outside knows.
CONTRACT = {"stale_override", "orphan", "unexplained_binding", "binding_changed"}


def test_names() -> None:
    """The contract's names are there, so that metrics can export them all."""
    assert set() == CONTRACT - set(Name)
