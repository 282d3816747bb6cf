"""observer/tls.py: real handshakes, with Python's client, openssl's and curl."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest
from certificates import authority, certificate
from serving import METRICS, Process, process

from observer.tls import Encryption
from observer.web_config import parse

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE_S = 10.0  # of a test; reached only when it fails
CLIENTS = (
    "client_auth_type: RequireAndVerifyClientCert",
    "client_ca_file: clients.crt",
)
REQUEST = b"GET /metrics HTTP/1.1\r\n\r\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where certificates are."""
    directory = tmp_path_factory.mktemp("tls")
    ca = authority(directory, "ca")
    clients = authority(directory, "clients")
    strangers = authority(directory, "strangers")
    certificate(directory, "server", "DNS:localhost,IP:127.0.0.1", by=ca)
    names = "DNS:scraper.example,IP:2001:db8::1,email:a@b.example,URI:spiffe://x/y"
    certificate(directory, "client", names, by=clients)
    certificate(directory, "stranger", names, by=strangers)
    return directory


def config(directory: Path, *more: str) -> Path:
    """Write a configuration."""
    lines = ("cert_file: server.crt", "key_file: server.key", *more)
    path = directory / "web.yml"
    path.write_text("\n  ".join(["tls_server_config:", *lines]) + "\n")
    return path


def client(made: Path, name: str = "") -> ssl.SSLContext:
    """Return a client's side, with a certificate of its own if it has a name."""
    context = ssl.create_default_context(cafile=made / "ca.crt")
    if name:
        context.load_cert_chain(made / f"{name}.crt", made / f"{name}.key")
    return context


def asked(server: Process, context: ssl.SSLContext, request: bytes = REQUEST) -> bytes:
    """Return what is answered; b"" if nothing is. Raises OSError."""
    address = server.address
    assert isinstance(address, tuple)
    with (
        socket.create_connection(address, timeout=PATIENCE_S) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
    ):
        connection.sendall(request)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
        return answer


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_answered(made: Path, version: str) -> None:
    """Both versions are spoken, and the answer comes whole to its end."""
    context = client(made)
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    with process("127.0.0.1:0", config(made)) as server:
        answer = asked(server, context)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(METRICS)


def test_a_body_does_not_destroy_the_answer(made: Path) -> None:
    """What nobody reads is not answered by a reset."""
    request = b"POST / HTTP/1.1\r\n\r\n" + b"x" * (4 << 20)
    with process("127.0.0.1:0", config(made)) as server:
        assert b" 405 " in asked(server, client(made), request)


@pytest.mark.parametrize(
    ("keys", "spoken"),
    [
        ((), {"TLSv1_2", "TLSv1_3"}),
        (("min_version: TLS13",), {"TLSv1_3"}),
        (("max_version: TLS12",), {"TLSv1_2"}),
    ],
)
def test_versions(made: Path, keys: tuple[str, ...], spoken: set[str]) -> None:
    """Those that the file allows, and never older ones."""
    answered = set()
    with process("127.0.0.1:0", config(made, *keys)) as server:
        for version in ("TLSv1", "TLSv1_1", "TLSv1_2", "TLSv1_3"):
            context = client(made)
            context.set_ciphers("ALL:@SECLEVEL=0")
            old = pytest.warns(DeprecationWarning, match="is deprecated")
            with old if version < "TLSv1_2" else nullcontext():
                context.minimum_version = ssl.TLSVersion[version]
                context.maximum_version = ssl.TLSVersion[version]
            try:
                asked(server, context)
            except ssl.SSLError:
                continue
            answered.add(version)
    assert spoken == answered


def test_ciphers(made: Path) -> None:
    """Of the server's, in its order, or the client's if the file says so."""
    first, second = (
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    )
    suites = f"cipher_suites: [{first}, {second}]"
    used = []
    for keys in ((suites,), (suites, "prefer_server_cipher_suites: false")):
        with process("127.0.0.1:0", config(made, *keys)) as server:
            context = client(made)
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            context.set_ciphers(
                "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384"
            )
            used.append(cipher(server, context))
            context.set_ciphers("ECDHE-ECDSA-CHACHA20-POLY1305")
            with pytest.raises(ssl.SSLError):
                cipher(server, context)
    assert ["ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-GCM-SHA256"] == used


def cipher(server: Process, context: ssl.SSLContext) -> str:
    """Return what is agreed on."""
    assert isinstance(server.address, tuple)
    with (
        socket.create_connection(server.address, timeout=PATIENCE_S) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
    ):
        agreed = connection.cipher()
        assert agreed is not None
        return agreed[0]


def answered(server: Process, context: ssl.SSLContext) -> bool:
    """Tell whether a client is answered."""
    try:
        return b" 200 " in asked(server, context)
    except OSError:
        return False


def test_client_certificates(made: Path) -> None:
    """Of the right authority alone; without one, and of another, nothing is told."""
    with process("127.0.0.1:0", config(made, *CLIENTS)) as server:
        found = {
            name: answered(server, client(made, name))
            for name in ("client", "stranger", "server", "")
        }
    assert {"client": True, "stranger": False, "server": False, "": False} == found


def test_a_bundle_that_names_its_certificates(made: Path) -> None:
    """Outside the PEM blocks there may be any text, as in Mozilla's bundles."""
    plain = (made / "clients.crt").read_bytes()
    bundle = made / "bundle.crt"
    bundle.write_bytes("# F\u0151tan\u00fas\u00edtv\u00e1ny\n".encode() + plain)
    keys = (CLIENTS[0], "client_ca_file: bundle.crt")
    with process("127.0.0.1:0", config(made, *keys)) as server:
        assert answered(server, client(made, "client"))
        assert not answered(server, client(made, "stranger"))


def test_why_there_is_no_answer(made: Path) -> None:
    """The client is told by an alert, not by a reset."""
    with (
        process("127.0.0.1:0", config(made, *CLIENTS)) as server,
        pytest.raises(ssl.SSLError, match="certificate required"),
    ):
        asked(server, client(made))


def test_certificates_if_given(made: Path) -> None:
    """Who has none is answered, who has a wrong one is not."""
    keys = ("client_auth_type: VerifyClientCertIfGiven", "client_ca_file: clients.crt")
    with process("127.0.0.1:0", config(made, *keys)) as server:
        found = {
            name: answered(server, client(made, name))
            for name in ("client", "stranger", "")
        }
    assert {"client": True, "stranger": False, "": True} == found


@pytest.mark.parametrize(
    ("sans", "allowed"),
    [
        ("[other, scraper.example]", True),
        ("['2001:DB8:0::1']", True),
        ("[a@b.example]", True),
        ("['spiffe://x/y']", True),
        ("[example, SCRAPER.example.org, '*.example']", False),
    ],
)
def test_allowed_names(made: Path, sans: str, *, allowed: bool) -> None:
    """One name of the certificate must be there, spelled so."""
    keys = (*CLIENTS, f"client_allowed_sans: {sans}")
    with process("127.0.0.1:0", config(made, *keys)) as server:
        assert allowed == answered(server, client(made, "client"))


def test_no_session_is_resumed(made: Path) -> None:
    """Each connection is a new one: certificates that were withdrawn do not live on."""
    context = client(made)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with process("127.0.0.1:0", config(made)) as server:
        assert isinstance(server.address, tuple)
        sessions = []
        for session in (None, "last"):
            with (
                socket.create_connection(server.address, PATIENCE_S) as plain,
                context.wrap_socket(
                    plain,
                    server_hostname="127.0.0.1",
                    session=sessions[0] if session else None,
                ) as connection,
            ):
                sessions.append(connection.session)
                reused = connection.session_reused
    assert not reused


def test_plain_http_is_not_answered(made: Path) -> None:
    """Who speaks no TLS learns nothing."""
    with process("127.0.0.1:0", config(made)) as server:
        assert isinstance(server.address, tuple)
        with socket.create_connection(server.address, PATIENCE_S) as connection:
            connection.sendall(REQUEST)
            connection.shutdown(socket.SHUT_WR)
            assert b"200" not in connection.recv(4096)


def test_tls_on_a_unix_socket(made: Path, tmp_path: Path) -> None:
    """It is the same there, and curl asks so."""
    path = tmp_path / "s"
    with process(f"unix:{path}", config(made)):
        done = subprocess.run(
            [
                *("curl", "--silent", "--fail", "--unix-socket", path),
                *("--cacert", made / "ca.crt", "https://localhost/metrics"),
            ],
            check=True,
            capture_output=True,
            timeout=60,
        )
    assert METRICS == done.stdout


def test_openssl_agrees(made: Path) -> None:
    """A client of OpenSSL's own verifies the server, and no old version is spoken."""
    with process("127.0.0.1:0", config(made, *CLIENTS)) as server:
        assert isinstance(server.address, tuple)
        done = {
            version: subprocess.run(
                [
                    *(
                        "openssl",
                        "s_client",
                        "-connect",
                        "{}:{}".format(*server.address),
                    ),
                    *("-CAfile", made / "ca.crt", "-verify_return_error", "-quiet"),
                    *("-cert", made / "client.crt", "-key", made / "client.key"),
                    *("-cipher", "ALL:@SECLEVEL=0", "-ign_eof", version),
                ],
                input=REQUEST,
                check=False,
                capture_output=True,
                timeout=60,
            ).stdout
            for version in ("-tls1_1", "-tls1_2", "-tls1_3")
        }
    found = {version: METRICS in out for version, out in done.items()}
    assert {"-tls1_1": False, "-tls1_2": True, "-tls1_3": True} == found


def test_a_handshake_takes_no_longer_than_its_time(made: Path) -> None:
    """The connection's limit holds for it."""
    encryption = Encryption(parse(made / "web.yml", config(made).read_bytes()))
    ours, theirs = socket.socketpair()
    with theirs:
        wrapped = encryption.wrapped(ours)
        wrapped.settimeout(0.1)
        ended = threading.Event()

        def greet() -> None:
            with pytest.raises(TimeoutError):
                encryption.greet(wrapped)
            ended.set()

        threading.Thread(target=greet).start()
        assert ended.wait(PATIENCE_S)
        wrapped.close()
