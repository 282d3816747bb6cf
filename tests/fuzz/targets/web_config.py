"""The file of --web.config.file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fuzz.target import Target
from observer.text import printable
from observer.web_config import WebConfigError, parse

if TYPE_CHECKING:
    from collections.abc import Iterable

PATH = Path("/etc/pci-observer/web.yml")
HASH = "$2y$10$KT0MSiAQ.c3VyYzieT/2LuWG7Ko5YAi5.sE9BA8yiZ0Kz.hnlCTL6"
CLIENTS = "client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.crt"


def run(data: bytes) -> None:
    """Understand the file; a sentence about it names it and holds no hash."""
    try:
        config = parse(PATH, data)
    except WebConfigError as e:
        assert str(e).startswith(f"{PATH}:"), e
        assert "$2y$10$" not in str(e), e
        printable(str(e)).encode()
        return
    for name, value in config.headers.items():
        assert f"{name}: {value}".isascii()
        assert f"{name}: {value}".isprintable()
    assert all(user and ":" not in user for user in config.users)


def seeds() -> Iterable[bytes]:
    """Yield files of all keys, as people write them."""
    tls = f"tls_server_config: {{cert_file: a, key_file: b, {CLIENTS}, "
    texts = (
        f"{tls}client_allowed_sans: [a.example, b], min_version: TLS12}}",
        f"{tls}cipher_suites: [TLS_AES_128_GCM_SHA256], min_version: TLS13}}",
        (
            "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n"
            "  prefer_server_cipher_suites: no\n  max_version: TLS13\n"
        ),
        f"basic_auth_users:\n  a: &h {HASH}\n  'b c': *h\n  5: {HASH}\n",
        (
            "http_server_config:\n  http2: true\n  headers:\n"
            "    X-Frame-Options: deny\n    Strict-Transport-Security: max-age=1\n"
            "    X-XSS-Protection: ''\n"
        ),
        "%YAML 1.1\n---\nhttp_server_config: !!map {? http2 : !!bool 'yes'}\n...\n",
        'a: |\n  b\n  c\nd: >-\n  e\n<<: [*f, "\\u263a\\x41"]\n',
    )
    return (text.encode() for text in texts)


TARGET = Target(
    run,
    (),
    seeds,
    share=2,
    max_bytes=1024,
    words=(
        *("tls_server_config", "cert_file", "key_file", "client_ca_file", ": ", "\n  "),
        *("client_auth_type", "cipher_suites", "min_version", "TLS12", "TLS13", "!!"),
        *("basic_auth_users", "http_server_config", "headers", HASH, "&a ", "*a", "? "),
    ),
)
