"""A JSON object from outside, read field by field with an error that names each."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

Word = TypeVar("Word", bound=StrEnum)

_VERSIONS: Final = 0xFFFFFFFFFFFFFFFF


class FieldError(ValueError):
    """A field is missing or not what it must be; the message begins with its name."""


class Fields:
    """The fields of one JSON object; those that nobody asks for are skipped."""

    def __init__(self, value: object, name: str = "") -> None:
        """Take a decoded JSON value; `name` is what errors call it.

        Raises FieldError when it is no object.
        """
        if not isinstance(value, dict):
            raise FieldError(f"{name or 'line'}: not an object")
        self.all: dict[str, object] = value
        self._name = name

    def only(self, known: AbstractSet[str]) -> Fields:
        """Return these fields. Raises FieldError when one is not known."""
        for name in self.all:
            if name not in known:
                raise FieldError(f"{self._path(name)}: unknown field")
        return self

    def of(self, form: str, version: int) -> Fields:
        """Return these fields, which say of what format they are.

        Raises FieldError when it is another one, or newer than `version`.
        """
        if self.text("format") != form:
            raise FieldError(f"{self._path('format')}: not {form}")
        written = self.integer("version", _VERSIONS)
        if written > version:
            problem = f"{written} is newer than {version}"
            raise FieldError(f"{self._path('version')}: {problem}")
        return self

    def value(self, name: str) -> object:
        """Return any field. Raises FieldError when it is missing, as all below."""
        try:
            return self.all[name]
        except KeyError:
            raise FieldError(f"{self._path(name)}: missing") from None

    def integer(self, name: str, maximum: int, *, default: int | None = None) -> int:
        """Return an integer from 0 to `maximum`, also one written as "0x8086"."""
        if default is not None and name not in self.all:
            return default
        value = self.value(name)
        if isinstance(value, str):
            value = _parsed(value)
        # bool is an int to Python, not to JSON
        if isinstance(value, bool) or not isinstance(value, int):
            raise FieldError(f"{self._path(name)}: not an integer")
        if not 0 <= value <= maximum:
            raise FieldError(f"{self._path(name)}: not within 0 and {maximum:#x}")
        return value

    def flag(self, name: str) -> bool:
        """Return a truth value."""
        value = self.value(name)
        if not isinstance(value, bool):
            raise FieldError(f"{self._path(name)}: neither true nor false")
        return value

    def text(self, name: str) -> str:
        """Return a string."""
        value = self.value(name)
        if not isinstance(value, str):
            raise FieldError(f"{self._path(name)}: not a string")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of strings."""
        values = self._list(name)
        if not all(isinstance(value, str) for value in values):
            raise FieldError(f"{self._path(name)}: not all strings")
        return tuple(map(str, values))

    def text_or_null(self, name: str) -> str | None:
        """Return a string or None for null."""
        return None if self.value(name) is None else self.text(name)

    def word(
        self, name: str, words: type[Word], *, default: Word | None = None
    ) -> Word:
        """Return a member of an enumeration."""
        if default is not None and name not in self.all:
            return default
        return self._word(name, self.value(name), words)

    def words(self, name: str, words: type[Word]) -> tuple[Word, ...]:
        """Return a list of members of an enumeration."""
        return tuple(self._word(name, value, words) for value in self._list(name))

    def nested(self, name: str) -> Fields:
        """Return an object within this one."""
        return Fields(self.value(name), self._path(name))

    def nested_list(self, name: str) -> list[Fields]:
        """Return a list of objects."""
        return [
            Fields(value, f"{self._path(name)}[{place}]")
            for place, value in enumerate(self._list(name))
        ]

    def _list(self, name: str) -> list[object]:
        value = self.value(name)
        if not isinstance(value, list):
            raise FieldError(f"{self._path(name)}: not a list")
        return value

    def _word(self, name: str, value: object, words: type[Word]) -> Word:
        if not isinstance(value, str) or value not in list(words):
            raise FieldError(f"{self._path(name)}: not one of {', '.join(words)}")
        return words(value)

    def _path(self, name: str) -> str:
        return f"{self._name}.{name}" if self._name else name


def _parsed(text: str) -> int | None:
    """Return the integer that `text` spells, as in Python or C."""
    try:
        return int(text, 0)
    except ValueError:
        return None
