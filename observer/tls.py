"""TLS for the HTTP server: the one place that knows OpenSSL."""

from __future__ import annotations

import ssl
from contextlib import suppress
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final, cast

from observer import web_config

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator
    from pathlib import Path

    from observer.web_config import WebConfig

    _Names = tuple[tuple[str, str], ...]

_VERSIONS: Final = {
    "TLS12": ssl.TLSVersion.TLSv1_2,
    "TLS13": ssl.TLSVersion.TLSv1_3,
}
_CLIENTS: Final = dict(
    zip(
        web_config.AUTH,
        (ssl.CERT_NONE, ssl.CERT_OPTIONAL, ssl.CERT_REQUIRED),
        strict=True,
    )
)


class Encryption:
    """A server's certificate, and what it wants of clients."""

    def __init__(self, config: WebConfig) -> None:
        """Read the files that the configuration names. Raises WebConfigError."""
        tls = config.tls
        if tls is None:
            raise ValueError(config.path)
        self._sans = frozenset(map(_normalised, tls.client_allowed_sans))
        self._context = context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = _VERSIONS[tls.min_version]
        context.maximum_version = _VERSIONS[tls.max_version]
        # One request a connection: nothing is gained by a session, and each client
        # shows its certificate anew.
        context.num_tickets = 0
        context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
        if tls.prefer_server_ciphers:
            context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
        else:
            context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
        context.set_alpn_protocols(["http/1.1"])
        if tls.ciphers:
            try:
                context.set_ciphers(":".join(tls.ciphers))
            except ssl.SSLError as e:
                raise config.error("cipher_suites", f"they {_reason(e)}") from None
        _pem(config, "cert_file", tls.cert_file, b"CERTIFICATE")
        _pem(config, "key_file", tls.key_file, b"PRIVATE KEY")
        try:
            context.load_cert_chain(tls.cert_file, tls.key_file, _no_passphrase)
        except _PassphraseError:
            sentence = f"{tls.key_file} has a passphrase: take a key without one"
            raise config.error("key_file", sentence) from None
        except (OSError, ValueError) as e:
            sentence = f"{tls.key_file} and {tls.cert_file} {_reason(e)}"
            raise config.error("key_file", sentence) from None
        context.verify_mode = _CLIENTS[tls.client_auth_type]
        if tls.client_ca_file is not None:
            ca = _pem(config, "client_ca_file", tls.client_ca_file, b"CERTIFICATE")
            try:
                # Outside the blocks there may be names in any script.
                context.load_verify_locations(cadata=ca.decode("ascii", "ignore"))
            except (OSError, ValueError) as e:
                sentence = f"{tls.client_ca_file} {_reason(e)}"
                raise config.error("client_ca_file", sentence) from None

    def wrapped(self, connection: socket.socket) -> socket.socket:
        """Return the connection as one that is to be encrypted. Raises OSError."""
        return self._context.wrap_socket(
            connection, server_side=True, do_handshake_on_connect=False
        )

    def greet(self, connection: socket.socket) -> None:
        """Agree with the client on a key, and see who it is. Raises OSError."""
        assert isinstance(connection, ssl.SSLSocket)  # noqa: S101 - our own
        connection.do_handshake()
        if self._sans:
            certificate = connection.getpeercert() or {}
            if self._sans.isdisjoint(_sans(certificate)):
                raise PermissionError

    def take_leave(self, connection: socket.socket) -> None:
        """Tell the client that no more comes, without waiting for it."""
        assert isinstance(connection, ssl.SSLSocket)  # noqa: S101 - our own
        with suppress(OSError, ValueError):
            connection.settimeout(0)
            connection.unwrap()


class _PassphraseError(Exception):
    pass


def _no_passphrase() -> str:
    raise _PassphraseError  # else OpenSSL asks on the terminal


def _pem(config: WebConfig, key: str, path: Path, what: bytes) -> bytes:
    """Return a file with a PEM block of this kind. Raises WebConfigError."""
    try:
        data = web_config.contents(path)
    except OSError as e:
        raise config.error(key, f"{path}: {web_config.reason(e)}") from None
    if what + b"-----" not in data:
        named = what.decode().lower()
        raise config.error(key, f"{path} has no {named} in PEM form")
    return data


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    if reason == "KEY_VALUES_MISMATCH":
        return "do not belong together"
    told = str(reason).replace("_", " ").lower() if reason else "not understood"
    return f"can't be used: {told}"


def _normalised(name: str) -> str:
    """Spell an address in one way; leave other names as they are."""
    try:
        return str(ip_address(name.strip()))
    except ValueError:
        return name


def _sans(certificate: ssl._PeerCertRetDictType) -> Iterator[str]:
    found = cast("_Names", certificate.get("subjectAltName", ()))
    for kind, name in found:
        if kind in ("DNS", "email", "URI"):
            yield name
        elif kind == "IP Address":
            yield _normalised(name)
