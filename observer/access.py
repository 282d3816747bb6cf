"""Who may ask the HTTP server: the rules of `--web.config.file`, kept up to date."""

from __future__ import annotations

import base64
import os
import re
from http import HTTPStatus
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Final, NamedTuple

from observer import web_config
from observer.exchange import Response, plain
from observer.web_config import WebConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from observer.passwords import Passwords
    from observer.tls import Encryption
    from observer.web_config import WebConfig

    _Looks = dict[Path, tuple[int, ...] | None]

_LOOK_SECONDS: Final = 1.0  # between two looks at the files
_BASIC: Final = re.compile(r"(?i:basic) +([A-Za-z0-9+/]+={0,2})")
_CHALLENGE: Final = ("WWW-Authenticate", 'Basic realm="pci-observer", charset="UTF-8"')


class AccessRules(NamedTuple):
    """What holds for a connection from its beginning to its end."""

    encryption: Encryption | None
    passwords: Passwords | None
    headers: Mapping[str, str]

    def refusal(
        self, authorization: str, source: str, deadline: float
    ) -> Response | None:
        """Return what who has no right to be answered is told instead."""
        if self.passwords is None:
            return None
        given = _credentials(authorization)
        if given is None:
            return plain(HTTPStatus.UNAUTHORIZED, _CHALLENGE)
        # Imported already; not before it is clear that it is needed.
        from observer.passwords import Verdict  # noqa: PLC0415

        verdict = self.passwords.check(*given, source, deadline)
        if verdict is Verdict.BUSY:
            return plain(HTTPStatus.TOO_MANY_REQUESTS, ("Retry-After", "1"))
        if verdict is Verdict.WRONG:
            return plain(HTTPStatus.UNAUTHORIZED, _CHALLENGE)
        return None


class Access:
    """The rules, read anew when a file changes; what can't be used changes nothing."""

    def __init__(
        self,
        path: Path,
        *,
        on_change: Callable[[dict[str, object]], None],
        on_trouble: Callable[[str], None],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """Read the file. Raises WebConfigError.

        The functions are called later, in a thread that serves a connection.
        """
        self._on_change = on_change
        self._on_trouble = on_trouble
        self._clock = clock
        self._lock = Lock()  # of all but the rules
        self._looked = clock()
        self._looks: _Looks = {path: None}
        self._trouble = ""
        self._config, self._rules = self._load(path, None)

    @property
    def encrypted(self) -> bool:
        """Tell whether TLS is asked for."""
        return self._rules.encryption is not None

    def told(self) -> dict[str, object]:
        """Return what a log line may say of the rules."""
        tls = self._config.tls
        return {
            "file": str(self._config.path),
            "tls": tls is not None,
            "clients": tls.client_auth_type if tls is not None else None,
            "users": len(self._config.users),
        }

    @property
    def up_to_date(self) -> bool:
        """Tell whether the rules are what the files say."""
        return not self._trouble

    def unreadable(self) -> tuple[Path, ...]:
        """Return the files that can't be read again, as by who gave up root."""
        return tuple(
            path for path in self._config.files if not os.access(path, os.R_OK)
        )

    def reload(self) -> bool:
        """Read the files now, changed or not; tell whether they could be used.

        What a reload of the daemon calls, but not from within a signal handler.
        """
        with self._lock:
            self._looked = self._clock()
            self._read_again()
            return not self._trouble

    def rules(self) -> AccessRules:
        """Return what holds now, after a look at the files if one is due."""
        if self._lock.acquire(blocking=False):  # else another one looks
            try:
                if self._clock() - self._looked >= _LOOK_SECONDS:
                    self._looked = self._clock()
                    self._refresh()
            finally:
                self._lock.release()
        return self._rules

    def _refresh(self) -> None:
        if _look(self._looks) != self._looks:
            self._read_again()

    def _read_again(self) -> None:
        try:
            self._config, self._rules = self._load(self._config.path, self._config)
        except WebConfigError as e:
            if str(e) != self._trouble:
                self._on_trouble(str(e))
            self._trouble = str(e)
        else:
            self._trouble = ""
            self._on_change(self.told())

    def _load(
        self, path: Path, before: WebConfig | None
    ) -> tuple[WebConfig, AccessRules]:
        """Read all files, each after a look at it: a change meanwhile is seen later."""
        self._looks = _look(self._looks)
        config = web_config.read(path)
        self._looks = {path: self._looks[path], **_look(config.files[1:])}
        passwords = None
        if before is not None and before.users == config.users:
            passwords = self._rules.passwords  # they know who was here
        return config, _rules(config, passwords)


def _rules(config: WebConfig, passwords: Passwords | None) -> AccessRules:
    # Each is imported where it is asked for: the memory of the daemon.
    encryption: Encryption | None = None
    if config.tls is not None:
        from observer.tls import Encryption  # noqa: PLC0415

        encryption = Encryption(config)
    if config.users and passwords is None:
        from observer.passwords import Passwords  # noqa: PLC0415

        try:
            passwords = Passwords(config.users)
        except ValueError:
            raise WebConfigError(
                f"{config.path}: basic_auth_users: bcrypt can't take one of the "
                "hashes; make it anew"
            ) from None
    return AccessRules(encryption, passwords, config.headers)


def _look(paths: Iterable[Path]) -> _Looks:
    """Return what changes with a file, None for one that can't be looked at."""
    return {path: _looked_at(path) for path in paths}


def _looked_at(path: Path) -> tuple[int, ...] | None:
    try:
        s = path.stat()
    except OSError:
        return None
    return s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns


def _credentials(authorization: str) -> tuple[bytes, bytes] | None:
    """Return user and password of a header, None if it has none."""
    found = _BASIC.fullmatch(authorization)
    if found is None:
        return None
    try:
        user, colon, password = base64.b64decode(found[1], validate=True).partition(
            b":"
        )
    except ValueError:
        return None
    return (user, password) if colon else None
