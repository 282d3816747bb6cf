"""Read the configuration again while the daemon runs, and take over what can be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from observer.config import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from observer.log import Logger


class Reloading:
    """The options by name; those that can change have one who takes a new value."""

    def __init__(
        self,
        options: Mapping[str, object],
        read: Callable[[], Mapping[str, object]],
        change: Mapping[str, Callable[..., None]],
        logger: Logger,
    ) -> None:
        """Begin with `options`; `read` returns them anew, or raises ConfigError."""
        self._options = dict(options)
        self._read = read
        self._change = change
        self._logger = logger

    def __call__(self) -> bool:
        """Read, and tell whether that could be done; what is wrong changes nothing."""
        try:
            options = self._read()
        except ConfigError as e:
            for mistake in str(e).splitlines():
                self._logger.warning("configuration refused", mistake=mistake)
            return False
        new = {k: v for k, v in options.items() if v != self._options[k]}
        for name in self._change.keys() & new.keys():
            self._change[name](new[name])
            self._options[name] = new[name]
        self._logger.info(
            "configuration is read again",
            changed=sorted(self._change.keys() & new.keys()),
            after_a_restart=sorted(new.keys() - self._change.keys()),
        )
        return True
