"""Where the daemon listens: a TCP port, a unix socket, or one that systemd made.

`--listen` is taken apart here and nowhere else.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

_TCP: Final = re.compile(r"(?:\[([0-9A-Za-z:.%]+)\]|([0-9A-Za-z.-]*)):([0-9]{1,5})")
_LAST_PORT: Final = 0xFFFF
_UNIX: Final = "unix:"
AUTO: Final = "auto"
NONE: Final = "none"
_SYSTEMD: Final = "systemd"
_USUAL: Final = "127.0.0.1:9817"
_FIRST: Final = 3  # descriptor that systemd passes
# What tells of descriptors that were passed; nobody else is to believe that.
PASSED: Final = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")

_BACKLOG: Final = 1024  # a client that finds it full tries again after a second
_DIRECTORY_UMASK: Final = 0o022
OWNER: Final = 0o177  # umasks: the owner alone may connect
GROUP: Final = 0o117  # its group as well


class ListenError(ValueError):
    """Nothing can be listened on, or not as wanted; one sentence says why."""


def check(address: str) -> str:
    """Return an address that can be meant to be one. Raises ListenError."""
    match = _TCP.fullmatch(address)
    if (
        address in {AUTO, NONE, _SYSTEMD}
        or address.startswith(_UNIX + "/")
        or (match is not None and int(match[3]) <= _LAST_PORT)
    ):
        return address
    raise ListenError(
        f"{address!r} is no address to listen on: write 127.0.0.1:9817, "
        "[::1]:9817, or :9817 for every interface; unix:/path for a unix socket; "
        "systemd for the socket of a socket unit; or none."
    )


def chosen(address: str) -> str | None:
    """Return what `--listen` means to this process: an address of `listen`, or None.

    What systemd passed must be answered, so another address is refused: whoever made
    the socket unit waits there. With none, nobody can connect. Raises ListenError.
    """
    passed = os.environ.get(PASSED[0]) == str(os.getpid())
    if address == AUTO:
        return _SYSTEMD if passed else _USUAL
    if address == NONE:
        if passed:
            with _passed() as unwanted:  # whoever comes is refused at once
                unwanted.shutdown(socket.SHUT_RDWR)
        return None
    if passed and address != _SYSTEMD:
        raise ListenError(
            f"systemd passed a socket, but --listen is {address}: leave it out, and "
            "say where in ListenStream= of pci-observer.socket (systemctl edit)"
        )
    return address


def listen(address: str, *, group: int | None = None) -> socket.socket:
    """Return a listening socket; to be called before other threads run.

    ``127.0.0.1:9817``, ``[::1]:9817`` or ``:9817``; ``unix:/path``, which `group` may
    open as well; or ``systemd``.
    """
    if address == _SYSTEMD:
        return _passed()
    if address.startswith(_UNIX + "/"):
        return _unix(Path(address.removeprefix(_UNIX)), group)
    match = _TCP.fullmatch(check(address))
    if match is None:
        raise ListenError(f"{address} is nothing to listen on")
    try:
        return _tcp(match[1], match[2], int(match[3]))
    except (OSError, UnicodeError) as error:
        raise ListenError(f"Can't listen on {address}: {_tcp_cause(error)}.") from error


def leave(address: str) -> None:
    """Remove the socket of an address, if it has one, as `unlink` does."""
    if address.startswith(_UNIX):
        unlink(Path(address.removeprefix(_UNIX)))


def unlink(path: Path) -> None:
    """Remove a unix socket at the daemon's end, before it is closed.

    A daemon that gave up root may not; then the next `listen` does.
    """
    with suppress(OSError):
        path.unlink()


def url(address: str, *, tls: bool) -> str:
    """Return where metrics are, as far as a URL can tell."""
    if _TCP.fullmatch(address) is None:
        return address
    return f"{'https' if tls else 'http'}://{address}/metrics"


def listen_at(path: Path, umask: int) -> socket.socket:
    """Make a unix socket; to be called before other threads run, for the umask.

    The directory is made if its parent is there. A socket that a daemon left behind
    is replaced. Raises ListenError, also when another daemon listens there.
    """
    listener = socket.socket(socket.AF_UNIX)
    before = os.umask(_DIRECTORY_UMASK)
    try:
        path.parent.mkdir(exist_ok=True)
        _remove_stale(path)
        os.umask(umask)
        listener.bind(str(path))
        listener.listen(_BACKLOG)
    except OSError as e:
        listener.close()
        raise ListenError(f"can't listen on {path}: {_unix_cause(e)}") from e
    except ListenError:
        listener.close()
        raise
    finally:
        os.umask(before)
    return listener


def _unix(path: Path, group: int | None) -> socket.socket:
    listener = listen_at(path, GROUP)
    if group is not None:
        try:
            os.chown(path, -1, group, follow_symlinks=False)
        except OSError as e:
            listener.close()
            cause = _unix_cause(e)
            raise ListenError(f"can't give {path} to group {group}: {cause}") from e
    return listener


def _remove_stale(path: Path) -> None:
    """Remove a socket on which nobody listens. Raises ListenError, OSError."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ListenError(f"can't listen on {path}: it is there and no socket")
    with socket.socket(socket.AF_UNIX) as connection:
        connection.setblocking(False)
        try:
            connection.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except BlockingIOError:  # more wait for it than it lets wait
            pass
    raise ListenError(f"another observer listens on {path}; stop it first")


def _unix_cause(error: OSError) -> str:
    if error.errno is None:  # Python's own: the path is too long
        return str(error)
    return os.strerror(error.errno).lower()


def _passed() -> socket.socket:
    """Take the one socket that systemd passed to this process, as sd_listen_fds(3)."""
    pid, count, *_ = [os.environ.pop(name, "") for name in PASSED]
    if pid != str(os.getpid()):
        raise ListenError(
            "systemd passed no socket: start the socket unit, which starts the service"
        )
    if count != "1":
        raise ListenError(
            f"systemd passed {count} sockets: the socket unit needs one ListenStream="
        )
    try:
        os.set_inheritable(_FIRST, False)
        passed = socket.socket(fileno=_FIRST)
    except OSError as e:
        raise ListenError(f"what systemd passed is no socket: {e.strerror}") from e
    if (
        passed.family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
        and passed.type == socket.SOCK_STREAM
        and passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    ):
        return passed
    passed.close()
    raise ListenError(
        "what systemd passed is not listened on: the socket unit needs ListenStream= "
        "and Accept=no"
    )


def _tcp(ipv6: str | None, host: str, port: int) -> socket.socket:
    if ipv6:
        return socket.create_server(
            (ipv6, port), family=socket.AF_INET6, backlog=_BACKLOG
        )
    if host or not socket.has_dualstack_ipv6():
        return socket.create_server((host, port), backlog=_BACKLOG)
    return socket.create_server(
        ("", port), family=socket.AF_INET6, backlog=_BACKLOG, dualstack_ipv6=True
    )


def _tcp_cause(error: OSError | UnicodeError) -> str:
    if isinstance(error, UnicodeError) or not error.errno or error.errno < 0:
        return "no such host"  # the resolver's error numbers are negative
    if error.errno == errno.EADDRINUSE:
        return "the port is in use; stop its user or choose another one"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine has no such address"
    return os.strerror(error.errno).lower()
