"""A value as a key that equals only itself, where hashing all it holds is slow."""

from __future__ import annotations

from typing import Generic, TypeVar

_Value = TypeVar("_Value")


class Same(Generic[_Value]):
    """The key; it keeps the value, so that no other one gets its identity."""

    __slots__ = ("value",)

    def __init__(self, value: _Value) -> None:
        """Make a key of `value`."""
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.value is other.value
