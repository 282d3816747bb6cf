"""observer/daemon.py: what it reads, says and leaves behind, with hooks from a script.

The whole daemon on real kernels is observed in test_live.py.
"""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, cast

import machines
import pytest
import stores
from encode import encode_driver, encode_match
from kept import keep
from live.watcher import samples
from observations import probe
from scripted_hooks import Hooks

from observer import control, log, privileges, snapshot
from observer.boot_coverage import Coverage
from observer.cli import GOOD, main
from observer.config import ConfigError
from observer.daemon import Daemon, Options, run
from observer.keeping import Keeping
from observer.kernel import boot_id
from observer.listening import ListenError
from observer.loading import AttachError
from observer.looking import Look, Looker
from observer.notify import Notify
from observer.record import (
    Action,
    Device,
    Driver,
    Id,
    Inputs,
    Match,
    Outcome,
    Seen,
    Source,
    Task,
    Uevent,
)
from observer.recorder import Recorder
from observer.recording import Recording
from observer.registered import Inventory
from observer.regression import Regression
from observer.series import Selection
from observer.status_page import Status
from observer.store import FILE, Archive, Store
from observer.upkeep import realtime_offset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from observer.attachment import Attachment
    from observer.log import Logger
    from observer.machine import PciDevice
    from observer.record import Record
    from observer.uevents import Uevents

DRIVER = Driver(1, "e1000", (Id(1, 2),))
MATCH = Match(
    5,
    Task(1, 1, "modprobe", 0),
    "0000:00:02.0",
    False,
    Inputs(Device(1, 2, 3, 4, 5), DRIVER),
    Outcome(Source.STATIC, 0),
)
WRONG = MATCH._replace(outcome=Outcome(Source.NONE))
LATER_NS = 1 << 62  # than any clock

CHILD = """
import json, os, sys
from pathlib import Path
from encode import encode_driver, encode_match
from observer import daemon, privileges
from test_daemon import DRIVER, MATCH, Ending

class Unprivileged(Ending):
    def wait(self, timeout_seconds):
        print(json.dumps([os.getuid(), privileges.held()["CapEff"]]), flush=True)
        return super().wait(timeout_seconds)

hooks = Unprivileged([[*encode_driver(DRIVER), encode_match(MATCH)]], [])
options = daemon.Options(
    address="127.0.0.1:0", recording=Path(sys.argv[1]), state=Path(sys.argv[2])
)
daemon.run(options, attach_hooks=lambda: hooks)
"""

WRITING = """
import sys
from pathlib import Path
from observer import daemon
from observer.textfile import TextfileError
from test_daemon import Ending

class Reading(Ending):
    def wait(self, timeout_seconds):
        print(Path(sys.argv[1]).read_text(), flush=True)
        return super().wait(timeout_seconds)

hooks = Reading([], [])
options = daemon.Options(answer=False, textfile=Path(sys.argv[1]))
try:
    daemon.run(options, attach_hooks=lambda: hooks)
except TextfileError as e:
    print(e)
assert not hooks.attached
"""

OPEN = """
import sys, time
from pathlib import Path
from observer import daemon
from scripted_hooks import Hooks

class Quiet(Hooks):
    def wait(self, timeout_seconds):
        time.sleep(0.02)
        return False

options = daemon.Options(
    address=sys.argv[1], web_config=Path(sys.argv[2]), answer=False, log_level="debug"
)
daemon.run(options, attach_hooks=lambda: Quiet())
"""
# The hash of "hunter2", and where no secret must be.
HASH = "$2b$04$FvtZHxYKYaqfP5DtgTJFMOkgbVFLlUQ.tQJJMLdL7cFQJBLB8CffK"
SECRETS = ("hunter", "aHVudGVy", base64.b64encode(b"a:hunter2").decode(), HASH[7:20])
REPOSITORY = Path(__file__).parents[1]


class Ending(Hooks):
    """Hooks that see these batches and then SIGTERM; `rest` is in the ring then."""

    def __init__(
        self,
        batches: list[list[bytes]],
        rest: list[list[bytes]],
        number: int = signal.SIGTERM,
    ) -> None:
        super().__init__()
        self.waiting.extend(batches)
        self.rest = rest
        self.number = number

    def wait(self, _timeout_seconds: float) -> bool:
        """End when there is no more."""
        if not self.waiting and self.attached:
            signal.raise_signal(self.number)
        return bool(self.waiting)

    def detach(self) -> None:
        """Take the hooks away; what is in the ring stays there."""
        super().detach()
        self.waiting.extend(self.rest)
        self.rest = []


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """Give pytest its signals back."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {n: signal.getsignal(n) for n in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Messages:
    """The kernel's messages about devices, as the test has them."""

    def __init__(self, *batches: list[Uevent]) -> None:
        self.batches = [*batches]
        self.lost = 0

    def read(self) -> list[Uevent]:
        """Return what came."""
        return self.batches.pop(0) if self.batches else []


def looker(*devices: PciDevice) -> Looker:
    """Return a looker that sees these devices."""
    found = {device.address: device for device in devices}
    whole = Look(0, True, found, {}, True, ("A gap.",))
    made = Looker(
        whole=lambda: whole, some=lambda _addresses: whole._replace(whole=False)
    )
    made.start()
    return made


def daemon_of(
    hooks: Hooks,
    logger: Logger,
    *devices: PciDevice,
    messages: Messages | None = None,
    semantics: str = "linux-5.15",
    store: Store | None = None,
    keeping: Keeping | None = None,
    selection: Selection = Selection(),  # noqa: B008 - a value
    notify: Notify | None = None,
) -> Daemon:
    """Build a daemon on these hooks and devices."""
    recorder = Recorder(None, logger)
    uevents = cast("Uevents", messages or Messages())
    return Daemon(
        *(hooks.attachment(), semantics, recorder, logger),
        looker(*devices),
        uevents,
        keeping or Keeping(store, logger, Regression("7.3", 0)),
        selection=selection,
        notify=notify,
    )


def observed(hooks: Hooks, level: str = "info") -> list[dict[str, object]]:
    """Run a daemon until its end; return its log."""
    stream = io.StringIO()
    daemon = daemon_of(hooks, log.configure(stream, level))
    daemon.announce("127.0.0.1:9817")
    daemon.run()
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def without_time(line: dict[str, object]) -> dict[str, object]:
    """Return what is the same each time."""
    return {key: line[key] for key in line if key not in {"timestamp", "level"}}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_it(number: int) -> None:
    """Either signal ends it in order, with the totals as its last word."""
    hooks = Ending([[*encode_driver(DRIVER), encode_match(MATCH)]], [], number)
    hooks.count(whole=3, lost_reserve=2)
    assert {
        "event": "stopped",
        "emitted": 3,
        "lost": 2,
        "agree": 1,
        "diverge": 0,
        "indeterminate": 0,
    } == without_time(observed(hooks)[-1])


def test_hangup_reads_the_options_again(tmp_path: Path) -> None:
    """The manager hears of the start, of each reading and of the end."""

    class HungUp(Ending):
        def wait(self, timeout_seconds: float) -> bool:
            if self.waiting:
                signal.raise_signal(signal.SIGHUP)
            return super().wait(timeout_seconds)

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        stream = io.StringIO()
        logger = log.configure(stream)
        notify = Notify({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        daemon = daemon_of(HungUp([[], []], []), logger, notify=notify)
        old = Options(selection=Selection(300), given={"series": 300})
        now = [old._replace(selection=Selection(400), given={"series": 400})]

        def read() -> Options:
            if not now:
                raise ConfigError("x:1: bad")
            return now.pop()

        daemon.reload_on_hangup(old, read)
        daemon.run()
        notify.close()
        told = []
        with suppress(BlockingIOError):
            while True:
                told.append(manager.recv(1000).decode().split("\n")[0])
    assert [
        *("READY=1", "RELOADING=1", "READY=1", "RELOADING=1", "READY=1"),
        "STOPPING=1",
    ] == told
    events = [json.loads(line)["event"] for line in stream.getvalue().splitlines()]
    assert ["configuration is read again", "configuration refused", "stopped"] == events
    (text,) = (
        line
        for line in daemon._metrics.render("")[0].decode().splitlines()  # noqa: SLF001
        if line.startswith("pci_observer_series_limit ")
    )
    assert "pci_observer_series_limit 400.0" == text


def test_hooks_are_taken_away() -> None:
    """At the end nothing is attached."""
    hooks = Ending([], [])
    observed(hooks)
    assert not hooks.attached


def test_rest_of_the_ring() -> None:
    """What was in the ring when the hooks went is still judged."""
    hooks = Ending([], [encode_driver(DRIVER), [encode_match(MATCH)] * 2])
    assert 2 == observed(hooks)[-1]["agree"]


def test_divergence_is_logged() -> None:
    """A divergence comes with the model's reason."""
    (line,) = (
        line
        for line in observed(
            Ending([[*encode_driver(DRIVER), encode_match(WRONG)]], [])
        )
        if line["event"] == "divergence"
    )
    assert ("expected_not_matched", "none", "static") == (
        line["kind"],
        line["kernel"],
        line["model"],
    )
    assert "id_table[0]" in str(line["why"])


def test_announcement() -> None:
    """The first lines say what is observed, how and where, and what is missing."""
    first, second, *_ = observed(Ending([], []))
    assert {
        "event": "observing",
        "kernel": os.uname().release,
        "layout": "D",
        "semantics": "linux-5.15",
        "method": "kprobe",
        "programs": "shipped",
        "metrics": "http://127.0.0.1:9817/metrics",
    } == without_time(first)
    assert {
        "event": "hook not attached",
        "hook": "pci_unregister_driver",
        "error": "no room",
        "instead": "uevents tell which drivers go",
    } == without_time(second)


def test_announcement_of_an_audit() -> None:
    """That nothing is hooked is one line, and no decision is promised."""
    hooks = Ending([], [])
    hooks.problem = "locked down"
    hooks.hooks = dict.fromkeys(hooks.hooks, "locked down")
    hooks.methods = {}
    lines = observed(hooks)
    assert {
        "event": "audit only",
        "error": "locked down",
        "instead": "devices, bindings, overrides and findings come from sysfs; "
        "no decision is seen",
    } == without_time(lines[1])
    assert ["stopped"] == [line["event"] for line in lines[2:]]
    daemon = daemon_of(hooks, log.configure(io.StringIO()), machines.device())
    samples = scraped(daemon)
    assert 0 == samples["observing_since_timestamp_seconds"]
    assert 2 == samples["hooks_missing"]
    with Asked(daemon) as ask:
        assert None is snapshot.from_object(ask("/machine")).observed_since_ns


def test_announcement_of_a_detour() -> None:
    """A hook by another method than the best is told, and why."""
    hooks = Ending([], [])
    hooks.hooks = {"pci_match_device": ""}
    hooks.detours = {"pci_match_device": "fentry: busy"}
    assert {
        "event": "hook attached by another method",
        "hook": "pci_match_device",
        "error": "fentry: busy",
        "instead": "kprobe",
    } == without_time(observed(hooks)[1])
    daemon = daemon_of(hooks, log.configure(io.StringIO()), machines.device())
    assert 1 == scraped(daemon)["hook_detours"]


def test_digests_used_up() -> None:
    """That new decisions are sent whole is told, once."""
    hooks = Ending([[encode_match(MATCH)]] * 3, [])
    hooks.count(no_digest=2)
    lines = [without_time(line) for line in observed(hooks)]
    told = "no more decisions can be told apart"
    assert [{"event": told, "kept": 32768, "others": "sent whole"}] == [
        line for line in lines if line["event"] == told
    ]


def test_the_picture_is_of_kernel_memory_sysfs_and_events() -> None:
    """Drivers from the loader, devices from sysfs, and what happened since."""
    hooks = Ending([[*encode_driver(DRIVER), encode_match(MATCH)]], [])
    hooks.inventory = Inventory((machines.E1000,), order_known=True, gaps=("Another.",))
    unbind = Uevent(LATER_NS, Action.UNBIND, machines.ADDRESS, None)
    messages = Messages([unbind])
    daemon = daemon_of(
        hooks,
        log.configure(io.StringIO()),
        machines.device(bound="e1000"),
        messages=messages,
    )
    daemon.run()
    with Asked(daemon) as ask:
        machine = snapshot.from_object(ask("/machine"))
        status = Status.from_object(ask("/status"))
    assert ["e1000"] == list(machine.drivers)
    device = machine.devices[machines.ADDRESS]
    assert (None, machines.E1000_IDS) == (device.driver, device.ids)
    assert ("Another.", "A gap.") == machine.gaps
    assert ["Decision", "Uevent"] == [
        type(event).__name__ for event in machine.device_events[machines.ADDRESS]
    ]
    assert (1, "kprobe") == (status.judgements["agree"], status.method)
    assert "match: e1000 and 0000:00:02.0: static 0" == status.last[-1].what


def begun(
    coverage: Coverage, records: tuple[Record, ...], *batches: list[bytes]
) -> tuple[list[dict[str, object]], Daemon]:
    """Begin with what was recorded before the hooks; return the log as well."""
    hooks = Hooks()
    hooks.coverage, hooks.before = coverage, records
    hooks.waiting.extend(batches)
    stream = io.StringIO()
    daemon = daemon_of(hooks, log.configure(stream), machines.device(bound="e1000"))
    daemon.begin()
    return [json.loads(line) for line in stream.getvalue().splitlines()], daemon


def scraped(daemon: Daemon) -> dict[str, float]:
    """Return the metrics by name and labels."""
    page = daemon._metrics.render("")[0]  # noqa: SLF001 - as a scrape does
    return samples(page.decode())


def test_decisions_of_the_boot() -> None:
    """They are judged like all others, in the books once, and one line of the log."""
    boot = MATCH._replace(seen=Seen.BOOT)
    coverage = Coverage("", 1000, LATER_NS, 2000, 4, 3, 2, 1, 1)
    lines, daemon = begun(coverage, (boot, boot._replace(outcome=WRONG.outcome)))
    assert ["loss", "loss", "divergence", "boot"] == [line["event"] for line in lines]
    assert {
        "event": "boot",
        "since": log.spelled_time(realtime_offset() + 1000),
        "decisions": 4,
        "lost": 2,
        "agree": 1,
        "diverge": 1,
        "indeterminate": 0,
    } == without_time(lines[-1])
    found = scraped(daemon)
    stages = [
        found[f'events_total{{stage="{stage}"}}']
        for stage in ("emitted", "received", "decoded")
    ]
    assert [4, 3, 2] == stages
    assert 2 == found['events_lost_total{stage="reserve"}']
    assert 1 == found['events_lost_total{stage="other"}']
    assert 1 == found["synthetic_matches_total"]
    assert 1 == found['boot_decisions_total{judgement="agree"}']
    assert 1 == found['judgements_total{judgement="diverge"}']
    since = found["observing_since_timestamp_seconds"]
    assert abs(since - realtime_offset() / 1e9) < 1
    with Asked(daemon) as ask:
        machine = snapshot.from_object(ask("/machine"))
    assert 1000 == machine.recorded_since_ns
    assert 1 == len(machine.device_events[machines.ADDRESS])


def test_a_decision_that_the_hooks_saw_too() -> None:
    """It is judged once, as theirs."""
    boot = MATCH._replace(seen=Seen.BOOT)
    coverage = Coverage("", 1, MATCH.ktime_ns, MATCH.ktime_ns, 2, 2, 2)
    earlier = boot._replace(ktime_ns=MATCH.ktime_ns - 1)
    later = MATCH._replace(ktime_ns=LATER_NS)
    lines, daemon = begun(
        coverage,
        (earlier, boot),
        encode_driver(DRIVER),
        [encode_match(MATCH), encode_match(later)],
        [encode_match(later)],
    )
    assert 1 == lines[0]["decisions"] == lines[0]["agree"]
    found = scraped(daemon)
    assert 1 == found['boot_decisions_total{judgement="agree"}']
    assert 3 == found['judgements_total{judgement="agree"}']  # the last one waits
    assert 1 == found['events_total{stage="emitted"}']
    assert 3 == found['events_total{stage="decoded"}']


def test_how_a_device_was_bound_at_boot() -> None:
    """It counts as unseen until the recording tells."""
    _, daemon = begun(Coverage(), ())
    assert 1 == scraped(daemon)["bindings_before_observing"]
    bound = probe(MATCH.ktime_ns, seen=Seen.BOOT).probe
    _, daemon = begun(Coverage("", 1), (bound,))
    assert 0 == scraped(daemon)["bindings_before_observing"]


def test_a_boot_that_is_not_known() -> None:
    """Why not is one warning; the rest is as ever, from now on."""
    lines, daemon = begun(Coverage(problem="It is stale."), ())
    (line,) = lines
    assert ("warning", "It is stale.") == (line["level"], line["reason"])
    since = scraped(daemon)["observing_since_timestamp_seconds"]
    assert abs(since - time.time()) < 60


def test_the_picture_has_the_kernels_own_semantics() -> None:
    """Whatever decisions are judged by: findings and cures are of what really runs."""
    logger = log.configure(io.StringIO())
    daemon = daemon_of(Ending([], []), logger, semantics="linux-3.16")
    with Asked(daemon) as ask:
        assert "linux-5.15" == snapshot.from_object(ask("/machine")).semantics
        assert "linux-3.16" == Status.from_object(ask("/status")).semantics


def test_lost_messages_are_counted_and_devices_read_again() -> None:
    """Nobody knows what they would have told."""
    messages = Messages()
    daemon = daemon_of(
        Ending([], []),
        log.configure(io.StringIO()),
        machines.device(bound="e1000"),
        messages=messages,
    )
    messages.lost = 2
    daemon.run()
    with Asked(daemon) as ask:
        machine = snapshot.from_object(ask("/machine"))
    assert any(gap.startswith("2 events were lost, uevents") for gap in machine.gaps)
    assert "e1000" == machine.devices[machines.ADDRESS].driver


def test_a_picture_that_fails_ends_no_judging(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told, not at every step, and decisions are judged all the same."""
    stream = io.StringIO()
    hooks = Ending([[*encode_driver(DRIVER)], [encode_match(MATCH)]], [])
    daemon = daemon_of(hooks, log.configure(stream))

    def fail(_self: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("observer.upkeep.Upkeep.step", fail)
    daemon.run()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert 1 == sum(line["event"] == "picture failed" for line in lines)
    assert 1 == lines[-1]["agree"]


class Asked:
    """A daemon that answers on a unix socket."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def __enter__(self) -> Callable[[control.Page], dict[str, object]]:
        self._directory = tempfile.TemporaryDirectory()
        path = Path(self._directory.name, "s")
        self._server = self._daemon.answer(control.listen(path))

        def ask(page: control.Page) -> dict[str, object]:
            answer = control.fetch(path, page)
            assert answer is not None
            return answer

        return ask

    def __exit__(self, *_: object) -> None:
        self._server.stop()
        self._directory.cleanup()


class Upgraded(Hooks):
    """Hooks that see nothing; a regression is accepted, and when it ends they end."""

    def __init__(self, said: Callable[[], str], accept: Callable[[], int]) -> None:
        super().__init__()
        self.said = said
        self.accept = accept
        self.accepted: int | None = None
        self.until = time.monotonic() + 30
        self.idle = threading.Event()

    def wait(self, _timeout_seconds: float) -> bool:
        """Look at the log a few times a second."""
        self.idle.wait(0.1)
        if self.accepted is None and "binding_changed" in self.said():
            self.accepted = self.accept()
        if "finding ended" in self.said() or time.monotonic() > self.until:
            signal.raise_signal(signal.SIGTERM)
        return False


def test_a_regression_is_accepted_while_it_runs(tmp_path: Path) -> None:
    """By another process: the finding ends within seconds, and the verbs agree."""
    keep(tmp_path)
    stream = io.StringIO()
    running = stores.RUNNING._replace(boot_id="now", release=os.uname().release)
    arguments = ("--state", str(tmp_path), "--socket", str(tmp_path / "s"))
    hooks = Upgraded(
        stream.getvalue, lambda: main(["baseline", "--accept", *arguments])
    )
    logger = log.configure(stream)
    keeping = Keeping(
        Store(tmp_path / FILE, running), logger, Regression(running.release, 0)
    )
    daemon = daemon_of(hooks, logger, machines.device(), keeping=keeping)
    server = daemon.answer(control.listen(tmp_path / "s"))
    keeping.start()
    daemon.run()
    keeping.close()
    server.stop()
    assert GOOD == hooks.accepted
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    told = [
        (line["event"], line["kind"])
        for line in lines
        if line.get("finding") == "binding_changed"
    ]
    assert [("finding", "driver_lost"), ("finding ended", "driver_lost")] == told
    assert "baseline" not in {line["event"].split()[0] for line in lines}


def attaching(hooks: Hooks) -> Callable[[], Attachment]:
    """Return a function that attaches these hooks."""
    return hooks.attachment


@pytest.mark.parametrize(
    ("semantics", "problem"),
    [
        ("linux-9.0", "which the model does not know"),
        ("linux-3.15", "for no driver_override was found, but one must be there"),
    ],
)
def test_unknown_semantics(tmp_path: Path, semantics: str, problem: str) -> None:
    """A kernel beyond the model is not observed, and the hooks go again."""
    hooks = Hooks(semantics=semantics)
    with pytest.raises(AttachError) as caught:
        # A directory: if it went on, it would end there, still as root.
        run(Options(recording=tmp_path), attach_hooks=attaching(hooks))
    assert (
        f"this kernel decides by {semantics}, {problem}; "
        "choose another one with --semantics"
    ) == str(caught.value)
    assert not hooks.attached


def test_recording_that_cannot_be_written(tmp_path: Path) -> None:
    """A file that can't be opened ends all before it begins, without hooks."""
    hooks = Hooks()
    with pytest.raises(IsADirectoryError):
        run(Options(recording=tmp_path), attach_hooks=attaching(hooks))
    assert not hooks.attached


def test_metrics_without_a_port(tmp_path: Path) -> None:
    """They stand in the file while it observes, and not afterwards."""
    stores.let_in(tmp_path)
    tmp_path.chmod(0o777)  # for the user as which it goes on
    path = tmp_path / "pci.prom"
    text = with_textfile(path)
    assert "\npci_observer_hooks_missing 1.0\n" in text
    assert "\nprocess_" not in text
    assert [] == [*tmp_path.iterdir()]


def test_a_file_of_metrics_that_cannot_be_written(tmp_path: Path) -> None:
    """One sentence, before it says that it is ready."""
    text = with_textfile(tmp_path / "none" / "pci.prom")
    assert "let it write to" in text


def with_textfile(path: Path) -> str:
    """Observe in a process of its own; return what the file held, or the error."""
    done = subprocess.run(
        [sys.executable, "-c", WRITING, str(path)],
        check=False,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests'}"},
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_which_devices_have_series() -> None:
    """What was selected reaches the metrics; others are counted, not named."""
    other = machines.device("0000:00:03.0", ids=Device(0x10DE, 1, 2, 3, 0x030000))
    selection = Selection(vendors=(0x10DE,))
    logger = log.configure(io.StringIO())
    devices = (machines.device(), other)
    daemon = daemon_of(Hooks(), logger, *devices, selection=selection)
    daemon._upkeep.step()  # noqa: SLF001 - as the main loop does
    found = [key for key in scraped(daemon) if key.startswith("device_driver_info")]
    assert ["0000:00:03.0"] == [key.split('"')[1] for key in found]
    assert (
        1 == scraped(daemon)['devices{device_id="0x100e",driver="",vendor_id="0x8086"}']
    )


def test_the_page_of_a_daemon() -> None:
    """Kernel, hooks, devices; and each divergence with its reason."""
    stream = io.StringIO()
    hooks = Hooks()
    hooks.waiting.append([*encode_driver(DRIVER), encode_match(WRONG)])
    device = machines.device(bound="e1000")
    daemon = daemon_of(hooks, log.configure(stream), device)
    daemon._step(0)  # noqa: SLF001 - as the main loop does
    page = daemon._landing().decode()  # noqa: SLF001 - as the server does
    for wanted in (os.uname().release, "no room", machines.ADDRESS, "e1000"):
        assert wanted in page
    assert "1 divergence, 1 missing hook" in page
    assert "id_table[0]" in page  # why
    assert "modprobe" not in page  # who


def test_bad_address() -> None:
    """The address is tried before anything is attached."""

    def never() -> Attachment:
        raise AssertionError

    with pytest.raises(ListenError):
        run(Options(address="nowhere"), attach_hooks=never)


def test_bad_web_config(tmp_path: Path) -> None:
    """The file as well; one that nobody would go by is refused."""

    def never() -> Attachment:
        raise AssertionError

    path = tmp_path / "web.yml"
    path.write_text("users: 1")
    with pytest.raises(ListenError, match=r"web\.yml:1: users: no such key"):
        run(Options(address=":0", web_config=path), attach_hooks=never)
    with pytest.raises(ListenError, match="of no use with --listen none"):
        run(Options(web_config=path), attach_hooks=never)


def asked_by(path: Path, words: str) -> tuple[int, str]:
    """Ask for metrics on a unix socket as this user; return status and answer."""
    header = base64.b64encode(words.encode())
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(str(path))
        request = b"GET /metrics HTTP/1.1\r\nAuthorization: Basic " + header
        client.sendall(request + b"\r\n\r\n")
        answer = b""
        while chunk := client.recv(65536):
            answer += chunk
    return int(answer.split()[1]), answer.decode()


@contextmanager
def ending(child: subprocess.Popen[str]) -> Iterator[None]:
    """Kill it if a test does not get as far as its end."""
    try:
        yield
    finally:
        child.kill()


def test_access_of_a_run(tmp_path: Path) -> None:
    """Who knows the password is answered; the file is read again; no secret is told."""
    stores.let_in(tmp_path)
    if os.geteuid() == 0:
        os.chown(tmp_path, privileges.unprivileged_ids()[0], -1)
    web_config, path = tmp_path / "web.yml", tmp_path / "metrics.sock"
    web_config.write_text(f"basic_auth_users: {{a: {HASH}}}")
    web_config.chmod(0o644)  # for who gave up root
    success = "\npci_observer_web_config_reload_success"
    here = str(Path(__file__).parent)
    with (
        subprocess.Popen(
            [sys.executable, "-c", OPEN, f"unix:{path}", web_config],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([here, *sys.path])},
            stderr=subprocess.PIPE,
            text=True,
        ) as child,
        ending(child),
    ):
        deadline = time.monotonic() + 30
        while not path.exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert 401 == asked_by(path, "a:hunter3")[0]
        status, answer = asked_by(path, "a:hunter2")
        assert (200, True) == (status, f"{success} 1.0\n" in answer)
        web_config.write_text("basic_auth_users: {a: hunter4}")
        while f"{success} 0.0\n" not in asked_by(path, "a:hunter2")[1]:
            assert time.monotonic() < deadline
        child.terminate()
        _, told = child.communicate(timeout=30)
    lines = [json.loads(line) for line in told.splitlines()]
    (first, refused) = [line for line in lines if "web config" in line["event"]]
    assert {
        "event": "web config",
        "file": str(web_config),
        "tls": False,
        "clients": None,
        "users": 1,
    } == without_time(first)
    assert {
        "event": "web config refused",
        "error": f"{web_config}:1: basic_auth_users: what stands after the name is no "
        "bcrypt hash; htpasswd -nBC 10 NAME prints a line with one",
    } == without_time(refused)
    assert [] == [secret for secret in SECRETS if secret in told]
    assert ("stopped", 0) == (lines[-1]["event"], child.returncode)
    assert not path.exists()


def ran(child: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run a whole daemon as a process of its own, with its files in a directory."""
    stores.let_in(directory)
    here = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", child, directory / "r", directory / "state"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([here, *sys.path])},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert 0 == done.returncode, done.stderr
    return done


def test_whole_run(tmp_path: Path) -> None:
    """From start to SIGTERM: the ring is read as nobody, what was seen is kept."""
    done = ran(CHILD, tmp_path)
    uids = {json.loads(line)[0] for line in done.stdout.splitlines()}
    capabilities = {json.loads(line)[1] for line in done.stdout.splitlines()}
    assert 0 not in uids
    assert {"0" * 16} == capabilities
    with Recording(tmp_path / "r") as recording:
        assert [DRIVER, MATCH] == list(recording)
    with Archive(tmp_path / "state" / FILE) as archive:
        assert [MATCH] == [past.seen.match for past in archive.decisions()]
        (boot,) = archive.boots()
    assert (boot_id(), os.uname().release, "D") == (
        boot.boot_id,
        boot.release,
        boot.layout,
    )
    assert uids == {path.stat().st_uid for path in (tmp_path / "state").iterdir()}


NO_BOOT_ID = """
daemon.kernel.boot_id = lambda: Path("/nowhere").read_text()
daemon.run("""


@pytest.mark.parametrize(
    ("before", "after"),
    [("sys.argv[2]", "sys.argv[2], 'no', 'parent'"), ("\ndaemon.run(", NO_BOOT_ID)],
    ids=["no directory", "no boot id"],
)
def test_without_what_history_needs(before: str, after: str, tmp_path: Path) -> None:
    """It is told in one line, and the rest is done."""
    child = CHILD.replace(before, after)
    done = ran(child, tmp_path)
    told = [json.loads(line)["event"] for line in done.stderr.splitlines()]
    assert ["history is not kept"] == [each for each in told if "history" in each]
    assert "stopped" == told[-1]


def test_what_happens_is_kept(tmp_path: Path) -> None:
    """Decisions as they come; the machine with the first audit."""
    hooks = Ending([[*encode_driver(DRIVER), encode_match(MATCH)]], [])
    store = stores.store(tmp_path)
    daemon = daemon_of(
        hooks,
        log.configure(io.StringIO()),
        machines.device(bound="e1000"),
        store=store,
    )
    daemon.run()
    store.close()
    with Archive(tmp_path / FILE) as archive:
        assert [MATCH] == [past.seen.match for past in archive.decisions()]
        assert ["e1000"] == [row.bound.driver for row in archive.bindings()]
