"""observer/listening.py: ports, unix sockets and what systemd passes."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from observer.listening import ListenError, chosen, leave, listen, url
from observer.loading import AttachError, Loading

PATIENCE_S = 10.0  # of a test; reached only when it fails
ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "address", ["127.0.0.1:0", "localhost:0", "[::1]:0", ":0", "[::]:0"]
)
def test_listen(address: str) -> None:
    """IPv4, IPv6, names and the empty host, every interface, can be listened on."""
    with listen(address) as listener:
        assert listener.getsockname()[1] > 0


def test_listen_everywhere() -> None:
    """The empty host takes IPv4 and IPv6 clients."""
    with listen(":0") as listener:
        port = listener.getsockname()[1]
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, port), timeout=PATIENCE_S).close()


@pytest.mark.parametrize(
    "address",
    [
        "",
        "9817",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:65536",
        "127.0.0.1:http",
        "127.0.0.1:\N{ARABIC-INDIC DIGIT THREE}",
        "::1:9817",
        "[::1]",
        "http://[::1]:9817",
        "\udcff:1",
        "unix:",
        "unix:relative",
        "systemd:",
    ],
)
def test_bad_address(address: str) -> None:
    """What is no address is refused with a sentence that shows how to write one."""
    with pytest.raises(ListenError) as caught:
        listen(address)
    assert str(caught.value) == (
        f"{address!r} is no address to listen on: write 127.0.0.1:9817, [::1]:9817, "
        "or :9817 for every interface; unix:/path for a unix socket; systemd for "
        "the socket of a socket unit; or none."
    )


@pytest.mark.parametrize(
    ("address", "passed", "expected"),
    [
        ("auto", False, "127.0.0.1:9817"),
        ("auto", True, "systemd"),
        ("systemd", True, "systemd"),
        ("systemd", False, "systemd"),  # refused by `listen`
        ("none", False, None),
        (":1", False, ":1"),
    ],
)
def test_chosen(
    address: str,
    passed: bool,  # noqa: FBT001 - a parameter of the test
    expected: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By default the socket that systemd made, where it made one for this process."""
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()) if passed else "1")
    assert expected == chosen(address)


def test_none_refuses_what_systemd_made() -> None:
    """Whoever comes to the socket of the unit is refused, and does not wait."""
    script = (
        "import os, socket\n"
        "from observer.listening import chosen\n"
        "listener = socket.create_server(('127.0.0.1', 0))\n"
        "there = listener.getsockname()\n"
        "os.dup2(listener.fileno(), 3)\n"
        "os.environ |= {'LISTEN_PID': str(os.getpid()), 'LISTEN_FDS': '1'}\n"
        "assert chosen('none') is None\n"
        "try:\n"
        "    socket.create_connection(there, timeout=5)\n"
        "except ConnectionRefusedError:\n"
        "    print('refused')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert "refused\n" == done.stdout, done.stderr


@pytest.mark.parametrize("address", [":1", "unix:/x"])
def test_what_systemd_made_is_answered(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another address would leave those who ask there without an answer."""
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    with pytest.raises(ListenError) as caught:
        chosen(address)
    assert f"systemd passed a socket, but --listen is {address}: " in str(caught.value)


@pytest.mark.parametrize("address", ["auto", "none"])
def test_nothing_to_listen_on(address: str) -> None:
    """Such a word has been taken before."""
    with pytest.raises(ListenError):
        listen(address)


def test_port_in_use() -> None:
    """A port in use is refused with a sentence that says what to do."""
    with listen("127.0.0.1:0") as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(ListenError) as caught:
            listen(address)
    assert str(caught.value) == (
        f"Can't listen on {address}: "
        "the port is in use; stop its user or choose another one."
    )


@pytest.mark.parametrize(
    ("address", "cause"),
    [
        ("192.0.2.1:0", "this machine has no such address"),
        ("a..b:0", "no such host"),
        ("1.2.3.4.5:0", "no such host"),
    ],
)
def test_foreign_address(address: str, cause: str) -> None:
    """An address of another machine, or of none, is refused with its cause."""
    with pytest.raises(ListenError) as caught:
        listen(address)
    assert str(caught.value) == f"Can't listen on {address}: {cause}."


@pytest.mark.parametrize(
    ("address", "tls", "told"),
    [
        (":9817", False, "http://:9817/metrics"),
        ("[::1]:9817", True, "https://[::1]:9817/metrics"),
        ("unix:/run/x", True, "unix:/run/x"),
        ("systemd", False, "systemd"),
    ],
)
def test_url(address: str, *, tls: bool, told: str) -> None:
    """The log says where metrics are."""
    assert told == url(address, tls=tls)


def test_unix_socket(tmp_path: Path) -> None:
    """Its owner and its group may connect, nobody else; afterwards it is gone."""
    path = tmp_path / "made" / "metrics.sock"
    with listen(f"unix:{path}"), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        assert "srw-rw----" == stat.filemode(path.lstat().st_mode)
        leave(f"unix:{path}")
    assert not path.exists()


def test_a_group_for_the_unix_socket(tmp_path: Path) -> None:
    """The group that it is for gets it."""
    group = 12345 if os.geteuid() == 0 else os.getgid()
    with listen(f"unix:{tmp_path / 's'}", group=group):
        assert group == (tmp_path / "s").lstat().st_gid


def test_a_stale_unix_socket(tmp_path: Path) -> None:
    """What a daemon left behind is replaced; a file or another daemon's is not."""
    address = f"unix:{tmp_path / 's'}"
    listen(address).close()
    with listen(address), pytest.raises(ListenError, match="another observer listens"):
        listen(address)
    (tmp_path / "file").write_text("")
    with pytest.raises(ListenError, match="it is there and no socket"):
        listen(f"unix:{tmp_path / 'file'}")


def test_leave_is_for_unix_sockets() -> None:
    """A port leaves nothing behind."""
    leave("127.0.0.1:9817")


# Does what systemd does before it starts a service, then what follows.
GIVE = """
import os, socket, subprocess, sys
kind, count, pid = sys.argv[1:4]
made = {
    "tcp": lambda: socket.create_server(("127.0.0.1", 0)),
    "unix": lambda: listening(socket.AF_UNIX, socket.SOCK_STREAM),
    "unheard": lambda: socket.socket(),
    "udp": lambda: socket.socket(type=socket.SOCK_DGRAM),
    "seqpacket": lambda: listening(socket.AF_UNIX, socket.SOCK_SEQPACKET),
    "file": lambda: open("/dev/null"),
    "none": lambda: None,
}
def listening(family, kind):
    made = socket.socket(family, kind)
    made.bind("")
    made.listen()
    return made
made = made[kind]()
if made is not None:
    os.dup2(made.fileno(), 3)
    os.set_inheritable(3, True)
else:
    os.closerange(3, 10)
os.environ.update(LISTEN_PID=pid or str(os.getpid()), LISTEN_FDS=count)
os.environ["LISTEN_FDNAMES"] = "metrics"
os.execv(sys.executable, [sys.executable, "-c", sys.argv[4]])
"""
TAKE = """
import os, sys
from observer.listening import ListenError, listen
from observer.loading import Loading
try:
    with listen("systemd") as taken:
        print(taken.fileno(), taken.family.name, os.get_inheritable(3))
except ListenError as e:
    print(e)
print([name for name in os.environ if name.startswith("LISTEN_")])
"""


def taken(kind: str, *, count: str = "1", pid: str = "", code: str = TAKE) -> list[str]:
    """Return what a process says that got this from systemd."""
    done = subprocess.run(
        [sys.executable, "-c", GIVE, kind, count, pid, code],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
    )
    return done.stdout.splitlines()


def test_a_socket_of_systemd() -> None:
    """It is taken, a port as well as a unix socket, and no child gets it."""
    assert ["3 AF_INET False", "[]"] == taken("tcp")
    assert ["3 AF_UNIX False", "[]"] == taken("unix")


@pytest.mark.parametrize("kind", ["unheard", "udp", "seqpacket"])
def test_a_wrong_socket_of_systemd(kind: str) -> None:
    """A socket of another kind is refused."""
    told, left = taken(kind)
    assert (
        "what systemd passed is not listened on: the socket unit needs ListenStream= "
        "and Accept=no"
    ) == told
    assert "[]" == left


@pytest.mark.parametrize(
    ("kind", "count", "pid", "told"),
    [
        ("file", "1", "", "what systemd passed is no socket: "),
        ("none", "1", "", "what systemd passed is no socket: "),
        ("tcp", "2", "", "systemd passed 2 sockets: the socket unit needs one "),
        ("tcp", "", "", "systemd passed  sockets: "),
        ("tcp", "1", "1", "systemd passed no socket: start the socket unit, "),
    ],
)
def test_no_socket_of_systemd(kind: str, count: str, pid: str, told: str) -> None:
    """What is no socket, too many or for another process is refused."""
    line, left = taken(kind, count=count, pid=pid)
    assert line.startswith(told)
    assert "[]" == left


def test_a_server_stopped_leaves_systemd_its_socket() -> None:
    """Who listens as well, as systemd does, goes on to."""
    code = """
import socket
from observer.listening import listen
from observer.server import Server
other = socket.socket(fileno=__import__("os").dup(3))
server = Server(listen("systemd"), {})
server.start()
server.stop()
client = socket.create_connection(other.getsockname(), 5)
other.settimeout(5)
print(other.accept()[0] is not None)
"""
    assert ["True"] == taken("tcp", code=code)


def test_the_loader_gets_no_socket_of_systemd() -> None:
    """Neither the descriptor nor what tells of it."""
    child = """
import os
try:
    os.fstat(3)
    print("passed")
except OSError:
    print("not passed", [each for each in os.environ if each.startswith("LISTEN_")])
"""
    code = f"""
import sys
from observer.loading import AttachError, Loading
with Loading(command=(sys.executable, "-c", {child!r})) as loading:
    try:
        loading.finish()
    except AttachError:
        pass
"""
    assert ["not passed []"] == taken("tcp", code=code)


def test_loading_tells_the_loader_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other variables reach it."""
    monkeypatch.setenv("PCI_OBSERVER_TEST", "1")
    code = "import os, sys; sys.exit(os.environ.get('PCI_OBSERVER_TEST') != '1')"
    with (
        Loading(command=(sys.executable, "-c", code)) as loading,
        pytest.raises(AttachError, match="ended with status 0"),
    ):
        loading.finish()
