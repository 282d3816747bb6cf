"""The file of `--web.config.file`: who may ask the HTTP server, and how.

The format is exporter-toolkit's, of which it takes a part and refuses the rest by name.
Sentences name a file, a line and a key, but never what a secret may be in.
"""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeVar

import yaml

from observer.listening import ListenError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_FILE_BYTES: Final = 1 << 20
_NAME: Final = 1024  # characters of a file's
_MOST_COST: Final = 14  # of bcrypt: about a second
_HASH: Final = re.compile(r"\$2[aby]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}")
_SHOWN: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")  # what is surely no secret
_NULL: Final = "tag:yaml.org,2002:null"
_BOOL: Final = "tag:yaml.org,2002:bool"

_Word = TypeVar("_Word", bound=str)

Version = Literal["TLS12", "TLS13"]
VERSIONS: Final[tuple[Version, ...]] = ("TLS12", "TLS13")

# OpenSSL's names of Go's. Those for TLS 1.3 can be named, but not chosen from.
CIPHERS: Final = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
}
_CIPHERS_13: Final = {
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
}

# The others ask for a certificate without verifying it, which Python's ssl can't.
AUTH: Final = ("NoClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert")

# Values that a header may have; none: any.
_HEADERS: Final[dict[str, tuple[str, ...]]] = {
    "Content-Security-Policy": (),
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
}

_TLS: Final = "tls_server_config"
_HTTP: Final = "http_server_config"
_USERS: Final = "basic_auth_users"
KEYS: Final = {
    "": (_TLS, _HTTP, _USERS),
    _TLS: (
        "cert_file",
        "key_file",
        "client_ca_file",
        "client_auth_type",
        "client_allowed_sans",
        "min_version",
        "max_version",
        "cipher_suites",
        "prefer_server_cipher_suites",
    ),
    _HTTP: ("http2", "headers"),
    f"{_HTTP}.headers": tuple(_HEADERS),
}
# What the toolkit takes besides, and what to do instead.
_ELSEWHERE: Final = {
    "rate_limit": "remove it; the number of connections is limited anyway",
    f"{_TLS}.cert": "put it into a file and name that with cert_file",
    f"{_TLS}.key": "put it into a file and name that with key_file",
    f"{_TLS}.client_ca": "put it into a file and name that with client_ca_file",
    f"{_TLS}.curve_preferences": "remove it; OpenSSL has its own order",
}


class WebConfigError(ListenError):
    """The file can't be used; one sentence with file, line and key says why."""


class Secret(bytes):
    """What no log line or traceback shows."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<secret>"

    __str__ = __repr__


class Tls(NamedTuple):
    """How connections are encrypted, and which clients need a certificate."""

    cert_file: Path
    key_file: Path
    client_ca_file: Path | None
    client_auth_type: str
    client_allowed_sans: frozenset[str]
    min_version: Version
    max_version: Version
    ciphers: tuple[str, ...]  # OpenSSL's names, for TLS 1.2; none: its choice
    prefer_server_ciphers: bool


class WebConfig(NamedTuple):
    """What the file says."""

    path: Path
    tls: Tls | None
    users: Mapping[str, Secret]  # bcrypt hashes
    headers: Mapping[str, str]
    lines: Mapping[str, int]  # by key

    def error(self, key: str, sentence: str) -> WebConfigError:
        """Return an error about a key of TLS."""
        key = f"{_TLS}.{key}"
        return WebConfigError(
            f"{self.path}:{self.lines.get(key, 1)}: {key}: {sentence}"
        )

    @property
    def files(self) -> tuple[Path, ...]:
        """Return the file and those that it names."""
        if self.tls is None:
            return (self.path,)
        ca = self.tls.client_ca_file
        named = (self.tls.cert_file, self.tls.key_file, *((ca,) if ca else ()))
        return (self.path, *named)


def read(path: Path) -> WebConfig:
    """Read the file. Raises WebConfigError."""
    try:
        return parse(path, contents(path))
    except OSError as e:
        raise WebConfigError(f"{path}: {reason(e)}") from None


def contents(path: Path) -> bytes:
    """Return what is in a file of a sensible size. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a pipe must not hold us up
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(None, "is no regular file")
        data = file.read(_FILE_BYTES + 1)
    if len(data) > _FILE_BYTES:
        raise OSError(None, "is larger than 1 MiB")
    return data


def reason(error: OSError) -> str:
    """Return why a file can't be read, for the end of a sentence."""
    return os.strerror(error.errno).lower() if error.errno else str(error.strerror)


def parse(path: Path, text: bytes) -> WebConfig:
    """Understand the text of the file. Raises WebConfigError."""
    try:
        # Without a value being made: a node knows its line, and an alias is no copy.
        root = yaml.compose(text.decode(), Loader=yaml.SafeLoader)
    except UnicodeDecodeError:
        raise WebConfigError(f"{path}: is no UTF-8") from None
    except RecursionError:
        raise WebConfigError(f"{path}: is nested too deep") from None
    except (yaml.YAMLError, ValueError) as e:
        raise WebConfigError(_no_yaml(path, e)) from None
    return _Reader(path).config(root)


def _no_yaml(path: Path, error: Exception) -> str:
    """Tell of an error without the text around it, in which hashes may be."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or "it has characters that YAML has not"
    problem = re.sub(r"(['\"]).{5,}\1", "...", problem)
    where = f"{path}:{mark.line + 1}" if mark is not None else f"{path}"
    return f"{where}: is no YAML: {problem}"


class _Reader:
    """Goes through the nodes of a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: dict[str, int] = {}

    def config(self, root: yaml.Node | None) -> WebConfig:
        sections = {} if root is None else self._mapping("", root)
        if not sections:
            raise WebConfigError(
                f"{self._path}:1: pci-observer does not support a file without a key: "
                "write one, or leave --web.config.file out"
            )
        tls = sections.get(_TLS)
        http = self._mapping(_HTTP, sections[_HTTP]) if _HTTP in sections else {}
        if "http2" in http:
            self._bool(f"{_HTTP}.http2", http["http2"])
        headers = http.get("headers")
        users = sections.get(_USERS)
        return WebConfig(
            self._path,
            self._tls(self._mapping(_TLS, tls)) if tls is not None else None,
            dict(self._users(users)) if users is not None else {},
            dict(self._headers(headers)) if headers is not None else {},
            self._lines,
        )

    def _error(self, key: str, node: yaml.Node, sentence: str) -> WebConfigError:
        line = self._lines.get(key, node.start_mark.line + 1)
        return WebConfigError(f"{self._path}:{line}: {key}: {sentence}")

    def _unsupported(self, key: str, node: yaml.Node, instead: str) -> WebConfigError:
        return self._error(key, node, f"pci-observer does not support it: {instead}")

    def _pairs(self, key: str, node: yaml.Node) -> Iterator[tuple[str, yaml.Node, int]]:
        """Yield names, what stands after them, and their lines."""
        if not isinstance(node, yaml.MappingNode):
            raise self._error(
                key or "the file", node, "must be keys, each with a value after it"
            )
        seen = set()
        for name, value in node.value:
            line = name.start_mark.line + 1
            if not isinstance(name, yaml.ScalarNode) or name.value in seen:
                what = "twice" if isinstance(name, yaml.ScalarNode) else "no name"
                raise WebConfigError(
                    f"{self._path}:{line}: {key or 'the file'}: a key is {what} there"
                )
            seen.add(name.value)
            yield name.value, value, line

    def _mapping(self, key: str, node: yaml.Node) -> dict[str, yaml.Node]:
        """Return what stands under the keys of a section."""
        found = {}
        for name, value, line in self._pairs(key, node):
            shown = name if _SHOWN.fullmatch(name) else "a key"
            full = f"{key}.{shown}" if key else shown
            if full in _ELSEWHERE:
                raise self._unsupported(full, value, _ELSEWHERE[full])
            if name not in KEYS[key]:
                known = ", ".join(KEYS[key])
                raise WebConfigError(
                    f"{self._path}:{line}: {full}: no such key; there are {known}"
                )
            self._lines[full] = line
            if value.tag == _NULL:
                raise self._unsupported(
                    full, value, "nothing stands after it; write something or remove it"
                )
            found[name] = value
        return found

    def _text(self, key: str, node: yaml.Node) -> str:
        if not isinstance(node, yaml.ScalarNode) or node.tag == _NULL:
            raise self._error(key, node, "must be a word")
        text: str = node.value
        return text

    def _bool(self, key: str, node: yaml.Node) -> bool:
        values: Mapping[str, bool] = yaml.SafeLoader.bool_values
        text = self._text(key, node).lower() if node.tag == _BOOL else ""
        if text not in values:  # also "!!bool perhaps"
            raise self._error(key, node, "must be true or false")
        return values[text]

    def _words(self, key: str, node: yaml.Node) -> tuple[str, ...]:
        if not isinstance(node, yaml.SequenceNode):
            raise self._error(key, node, "must be a list")
        return tuple(self._text(key, each) for each in node.value)

    def _file(self, key: str, node: yaml.Node) -> Path:
        text = self._text(key, node)
        # A file's content instead of its name would be told with the name.
        if not text.isprintable() or not 0 < len(text) <= _NAME or "-----" in text:
            raise self._error(key, node, "must name a file")
        return self._path.parent / text

    def _choice(self, key: str, node: yaml.Node, choices: tuple[_Word, ...]) -> _Word:
        text = self._text(key, node)
        for choice in choices:
            if text == choice:
                return choice
        raise self._unsupported(key, node, f"write {' or '.join(choices)}")

    def _tls(self, nodes: Mapping[str, yaml.Node]) -> Tls:
        for name in ("cert_file", "key_file"):
            if name not in nodes:
                line = self._lines[_TLS]
                raise WebConfigError(
                    f"{self._path}:{line}: {_TLS}: pci-observer does not support it "
                    f"without {name}: name one, or remove the section"
                )
        files = {
            name: self._file(f"{_TLS}.{name}", nodes[name])
            for name in ("cert_file", "key_file", "client_ca_file")
            if name in nodes
        }
        least: Version = self._version("min_version", nodes, "TLS12")
        most: Version = self._version("max_version", nodes, "TLS13")
        if least > most:
            key = f"{_TLS}.max_version"
            raise self._error(key, nodes["max_version"], "is less than min_version")
        prefers = f"{_TLS}.prefer_server_cipher_suites"
        server = nodes.get("prefer_server_cipher_suites")
        return Tls(
            cert_file=files["cert_file"],
            key_file=files["key_file"],
            client_ca_file=files.get("client_ca_file"),
            client_auth_type=self._client_auth(nodes),
            client_allowed_sans=self._sans(nodes),
            min_version=least,
            max_version=most,
            ciphers=self._ciphers(nodes, least),
            prefer_server_ciphers=self._bool(prefers, server) if server else True,
        )

    def _version(
        self, name: str, nodes: Mapping[str, yaml.Node], usual: Version
    ) -> Version:
        if name not in nodes:
            return usual
        return self._choice(f"{_TLS}.{name}", nodes[name], VERSIONS)

    def _client_auth(self, nodes: Mapping[str, yaml.Node]) -> str:
        key, auth = f"{_TLS}.client_auth_type", AUTH[0]
        node, ca = nodes.get("client_auth_type"), nodes.get("client_ca_file")
        if node is not None:
            auth = self._choice(key, node, AUTH)
        if node is not None and auth != AUTH[0] and ca is None:
            raise self._unsupported(
                key, node, "name whom to trust with client_ca_file as well"
            )
        if ca is not None and auth == AUTH[0]:
            raise self._error(
                f"{_TLS}.client_ca_file",
                ca,
                f"is of no use without client_auth_type: {AUTH[-1]}",
            )
        return auth

    def _sans(self, nodes: Mapping[str, yaml.Node]) -> frozenset[str]:
        key, node = f"{_TLS}.client_allowed_sans", nodes.get("client_allowed_sans")
        if node is None:
            return frozenset()
        names = frozenset(self._words(key, node))
        if not names:
            raise self._unsupported(key, node, "name at least one, or remove it")
        auth = nodes.get("client_auth_type")
        if auth is None or auth.value != AUTH[-1]:
            raise self._unsupported(key, node, f"it needs client_auth_type: {AUTH[-1]}")
        return names

    def _ciphers(self, nodes: Mapping[str, yaml.Node], least: str) -> tuple[str, ...]:
        key, node = f"{_TLS}.cipher_suites", nodes.get("cipher_suites")
        if node is None:
            return ()
        names = self._words(key, node)
        for name in names:
            if name not in CIPHERS and name not in _CIPHERS_13:
                raise self._unsupported(
                    key, node, f"one of them is none of {', '.join(CIPHERS)}"
                )
        chosen = tuple(CIPHERS[name] for name in names if name in CIPHERS)
        if not chosen and least == "TLS12":
            raise self._unsupported(
                key, node, "none is for TLS 1.2; name one, or set min_version: TLS13"
            )
        return chosen

    def _headers(self, node: yaml.Node) -> Iterator[tuple[str, str]]:
        section = f"{_HTTP}.headers"
        for name, value in self._mapping(section, node).items():
            key = f"{section}.{name}"
            text = self._text(key, value)
            allowed = _HEADERS[name]
            if allowed and text not in allowed:
                raise self._error(key, value, f"must be {' or '.join(allowed)}")
            if not (text.isascii() and text.isprintable()):
                raise self._error(key, value, "must be printable ASCII")
            if text:
                yield name, text

    def _users(self, node: yaml.Node) -> Iterator[tuple[str, Secret]]:
        """Yield users; a name may be a hash whose colon has no space after it."""
        any_user = False
        for name, value, line in self._pairs(_USERS, node):
            any_user = True
            where = f"{self._path}:{line}: {_USERS}"
            text = value.value if isinstance(value, yaml.ScalarNode) else ""
            found = _HASH.fullmatch(text)
            if found is None:
                raise WebConfigError(
                    f"{where}: what stands after the name is no bcrypt hash; "
                    "htpasswd -nBC 10 NAME prints a line with one"
                )
            if not name or ":" in name:
                raise WebConfigError(f"{where}: a name is empty or has a colon")
            if int(found[1]) > _MOST_COST:
                raise WebConfigError(
                    f"{where}: pci-observer does not support a cost of {found[1]}, "
                    f"for each first request would take long: take {_MOST_COST} or less"
                )
            yield name, Secret(text.encode())
        if not any_user:
            raise self._unsupported(_USERS, node, "add a user, or remove it")
