"""Who may ask, by name and password: bcrypt, without its price at each scrape.

bcrypt takes a twentieth of a second or more on purpose, of which whoever asks could
make us spend as many as he likes. So one check runs at a time, a few wait for it, and
for the rest there is no time. Who gave his password once is known again by a keyed
hash of it.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import contextmanager
from enum import Enum, auto
from threading import Condition
from time import monotonic
from typing import TYPE_CHECKING, Final

from observer.unimportable import unimportable

# OpenSSL, which a server without TLS does not need. bcrypt 3 imports hmac as well.
with unimportable("_hashlib"):
    from hmac import compare_digest

    import bcrypt

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_PASSWORD_BYTES: Final = 72  # bcrypt looks at no more; its versions differ beyond
_WAITING: Final = 4
_OF_ONE: Final = 2  # of these, from one address


class Verdict(Enum):
    """What a check came to."""

    RIGHT = auto()
    WRONG = auto()
    BUSY = auto()  # not checked: too many are


class Passwords:
    """The users of a configuration, and who of them has been here."""

    def __init__(self, users: Mapping[str, bytes]) -> None:
        """Take bcrypt hashes by user. Raises ValueError if bcrypt can't take one."""
        self._hashes = {name.encode(): bytes(known) for name, known in users.items()}
        for known in self._hashes.values():
            bcrypt.hashpw(b"", b"$2b$04$" + known[7:29])  # is the salt one?
        self._key = os.urandom(32)
        self._known: dict[bytes, bytes] = {}
        self._lane = _Lane()

    def check(
        self, user: bytes, password: bytes, source: str, deadline: float
    ) -> Verdict:
        """Say whether this is the user's password.

        An unknown user takes as long as a known one. `source` is where the request
        comes from.
        """
        if b"\0" in password:  # bcrypt's versions differ
            return Verdict.WRONG
        password = password[:_PASSWORD_BYTES]
        tag = self._tag(user, password)
        if self._was_here(user, tag):
            return Verdict.RIGHT
        with self._lane.entered(source, deadline) as entered:
            if not entered:
                return Verdict.BUSY
            if self._was_here(user, tag):  # while we waited
                return Verdict.RIGHT
            right = bcrypt.checkpw(password, self._hash_for(user))
            if not right or user not in self._hashes:
                return Verdict.WRONG
            self._known[user] = tag
            return Verdict.RIGHT

    def _tag(self, user: bytes, password: bytes) -> bytes:
        data = len(user).to_bytes(4) + user + password
        return hashlib.blake2b(data, key=self._key, digest_size=32).digest()

    def _was_here(self, user: bytes, tag: bytes) -> bool:
        return compare_digest(self._known.get(user, b"\0" * 32), tag)

    def _hash_for(self, user: bytes) -> bytes:
        """Return the user's hash; for an unknown user somebody's, always the same."""
        hashes = [*self._hashes.values()]
        others = hashes[int.from_bytes(self._tag(user, b"")[:8]) % len(hashes)]
        return self._hashes.get(user, others)


class _Lane:
    """One is in it, few wait to enter."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._taken = False
        self._waiting: list[str] = []

    @contextmanager
    def entered(self, source: str, deadline: float) -> Iterator[bool]:
        """Wait for one's turn; False: there are too many, or it takes too long."""
        entered = self._enter(source, deadline)
        try:
            yield entered
        finally:
            if entered:
                with self._changed:
                    self._taken = False
                    self._changed.notify_all()

    def _enter(self, source: str, deadline: float) -> bool:
        with self._changed:
            if self._taken:
                if (
                    len(self._waiting) >= _WAITING
                    or self._waiting.count(source) >= _OF_ONE
                ):
                    return False
                self._waiting.append(source)
                try:
                    self._changed.wait_for(
                        lambda: not self._taken, deadline - monotonic()
                    )
                finally:
                    self._waiting.remove(source)
            if self._taken:
                return False
            self._taken = True
            return True
