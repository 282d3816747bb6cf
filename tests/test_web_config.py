"""observer/web_config.py: what the file may say, and how it is refused."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from certificates import authority, certificate
from hypothesis import given
from hypothesis import strategies as st

from observer.access import Access
from observer.web_config import Secret, Tls, WebConfigError, parse, read

if TYPE_CHECKING:
    from collections.abc import Callable

HASH = "$2y$10$KT0MSiAQ.c3VyYzieT/2LuWG7Ko5YAi5.sE9BA8yiZ0Kz.hnlCTL6"
PAIR = "cert_file: server.crt, key_file: server.key"
CLIENTS = "client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.crt"
GCM = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"

# What pci-observer takes and the toolkit as well, all versions of it.
GOOD = {
    "tls": f"tls_server_config: {{{PAIR}}}",
    "users": f"basic_auth_users: {{a: {HASH}, 'b c': {HASH}, 5: {HASH}}}",
    "versions": f"tls_server_config: {{{PAIR}, min_version: TLS12, max_version: "
    "TLS13}",
    "clients": f"tls_server_config: {{{PAIR}, {CLIENTS}}}",
    "if given": f"tls_server_config: {{{PAIR}, client_ca_file: ca.crt, "
    "client_auth_type: VerifyClientCertIfGiven}",
    "nobody": f"tls_server_config: {{{PAIR}, client_auth_type: NoClientCert}}",
    "ciphers": f"tls_server_config: {{{PAIR}, cipher_suites: [{GCM}]}}",
    "ciphers of 1.3": f"tls_server_config: {{{PAIR}, min_version: TLS13, "
    "cipher_suites: [TLS_AES_128_GCM_SHA256]}",
    "order": f"tls_server_config: {{{PAIR}, prefer_server_cipher_suites: no}}",
    "http2": "http_server_config: {http2: true}",
    "headers": "http_server_config: {headers: {X-Frame-Options: deny, "
    "Strict-Transport-Security: max-age=1, X-XSS-Protection: ''}}",
    "comment": f"# who\n---\nbasic_auth_users:\n  a: {HASH}\n",
    "alias": f"basic_auth_users:\n  a: &h {HASH}\n  b: *h\n",
}

# What neither takes.
BAD = {
    "no: 1": "1: no: no such key; there are tls_server_config, http_server_config, "
    "basic_auth_users",
    f"tls_server_config:\n  {PAIR.replace(', ', chr(10) + '  ')}\n  a: b": "4: "
    "tls_server_config.a: no such key; there are cert_file, key_file, client_ca_file, "
    "client_auth_type, client_allowed_sans, min_version, max_version, cipher_suites, "
    "prefer_server_cipher_suites",
    f"tls_server_config: {{{PAIR}, min_version: 1.2}}": "1: tls_server_config."
    "min_version: pci-observer does not support it: write TLS12 or TLS13",
    f"tls_server_config: {{{PAIR}, cipher_suites: [a]}}": "1: tls_server_config."
    "cipher_suites: pci-observer does not support it: one of them is none of "
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, "
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, "
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, "
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA, "
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, "
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, "
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    f"tls_server_config: {{{PAIR}, client_auth_type: Yes}}": "1: tls_server_config."
    "client_auth_type: pci-observer does not support it: write NoClientCert or "
    "VerifyClientCertIfGiven or RequireAndVerifyClientCert",
    f"tls_server_config: {{{PAIR}, client_ca_file: ca.crt}}": "1: tls_server_config."
    "client_ca_file: is of no use without client_auth_type: RequireAndVerifyClientCert",
    f"tls_server_config: {{{PAIR}, cert_file: a}}": "1: tls_server_config: a key is "
    "twice there",
    "tls_server_config: {cert_file: server.crt, client_auth_type: NoClientCert}": "1: "
    "tls_server_config: pci-observer does not support it without key_file: name one, "
    "or remove the section",
    "tls_server_config: {cert_file: none.crt, key_file: server.key}": "1: "
    "tls_server_config.cert_file: {dir}/none.crt: no such file or directory",
    "tls_server_config:\n  cert_file: server.crt\n  key_file: other.key": "3: "
    "tls_server_config.key_file: {dir}/other.key and {dir}/server.crt do not belong "
    "together",
    "tls_server_config:\n  cert_file: server.key\n  key_file: server.key": "2: "
    "tls_server_config.cert_file: {dir}/server.key has no certificate in PEM form",
    "tls_server_config:\n  cert_file: server.crt\n  key_file: server.crt": "3: "
    "tls_server_config.key_file: {dir}/server.crt has no private key in PEM form",
    "tls_server_config:\n  cert_file: server.crt\n  key_file: locked.key": "3: "
    "tls_server_config.key_file: {dir}/locked.key has a passphrase: take a key without "
    "one",
    "tls_server_config: [a]": "1: tls_server_config: must be keys, each with a value "
    "after it",
    "basic_auth_users:\n  a: secret": "2: basic_auth_users: what stands after the name "
    "is no bcrypt hash; htpasswd -nBC 10 NAME prints a line with one",
    f"basic_auth_users:\n  a: {HASH}\n  a: {HASH}": "3: basic_auth_users: a key is "
    "twice there",
    f"basic_auth_users: {{a: {HASH.replace('$10$', '$32$')}}}": "1: basic_auth_users: "
    "what stands after the name is no bcrypt hash; htpasswd -nBC 10 NAME prints a line "
    "with one",
    "http_server_config: {http2: 2}": "1: http_server_config.http2: must be true or "
    "false",
    "http_server_config: {http2: !!bool perhaps}": "1: http_server_config.http2: must "
    "be true or false",
    "http_server_config: {headers: {Server: x}}": "1: http_server_config.headers.Server"
    ": no such key; there are Content-Security-Policy, Strict-Transport-Security, "
    "X-Content-Type-Options, X-Frame-Options, X-XSS-Protection",
    "http_server_config: {headers: {X-Frame-Options: no}}": "1: http_server_config."
    "headers.X-Frame-Options: must be deny or sameorigin",
    "a: b: c": "1: is no YAML: mapping values are not allowed here",
    "tls_server_config:\n\tcert_file: a": "2: is no YAML: found character '\\t' that "
    "cannot start any token",
}

# What the toolkit takes, in one version of it or another, and pci-observer does not.
UNSUPPORTED = {
    "": "1: pci-observer does not support a file without a key: write one, or leave "
    "--web.config.file out",
    "{}": "1: pci-observer does not support a file without a key: write one, or leave "
    "--web.config.file out",
    "basic_auth_users:": "1: basic_auth_users: pci-observer does not support it: "
    "nothing stands after it; write something or remove it",
    "basic_auth_users: {}": "1: basic_auth_users: pci-observer does not support it: "
    "add a user, or remove it",
    "tls_server_config: {min_version: TLS12}": "1: tls_server_config: pci-observer "
    "does not support it without cert_file: name one, or remove the section",
    f"tls_server_config: {{{PAIR}, min_version: TLS10}}": "1: tls_server_config."
    "min_version: pci-observer does not support it: write TLS12 or TLS13",
    f"tls_server_config: {{{PAIR}, client_auth_type: RequireAnyClientCert}}": "1: "
    "tls_server_config.client_auth_type: pci-observer does not support it: write "
    "NoClientCert or VerifyClientCertIfGiven or RequireAndVerifyClientCert",
    f"tls_server_config: {{{PAIR}, client_auth_type: RequireAndVerifyClientCert}}": ""
    "1: tls_server_config.client_auth_type: pci-observer does not support it: name "
    "whom to trust with client_ca_file as well",
    f"tls_server_config: {{{PAIR}, curve_preferences: [X25519]}}": "1: "
    "tls_server_config.curve_preferences: pci-observer does not support it: remove it; "
    "OpenSSL has its own order",
    f"tls_server_config: {{{PAIR}, cipher_suites: [TLS_AES_128_GCM_SHA256]}}": "1: "
    "tls_server_config.cipher_suites: pci-observer does not support it: none is for "
    "TLS 1.2; name one, or set min_version: TLS13",
    f"basic_auth_users: {{a: {HASH.replace('$10$', '$15$')}}}": "1: basic_auth_users: "
    "pci-observer does not support a cost of 15, for each first request would take "
    "long: take 14 or less",
}
# The same, but Debian's is older than these keys.
NEWER = {
    "tls_server_config: {cert: a}": "1: tls_server_config.cert: pci-observer does not "
    "support it: put it into a file and name that with cert_file",
    "tls_server_config: {key: a}": "1: tls_server_config.key: pci-observer does not "
    "support it: put it into a file and name that with key_file",
    "tls_server_config: {client_ca: a}": "1: tls_server_config.client_ca: pci-observer "
    "does not support it: put it into a file and name that with client_ca_file",
    "rate_limit: {burst: 1}": "1: rate_limit: pci-observer does not support it: remove "
    "it; the number of connections is limited anyway",
}
# What only pci-observer refuses for being wrong.
OURS = {
    f"tls_server_config: {{{PAIR}, min_version: TLS13, max_version: TLS12}}": "1: "
    "tls_server_config.max_version: is less than min_version",
    f"tls_server_config: {{{PAIR}, {CLIENTS}, client_allowed_sans: []}}": "1: "
    "tls_server_config.client_allowed_sans: pci-observer does not support it: name at "
    "least one, or remove it",
    f"tls_server_config: {{{PAIR}, client_allowed_sans: [a]}}": "1: tls_server_config."
    "client_allowed_sans: pci-observer does not support it: it needs client_auth_type: "
    "RequireAndVerifyClientCert",
    f"basic_auth_users: {{'a:b': {HASH}}}": "1: basic_auth_users: a name is empty or "
    "has a colon",
    'http_server_config: {headers: {X-XSS-Protection: "a\\r\\nb: c"}}': "1: "
    "http_server_config.headers.X-XSS-Protection: must be printable ASCII",
    "tls_server_config: {cert_file: '', key_file: server.key}": "1: tls_server_config."
    "cert_file: must name a file",
    "tls_server_config: {cert_file: a, key_file: -----BEGIN KEY----- KT0MSi}": ""
    "1: tls_server_config.key_file: must name a file",
    'tls_server_config: {cert_file: a, key_file: "KT0MSi\\nKT0MSi\\n"}': ""
    "1: tls_server_config.key_file: must name a file",
    f"tls_server_config: {{cert_file: {'KT0MSi' * 200}, key_file: a}}": ""
    "1: tls_server_config.cert_file: must name a file",
    f"basic_auth_users:\n  a:{HASH}": "1: basic_auth_users: must be keys, each with a "
    "value after it",
    f"basic_auth_users: {{a:{HASH}}}": "1: basic_auth_users: what stands after the "
    "name is no bcrypt hash; htpasswd -nBC 10 NAME prints a line with one",
    f"a:{HASH}: 1": "1: a key: no such key; there are tls_server_config, "
    "http_server_config, basic_auth_users",
    "tls_server_config: {cert_file: fifo, key_file: server.key}": "1: tls_server_config"
    ".cert_file: {dir}/fifo: is no regular file",
}
REFUSED = BAD | UNSUPPORTED | NEWER | OURS


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where the certificates are that the files name."""
    made = tmp_path_factory.mktemp("web")
    ca = authority(made, "ca")
    certificate(made, "server", "DNS:localhost,IP:127.0.0.1", by=ca)
    certificate(made, "other", "DNS:other", by=ca)
    certificate(made, "locked", "DNS:locked", by=ca, passphrase="secret")  # noqa: S106
    subprocess.run(["mkfifo", made / "fifo"], check=True)
    return made


def access(directory: Path, text: str) -> Access:
    """Take a file with this text."""
    path = directory / "web.yml"
    path.write_text(text)
    return Access(path, on_change=print, on_trouble=print)


def promtool_takes(directory: Path, text: str) -> bool:
    """Tell what Prometheus says of the same file."""
    path = directory / "web.yml"
    path.write_text(text)
    done = subprocess.run(
        ["promtool", "check", "web-config", path],
        check=False,
        capture_output=True,
        timeout=60,
    )
    return done.returncode == 0


@pytest.mark.parametrize("text", GOOD.values(), ids=GOOD)
def test_taken(directory: Path, text: str) -> None:
    """It is, and Prometheus takes it as well."""
    assert access(directory, text).up_to_date
    assert promtool_takes(directory, text)


@pytest.mark.parametrize(("text", "sentence"), REFUSED.items())
def test_refused(directory: Path, text: str, sentence: str) -> None:
    """One line with file, line and key says what to do; no secret is in it."""
    with pytest.raises(WebConfigError) as caught:
        access(directory, text)
    expected = f"{directory / 'web.yml'}:{sentence.replace('{dir}', str(directory))}"
    assert expected == str(caught.value)
    assert "KT0MSi" not in expected


@pytest.mark.parametrize("text", BAD)
def test_prometheus_refuses_it_too(directory: Path, text: str) -> None:
    """What is called wrong here is wrong for the toolkit."""
    assert not promtool_takes(directory, text)


@pytest.mark.parametrize(("text", "sentence"), UNSUPPORTED.items())
def test_prometheus_takes_it(directory: Path, text: str, sentence: str) -> None:
    """What is called unsupported is right for the toolkit."""
    assert "pci-observer does not support" in sentence
    assert promtool_takes(directory, text)


def test_sans_are_taken(directory: Path) -> None:
    """Debian's promtool is older than this key."""
    text = (
        f"tls_server_config: {{{PAIR}, {CLIENTS}, client_allowed_sans: [a, 10.0.0.1]}}"
    )
    assert access(directory, text).up_to_date


def test_parsed() -> None:
    """Names are relative to the file; what is not there has the toolkit's default."""
    config = parse(
        Path("/etc/web.yml"),
        f"tls_server_config: {{cert_file: a, key_file: /b}}\n"
        f"basic_auth_users: {{5: {HASH}}}\n"
        "http_server_config: {headers: {X-Frame-Options: deny, X-XSS-Protection: ''}}"
        "".encode(),
    )
    assert (
        Tls(
            cert_file=Path("/etc/a"),
            key_file=Path("/b"),
            client_ca_file=None,
            client_auth_type="NoClientCert",
            client_allowed_sans=frozenset(),
            min_version="TLS12",
            max_version="TLS13",
            ciphers=(),
            prefer_server_ciphers=True,
        )
        == config.tls
    )
    assert {"5": HASH.encode()} == config.users
    assert {"X-Frame-Options": "deny"} == config.headers
    assert (Path("/etc/web.yml"), Path("/etc/a"), Path("/b")) == config.files


def test_secrets_are_not_shown() -> None:
    """Neither by str nor by repr, nor what holds them."""
    config = parse(Path("web.yml"), f"basic_auth_users: {{a: {HASH}}}".encode())
    secret = Secret(b"hidden")
    assert not [
        told
        for told in (f"{secret}", f"{secret!r}", str(config), repr(config))
        if "hidden" in told or "KT0MSi" in told
    ]


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda _: None, "no such file or directory"),
        (lambda path: path.mkdir(), "is a directory"),
        (lambda path: path.write_bytes(b"\xff"), "is no UTF-8"),
        (lambda path: path.write_bytes(b"#" * (2 << 20)), "is larger than 1 MiB"),
        (lambda path: path.write_bytes(b"[" * 100_000), "is nested too deep"),
        (
            lambda path: path.write_bytes(b"a\0"),
            "is no YAML: it has characters that YAML has not",
        ),
    ],
)
def test_no_file(tmp_path: Path, make: Callable[[Path], object], told: str) -> None:
    """What is no file of text is refused by name."""
    path = tmp_path / "web.yml"
    make(path)
    with pytest.raises(WebConfigError) as caught:
        read(path)
    assert f"{path}: {told}" == str(caught.value)


@given(
    st.binary(max_size=200) | st.text(alphabet="ab:{}[]\n -&*'\"#!|>%@").map(str.encode)
)
def test_anything(text: bytes) -> None:
    """Whatever is in it, it is taken or refused in one line."""
    told = ""
    try:
        parse(Path("web.yml"), text)
    except WebConfigError as e:
        told = str(e)
    assert not told or told.startswith("web.yml")
    assert "\n" not in told
