"""Read the configuration again while the daemon runs, and take over what can be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

from observer.config import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from observer.log import Logger

# What can change while the daemon runs.
LIVE: Final = {"series", "series-class", "series-vendor", "state-days", "state-mib"}


class _Options(Protocol):
    @property
    def given(self) -> Mapping[str, object]:
        """What was chosen, by the key of each option."""


_Read = TypeVar("_Read", bound=_Options)


class Reloading(Generic[_Read]):
    """The options, and who takes over those that can change."""

    def __init__(
        self,
        options: _Read,
        read: Callable[[], _Read],
        take: Callable[[_Read], None],
        logger: Logger,
    ) -> None:
        """Begin with `options`; `read` returns them anew, or raises ConfigError."""
        self._given = dict(options.given)
        self._read = read
        self._take = take
        self._logger = logger

    def __call__(self) -> bool:
        """Read, and tell whether that could be done; what is wrong changes nothing."""
        try:
            options = self._read()
        except ConfigError as e:
            for mistake in str(e).splitlines():
                self._logger.warning("configuration refused", mistake=mistake)
            return False
        new = {k for k, value in options.given.items() if value != self._given[k]}
        if new & LIVE:
            self._take(options)
        self._given |= {key: options.given[key] for key in LIVE & new}
        self._logger.info(
            "configuration is read again",
            changed=sorted(new & LIVE),
            after_a_restart=sorted(new - LIVE),
        )
        return True
