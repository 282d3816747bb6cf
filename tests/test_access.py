"""observer/access.py: who is answered, and what happens when the files change."""

from __future__ import annotations

import base64
import socket
import ssl
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import bcrypt
import pytest
from certificates import authority, certificate
from servers.prometheus import Prometheus
from serving import METRICS, process

from observer.access import Access
from observer.exchange import TEXT, Request, Response, plain, read
from observer.web_config import WebConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE_S = 10.0  # of a test; reached only when it fails


def hashed(password: bytes) -> str:
    """Return what htpasswd would write."""
    return bcrypt.hashpw(password, bcrypt.gensalt(4)).decode()


ALICE = f"basic_auth_users: {{alice: {hashed(b'one')}}}\n"
BOB = f"basic_auth_users: {{bob: {hashed(b'two')}}}\n"
TLS = "tls_server_config: {cert_file: server.crt, key_file: server.key}\n"
NO_KEY = (
    "pci-observer does not support a file without a key: write one, or leave "
    "--web.config.file out"
)
NONSENSE = (
    "nonsense: no such key; there are tls_server_config, http_server_config, "
    "basic_auth_users"
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where certificates are."""
    directory = tmp_path_factory.mktemp("access")
    ca = authority(directory, "ca")
    for name in ("first", "second"):
        certificate(directory, name, f"DNS:{name},IP:127.0.0.1", by=ca)
    return directory


class Changing:
    """A file that changes, whoever reads it, and a clock that is the test's."""

    def __init__(self, path: Path, text: str) -> None:
        """Read it for the first time."""
        self.told: list[str] = []
        self.now = 0.0
        self.path = path
        path.write_text(text)
        self.access = Access(
            path,
            on_change=lambda told: self.told.append(str(told["users"])),
            on_trouble=self.told.append,
            clock=lambda: self.now,
        )

    def put(self, text: str) -> None:
        """Write it anew and let a second pass."""
        made = self.path.with_suffix(".new")
        made.write_text(text)
        made.rename(self.path)
        self.now += 1

    def status(self, words: bytes) -> int:
        """Return how a request with these credentials is answered."""
        header = f"Basic {base64.b64encode(words).decode()}"
        refusal = self.access.rules().refusal(header, "", monotonic() + PATIENCE_S)
        return 200 if refusal is None else int(refusal.status)

    def statuses(self) -> tuple[int, int]:
        """Return how both users are answered."""
        return self.status(b"alice:one"), self.status(b"bob:two")


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        ("Basic YWxpY2U6b25l", 200),
        ("basic  YWxpY2U6b25l", 200),
        ("Basic YWxpY2U6dHdv", 401),
        ("Basic YWxpY2U=", 401),
        ("Basic YWxpY2U6b25", 401),
        ("Basic", 401),
        ("Bearer YWxpY2U6b25l", 401),
        ("", 401),
    ],
)
def test_credentials(tmp_path: Path, authorization: str, status: int) -> None:
    """A user with his password is answered, anything else is asked for them."""
    changing = Changing(tmp_path / "web.yml", ALICE)
    refusal = changing.access.rules().refusal(authorization, "", monotonic() + 1)
    if status == 200:
        assert refusal is None
    else:
        challenge = 'Basic realm="pci-observer", charset="UTF-8"'
        expected = (("WWW-Authenticate", challenge),)
        assert Response(refusal.status, TEXT, b"Unauthorized\n", expected) == refusal


def test_busy(tmp_path: Path) -> None:
    """Where no check can run any more, the client is told to come again."""
    changing = Changing(tmp_path / "web.yml", ALICE)
    rules = changing.access.rules()
    assert rules.passwords is not None
    with rules.passwords._lane.entered("", 0):  # noqa: SLF001
        refusal = rules.refusal("Basic YWxpY2U6b25l", "", monotonic())
    assert plain(refusal.status, ("Retry-After", "1")) == refusal
    assert 429 == refusal.status


def test_users_change(tmp_path: Path) -> None:
    """Who is new is answered, who is gone is not."""
    changing = Changing(tmp_path / "web.yml", ALICE)
    assert (200, 401) == changing.statuses()
    changing.put(BOB)
    assert (401, 200) == changing.statuses()
    assert ["1"] == changing.told


def test_a_look_each_second(tmp_path: Path) -> None:
    """Not more often."""
    changing = Changing(tmp_path / "web.yml", ALICE)
    changing.put(BOB)
    changing.now -= 0.1
    assert (200, 401) == changing.statuses()
    changing.now += 0.1
    assert (401, 200) == changing.statuses()


def test_a_bad_file_changes_nothing(tmp_path: Path) -> None:
    """It is told once, and what was before holds until there is a good one."""
    changing = Changing(tmp_path / "web.yml", ALICE)
    for bad in ("", "nonsense: 1", "nonsense: 1\n"):
        changing.put(bad)
        assert (200, 401) == changing.statuses()
        assert not changing.access.up_to_date
    changing.put(BOB)
    assert (401, 200) == changing.statuses()
    assert changing.access.up_to_date
    assert [
        f"{changing.path}:1: " + NO_KEY,
        f"{changing.path}:1: " + NONSENSE,
        "1",
    ] == changing.told


def test_a_reload(tmp_path: Path) -> None:
    """It reads at once, and says whether that is what holds now."""
    changing = Changing(tmp_path / "web.yml", ALICE)
    changing.path.write_text(BOB)
    assert changing.access.reload()
    assert (401, 200) == changing.statuses()
    changing.path.write_text("nonsense: 1")
    assert not changing.access.reload()
    assert (401, 200) == changing.statuses()
    assert "1" == changing.told[0]
    assert "nonsense: no such key" in changing.told[1]
    changing.path.write_text(ALICE)
    assert changing.access.reload()
    assert (200, 401) == changing.statuses()


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    """The same, and when it comes again unchanged."""
    changing = Changing(tmp_path / "web.yml", ALICE)
    changing.path.unlink()
    changing.now += 1
    assert (200, 401) == changing.statuses()
    assert not changing.access.up_to_date
    changing.put(ALICE)
    assert (200, 401) == changing.statuses()
    assert changing.access.up_to_date
    assert [f"{changing.path}: no such file or directory", "1"] == changing.told


def test_a_bad_file_that_gets_another_certificate(tmp_path: Path, made: Path) -> None:
    """What a bad file names is looked at as well: certificate first, then its key."""
    show(made, tmp_path, "first")
    changing = Changing(tmp_path / "web.yml", TLS)
    (tmp_path / "server.crt").write_bytes((made / "second.crt").read_bytes())
    changing.now += 1
    changing.access.rules()
    assert not changing.access.up_to_date
    (tmp_path / "server.key").write_bytes((made / "second.key").read_bytes())
    changing.now += 1
    changing.access.rules()
    assert changing.access.up_to_date
    key, crt = tmp_path / "server.key", tmp_path / "server.crt"
    named = "tls_server_config.key_file"
    assert [
        f"{changing.path}:1: {named}: {key} and {crt} do not belong together",
        "0",
    ] == changing.told


def test_a_hash_of_bad_salt(tmp_path: Path) -> None:
    """It looks like a hash, but bcrypt can't take it."""
    bad = "$2b$04$" + "." * 21 + "9" + "." * 31  # bits of a salt that are none
    text = f"basic_auth_users: {{alice: {bad}}}"
    try:
        bcrypt.hashpw(b"", bad[:29].encode())
    except ValueError:
        with pytest.raises(WebConfigError, match="make it anew") as caught:
            Changing(tmp_path / "web.yml", text)
        assert bad not in str(caught.value)
    else:  # this version of bcrypt takes it
        assert 401 == Changing(tmp_path / "web.yml", text).status(b"alice:one")


def test_who_was_here_is_still_known(tmp_path: Path, made: Path) -> None:
    """A new certificate makes nobody pay for bcrypt again; a new hash does."""
    show(made, tmp_path, "first")
    changing = Changing(tmp_path / "web.yml", ALICE + TLS)
    before = changing.access.rules().passwords
    show(made, tmp_path, "second")
    changing.now += 1
    assert before is changing.access.rules().passwords
    changing.put(BOB + TLS)
    assert before is not changing.access.rules().passwords
    assert ["1", "1"] == changing.told


def test_unreadable(tmp_path: Path, made: Path) -> None:
    """What the daemon can't read again, once it gave up root, is known."""
    show(made, tmp_path, "first")
    changing = Changing(tmp_path / "web.yml", TLS)
    assert () == changing.access.unreadable()
    (tmp_path / "server.key").unlink()
    assert (tmp_path / "server.key",) == changing.access.unreadable()


def show(made: Path, directory: Path, name: str) -> None:
    """Put a certificate where the file names it, as certbot and others do."""
    for kind in ("crt", "key"):
        new = directory / f"new.{kind}"
        new.write_bytes((made / f"{name}.{kind}").read_bytes())
        new.rename(directory / f"server.{kind}")


def fetch(
    address: tuple[str, int], ca: Path, words: bytes = b"", path: str = "/metrics"
) -> tuple[bytes, str]:
    """Return an answer by TLS, and whose certificate was shown."""
    header = b"Authorization: Basic " + base64.b64encode(words) if words else b"X: y"
    context = ssl.create_default_context(cafile=ca)
    with (
        socket.create_connection(address, timeout=PATIENCE_S) as connection,
        context.wrap_socket(connection, server_hostname="127.0.0.1") as encrypted,
    ):
        encrypted.sendall(f"GET {path} HTTP/1.1\r\n".encode() + header + b"\r\n\r\n")
        answer = b""
        while chunk := encrypted.recv(65536):
            answer += chunk
        shown = encrypted.getpeercert()
    assert shown is not None
    return answer, dict(shown["subjectAltName"])["DNS"]  # type: ignore[arg-type]


@contextmanager
def serving(made: Path, directory: Path) -> Iterator[tuple[str, int]]:
    """Serve with TLS and a user."""
    show(made, directory, "first")
    path = directory / "web.yml"
    path.write_text(ALICE + TLS)
    with process("127.0.0.1:0", path) as server:
        assert isinstance(server.address, tuple)
        yield server.address


def test_every_page_wants_the_password(tmp_path: Path, made: Path) -> None:
    """Health pages, and those that are not there, as well: as the toolkit does."""
    with serving(made, tmp_path) as address:
        for path, status in (
            ("/", 200),
            ("/metrics", 200),
            ("/-/healthy", 200),
            ("/-/ready", 200),
            ("/nowhere", 404),
        ):
            refused, _ = fetch(address, made / "ca.crt", b"alice:two", path)
            assert refused.startswith(b"HTTP/1.1 401 Unauthorized\r\n")
            assert b"\r\nWWW-Authenticate: Basic realm=" in refused
            answer, _ = fetch(address, made / "ca.crt", b"alice:one", path)
            assert answer.startswith(f"HTTP/1.1 {status} ".encode())


def test_a_running_server_takes_changes(tmp_path: Path, made: Path) -> None:
    """A new certificate and another user, within two seconds."""
    with serving(made, tmp_path) as address:
        assert "first" == fetch(address, made / "ca.crt")[1]
        show(made, tmp_path, "second")
        (tmp_path / "web.yml").write_text(BOB + TLS)
        deadline = monotonic() + PATIENCE_S
        while monotonic() < deadline:
            answer, name = fetch(address, made / "ca.crt", b"bob:two")
            if b" 200 " in answer:
                break
        assert "second" == name
        assert b" 401 " in fetch(address, made / "ca.crt", b"alice:one")[0]


def test_headers(tmp_path: Path) -> None:
    """Those of the file are in every answer, in the place of ours."""
    path = tmp_path / "web.yml"
    path.write_text(
        "http_server_config: {headers: {Content-Security-Policy: sandbox, "
        "Strict-Transport-Security: max-age=1}}"
    )
    with process("127.0.0.1:0", path) as server:
        assert isinstance(server.address, tuple)
        for request in (b"GET /metrics HTTP/1.1", b"GET / HTTP/3"):
            with socket.create_connection(server.address, PATIENCE_S) as connection:
                connection.sendall(request + b"\r\n\r\n")
                head = connection.recv(4096).partition(b"\r\n\r\n")[0].split(b"\r\n")
            policies = [line for line in head if b"Policy: " in line and b"Sec" in line]
            assert [b"Content-Security-Policy: sandbox"] == policies
            assert b"Strict-Transport-Security: max-age=1" in head


def test_curl(tmp_path: Path, made: Path) -> None:
    """It is answered with the password, over TLS, and else told 401."""
    with serving(made, tmp_path) as (host, port):
        url = f"https://{host}:{port}/metrics"
        curl = ("curl", "--silent", "--cacert", made / "ca.crt", url)
        words = ("--write-out", "%{http_code}", "--output", tmp_path / "answer")
        statuses = []
        for user in (("--user", "alice:one"), ("--user", "alice:two"), ()):
            done = subprocess.run(
                [*curl, *words, *user], check=True, capture_output=True, timeout=60
            )
            statuses.append(done.stdout)
            if not statuses[1:]:
                assert METRICS == (tmp_path / "answer").read_bytes()
    assert [b"200", b"401", b"401"] == statuses


@pytest.mark.servers
@pytest.mark.timeout(120)
def test_prometheus_scrapes(tmp_path: Path, made: Path) -> None:
    """With TLS and the password; without it the target is down."""
    with serving(made, tmp_path) as (host, port):
        job = (
            "scheme: https, tls_config: {ca_file: "
            f"{made / 'ca.crt'}}}, static_configs: [{{targets: ['{host}:{port}']}}]"
        )
        auth = "basic_auth: {username: alice, password: one}"
        scraping = (
            "global: {scrape_interval: 1s}\n"
            "scrape_configs:\n"
            f"  - {{job_name: knows, {job}, {auth}}}\n"
            f"  - {{job_name: guesses, {job}}}\n"
        )
        with Prometheus(tmp_path, scraping) as server:
            server.wait_for("count_over_time(up{job='guesses'}[1m]) >= 3")
            server.wait_for("count_over_time(up{job='knows'}[1m]) >= 3")
            assert [0] == [
                *server.query("max_over_time(up{job='guesses'}[1m])").values()
            ]
            assert [1] == [*server.query("min_over_time(up{job='knows'}[1m])").values()]
            assert [1] == [*server.query("x{job='knows'}").values()]


CRASHING = """
import socket, sys, threading
from pathlib import Path
from observer.access import Access
from observer.listening import listen
from observer.server import Server

def page(_accept):
    raise RuntimeError("a bug")

access = Access(Path(sys.argv[1]), on_change=print, on_trouble=print)
listener = listen("127.0.0.1:0")
server = Server(listener, {"/metrics": page}, rules=access.rules)
server.start()
with socket.create_connection(listener.getsockname(), 10) as client:
    client.sendall(sys.stdin.buffer.read())
    assert b"" == client.recv(1)
for thread in threading.enumerate():
    if "_serve" in thread.name:
        thread.join(10)
server.stop()
"""


def test_a_traceback_tells_no_password(tmp_path: Path) -> None:
    """Nor the hash: whatever fails while a request is answered."""
    path = tmp_path / "web.yml"
    known = hashed(b"hunter2")
    path.write_text(f"basic_auth_users: {{alice: {known}}}")
    words = base64.b64encode(b"alice:hunter2")
    done = subprocess.run(
        [sys.executable, "-c", CRASHING, path],
        input=b"GET /metrics HTTP/1.1\r\nAuthorization: Basic " + words + b"\r\n\r\n",
        check=True,
        capture_output=True,
        timeout=60,
        cwd=Path(__file__).parents[1],
    )
    assert b"RuntimeError: a bug" in done.stderr
    secrets = (words, b"hunter2", known[7:].encode())
    assert [] == [secret for secret in secrets if secret in done.stderr]


def test_a_request_shows_no_password() -> None:
    """Nor who shows what was asked for."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"GET / HTTP/1.1\r\nAuthorization: Basic YTpi\r\n\r\n")
        request = read(ours, monotonic() + PATIENCE_S)
    assert isinstance(request, Request)
    assert "Basic YTpi" == request.authorization
    assert "YTpi" not in f"{request} {request.authorization!r}"


def test_only_what_is_needed_is_imported(tmp_path: Path) -> None:
    """Users alone bring no OpenSSL, headers alone no bcrypt either."""
    code = (
        "import sys; from pathlib import Path; from observer import memory;"
        "from observer.access import Access;"
        "access = Access(Path(sys.argv[1]), on_change=print, on_trouble=print);"
        "access.rules().refusal('Basic YWxpY2U6b25l', '', 0);"
        "names = {'yaml', 'bcrypt', 'ssl', '_ssl', '_hashlib'} & sys.modules.keys();"
        "print(*sorted(names))"
    )
    for text, expected in (
        ("http_server_config: {http2: false}", "yaml"),
        (ALICE, "bcrypt yaml"),
    ):
        path = tmp_path / "web.yml"
        path.write_text(text)
        done = subprocess.run(
            [sys.executable, "-c", code, path],
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
            cwd=Path(__file__).parents[1],
        )
        assert expected == done.stdout.strip()
