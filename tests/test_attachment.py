"""observer/attachment.py: what the loader may send, and every way it may fail.

The loaders here are small scripts; the maps that they send are real ones.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from observations import match
from shapes import layouts

from observer.abi import DIGESTS
from observer.attachment import Attachment, attach, take_over
from observer.boot_coverage import Coverage, objects
from observer.hooks import plan
from observer.layout import UNKNOWN
from observer.loading import LOADER, AttachError, Loading, loader_arguments
from observer.machine import Origin, PciDriver
from observer.record import Driver, Id, Seen
from observer.registered import Inventory, as_object
from observer.ring import Counters

LAYOUT = layouts()["D"]
HOOKS = {"pci_match_device": "", "driver_probe_device": "no such function"}
INVENTORY = Inventory(
    (PciDriver(Driver(0, "e1000", (Id(1, 2),)), Origin.KERNEL_MEMORY, (), "e1000"),),
    order_known=True,
    gaps=("One.",),
)
PRELUDE = """
import array, json, os, signal, socket, sys
channel = socket.socket(fileno=int(sys.argv[sys.argv.index("--fd") + 1]))
def send(message, descriptors=()):
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
    channel.sendmsg([json.dumps(message).encode()], rights if descriptors else [])
"""
MESSAGE = {
    "layout": LAYOUT.as_dict(),
    "method": "kprobe",
    "programs": "shipped",
    "hooks": HOOKS,
    "methods": {"pci_match_device": "kprobe"},
    "detours": {"pci_match_device": "fentry: busy"},
    "ring_bytes": 4096,
}
COVERAGE = Coverage("", 5, 7, 8, 3, 2, 2, 1, 4)
E1000 = Driver(4, "e1000", (Id(1, 2),))
BEFORE = tuple(match(at, E1000, seen=Seen.BOOT).match for at in (6, 8))
BOOT = "".join(json.dumps(each) + "\n" for each in objects(COVERAGE, BEFORE)).encode()
GOOD = f"""
from observer import bpf
from observer.program import Map
events = bpf.create_map(Map("events", 27, 0, 0, 4096, 0))
counters = bpf.create_map(Map("counters", 2, 4, 8, 32, 1 << 10))
repeats = bpf.create_map(Map("repeats", 2, 4, 8, 32768, 1 << 10))
links = [os.memfd_create("link 1"), os.memfd_create("link 2")]
drivers = os.memfd_create("inventory")
os.write(drivers, {json.dumps(as_object(INVENTORY)).encode()!r})
boot = os.memfd_create("boot")
os.write(boot, {BOOT!r})
held = [events, counters, repeats, drivers, boot, *links]
send(json.loads({json.dumps(MESSAGE)!r}), held)
"""


def loaded(script: str, *arguments: str) -> Attachment:
    """Attach by a loader that does this."""
    return attach(arguments, command=(sys.executable, "-c", PRELUDE + script))


def refused(script: str, *arguments: str) -> str:
    """Return the sentence about a loader that fails."""
    with pytest.raises(AttachError) as caught:
        loaded(script, *arguments)
    return str(caught.value)


def descriptors() -> dict[int, str]:
    """Return what is open now."""
    return {
        int(fd.name): str(fd.readlink())
        for fd in Path("/proc/self/fd").iterdir()
        if fd.is_symlink()
    }


@pytest.fixture
def attachment() -> Attachment:
    """Return what a good loader attached."""
    return loaded(GOOD)


def refusing(sentence: str, layout: object = None) -> str:
    """Return a loader that can't attach, and knows the drivers."""
    message = {"error": sentence, "layout": layout}
    return f"""
drivers = os.memfd_create("inventory")
os.write(drivers, {json.dumps(as_object(INVENTORY)).encode()!r})
send(json.loads({json.dumps(message)!r}), [drivers])
"""


def test_error() -> None:
    """The loader's sentence is the error's."""
    assert "no BTF; get one" == refused(refusing("no BTF; get one"))


def test_arguments() -> None:
    """The loader is told what to do."""
    script = "sys.exit(' '.join(sys.argv[3:]) != '--attach kprobe')"
    told = refused(script, "--attach", "kprobe")
    assert "the loader ended with status 0 and said nothing" == told


def test_silence() -> None:
    """A loader that ends without a word is told by its status."""
    assert "the loader ended with status 3 and said nothing" == refused("sys.exit(3)")


def test_killed() -> None:
    """So is one that is killed."""
    script = "os.kill(os.getpid(), signal.SIGKILL)"
    assert "the loader ended with status -9 and said nothing" == refused(script)


def test_too_many_descriptors() -> None:
    """A message that did not come whole is no message, and leaves nothing open."""
    before = descriptors()
    script = "send({}, [os.dup(0) for _ in range(100)])"
    assert "the loader's message did not come whole" == refused(script)
    assert before == descriptors()


def test_failure_leaves_nothing() -> None:
    """After an error no descriptor and no child remains."""
    before = descriptors()
    refused(refusing("no"))
    assert before == descriptors()
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_attached(attachment: Attachment) -> None:
    """What the loader said of the kernel and its hooks is kept."""
    taken = attachment.layout, attachment.method, attachment.hooks
    assert (LAYOUT, "kprobe", HOOKS) == taken
    assert {"pci_match_device": "kprobe"} == attachment.methods
    assert {"pci_match_device": "fentry: busy"} == attachment.detours
    assert "" == attachment.problem


def test_inventory(attachment: Attachment) -> None:
    """What the loader knows of the drivers comes in a file, which is closed again."""
    assert INVENTORY == attachment.inventory
    assert not [name for name in descriptors().values() if "inventory" in name]


def test_before(attachment: Attachment) -> None:
    """So does what was seen before the hooks; it is read when it is wanted."""
    assert COVERAGE == attachment.coverage
    assert BEFORE == tuple(attachment.before)
    assert not [name for name in descriptors().values() if "memfd:boot" in name]


def test_maps(attachment: Attachment) -> None:
    """Ring and counters can be read, and waited for."""
    ring = attachment.ring
    read = attachment.counters.read(), ring.batch(), ring.wait(0)
    assert (Counters(), [], False) == read


def test_detach(attachment: Attachment) -> None:
    """Detaching closes the links; once more does nothing."""
    names = {fd: descriptors()[fd] for fd in attachment.links}
    assert ["/memfd:link 1 (deleted)", "/memfd:link 2 (deleted)"] == list(
        names.values()
    )
    attachment.detach()
    attachment.detach()
    assert {} == {fd: n for fd, n in descriptors().items() if names.get(fd) == n}


def test_ring_outlives_the_hooks(attachment: Attachment) -> None:
    """After detaching, what is in the ring can still be read."""
    attachment.detach()
    assert [] == attachment.ring.batch()


def test_no_child_keeps_the_hooks() -> None:
    """No descriptor is inherited by programs that the daemon starts."""
    before = descriptors()
    attachment = loaded(GOOD)
    new = descriptors().keys() - before.keys()
    assert new >= set(attachment.links)
    assert [] == [fd for fd in new if os.get_inheritable(fd)]


def test_current_directory_is_no_source(tmp_path: Path) -> None:
    """The loader, a privileged process, imports nothing from where we are."""
    (tmp_path / "observer").mkdir()
    (tmp_path / "observer" / "__init__.py").write_text("raise SystemExit('hostile')\n")
    done = subprocess.run(
        [*LOADER, "--help"],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (0, "") == (done.returncode, done.stderr)


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({"whole": False}, "--attach auto"),
        ({"whole": False, "ring_bytes": 4096}, "--attach auto --ring-bytes 4096"),
        ({"whole": True}, "--attach auto --no-digests"),
        ({"whole": False, "compiled": True}, "--attach auto --compile"),
    ],
)
def test_loader_is_told(chosen: dict[str, Any], expected: str) -> None:
    """What the operator chose reaches the loader."""
    assert tuple(expected.split()) == loader_arguments("auto", **chosen)


def loading(script: str) -> Loading:
    """Start a loader that does this."""
    return Loading(command=(sys.executable, "-c", PRELUDE + script))


def test_hooked() -> None:
    """One can wait for the hooks alone; the rest comes as without waiting."""
    for waits in (True, False):
        with loading(
            "send({'hooked': True})\nimport time; time.sleep(.1)" + GOOD
        ) as it:
            if waits:
                it.hooked()
            assert HOOKS == take_over(it).hooks


def test_hooked_too_late() -> None:
    """A loader that has nothing more to do then, or fails, is waited for as well."""
    with loading(GOOD) as it:
        it.hooked()
        assert HOOKS == take_over(it).hooks
    with loading(refusing("no")) as it:
        it.hooked()
        with pytest.raises(AttachError, match="no"):
            take_over(it)


def test_not_needed() -> None:
    """A loader whose hooks nobody wants any more is ended."""
    with loading("send({'hooked': True})\nimport time; time.sleep(60)") as it:
        it.hooked()
        process = it._loader  # noqa: SLF001 - what it did is asked of the system
    assert -signal.SIGKILL == process.returncode


def unhooked(script: str) -> Attachment:
    """Take over what a loader knows that could not attach."""
    with loading(script) as it:
        it.hooked()
        return take_over(it, required=False)


def test_unhooked() -> None:
    """Nothing is attached and never will tell anything; why, each hook says."""
    before = descriptors()
    attachment = unhooked(refusing("locked down", LAYOUT.as_dict()))
    assert ("locked down", "none", {}) == (
        attachment.problem,
        attachment.method,
        attachment.methods,
    )
    assert {
        "pci_match_device": "locked down",
        **dict.fromkeys(
            [hook.function for hook in plan(LAYOUT)[1:]],
            "nothing is hooked without pci_match_device",
        ),
    } == attachment.hooks
    assert LAYOUT == attachment.layout
    ring = attachment.ring
    read = attachment.counters.read(), ring.batch(), ring.wait(0)
    assert (Counters(), [], False) == read
    assert 0 == attachment.repeats[DIGESTS - 1]
    new = descriptors().keys() - before.keys()
    assert [] == [fd for fd in new if os.get_inheritable(fd)]


def test_unhooked_wakes_up() -> None:
    """What else is waited for ends a wait all the same."""
    attachment = unhooked(refusing("locked down"))
    event = os.eventfd(1)
    attachment.ring.watch(event)
    begin = time.monotonic()
    assert not attachment.ring.wait(30)
    assert time.monotonic() - begin < 15
    os.close(event)


def test_unhooked_knows_no_dynids() -> None:
    """The drivers are known, but not what can be written while nobody looks."""
    attachment = unhooked(refusing("locked down"))
    (known,) = attachment.inventory.drivers
    assert ("e1000", (Id(1, 2),), None) == (
        known.driver.name,
        known.driver.id_table,
        known.dynids,
    )
    assert ("Nothing is hooked: locked down.", "One.") == attachment.inventory.gaps


@pytest.mark.parametrize("script", ["sys.exit(3)", "os.kill(os.getpid(), 9)"])
def test_unhooked_without_a_word(script: str) -> None:
    """A loader that is killed leaves a machine whose kernel is not known."""
    attachment = unhooked(script)
    assert (UNKNOWN, ()) == (attachment.layout, attachment.inventory.drivers)
    assert "said nothing" in attachment.problem


def test_nobody_else_speaks_to_the_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pair of sockets has no name to connect to, and no program inherits its ends.

    The loader does not hear where the service manager listens to the daemon.
    """
    names = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS")
    for name in names:
        monkeypatch.setenv(name, "1")
    told = tmp_path / "environ"
    code = f"import os; open({str(told)!r}, 'w').write(' '.join(os.environ))"
    with Loading(command=(sys.executable, "-c", code)) as loading:
        ours = loading._ours  # noqa: SLF001 - the daemon's end
        assert ("", "") == (ours.getsockname(), ours.getpeername())
        assert not ours.get_inheritable()
        loading._loader.wait()  # noqa: SLF001
    assert not set(names) & set(told.read_text().split())
