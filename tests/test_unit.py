"""The unit: what systemd says of it, and how it does under a booted systemd.

tests/live/unit.py runs in the guest. Other kernels: PCI_OBSERVER_KERNELS="7.3".
"""

from __future__ import annotations

import configparser
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
from live.boots import Boots, boot, progress
from live.unit import METHODS, NEEDED, WRITES
from live.watcher import samples

KERNELS: Final = os.environ.get("PCI_OBSERVER_KERNELS", "5.10 6.1 7.3").split()
UNITS: Final = Path(__file__).parents[1] / "systemd"
EXPOSURE: Final = 1.5
STORES: Final = {
    *("new_id_store", "remove_id_store", "driver_override_store", "bind_store"),
    *("unbind_store", "drivers_probe_store"),
}


def unit(name: str = "pci-observer.service") -> configparser.ConfigParser:
    """Read a unit; of keys that are there several times the last."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNITS / name)
    return parser


def test_exposure() -> None:
    """What systemd's own measure says; CI fails when it grows."""
    told = subprocess.run(
        [
            *("systemd-analyze", "security", "--offline=true", "--no-pager"),
            *(f"--threshold={EXPOSURE * 10:.0f}", UNITS / "pci-observer.service"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == told.returncode, told.stdout
    (level,) = re.findall(r"Overall exposure level for .*: ([0-9.]+)", told.stdout)
    assert EXPOSURE >= float(level)


def test_nothing_waits_and_nothing_is_waited_for() -> None:
    """Before udev, it would wait for a /var that waits for udev: the boot fails."""
    section = unit()["Unit"]
    assert "no" == section["DefaultDependencies"]
    assert "shutdown.target" == section["Before"]
    words = (UNITS / "pci-observer.service").read_text()
    after = " ".join(re.findall(r"^After=(.*)$", words, re.MULTILINE)).split()
    assert {
        "pci-observer.socket",
        "systemd-journald.socket",
        "systemd-remount-fs.service",
        "systemd-sysusers.service",
        "sys-kernel-tracing.mount",
    } == set(after)


def test_capabilities_that_the_guests_test() -> None:
    """The unit gives what tests/live/unit.py takes away one by one, and no more."""
    service = unit()["Service"]
    wanted = {f"CAP_{name.upper()}" for name in NEEDED}
    assert wanted == set(service["AmbientCapabilities"].split())
    assert wanted == set(service["CapabilityBoundingSet"].split())


@pytest.fixture(scope="session")
def boots(
    tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Boots:
    """All guests; each boots when a test first asks for it."""

    def start(kernel: str) -> dict[str, Any]:
        directory = tmp_path_factory.mktemp(f"unit-{kernel}")
        say = progress(pytestconfig)
        result: dict[str, Any] = boot(kernel, "live.unit", directory, say, systemd=True)
        return result

    return Boots(start)


@pytest.fixture(params=KERNELS)
def seen(request: pytest.FixtureRequest, boots: Boots) -> dict[str, Any]:
    """Return what was seen under one kernel."""
    found: dict[str, Any] = boots[request.param]
    return found


@pytest.fixture(params=METHODS)
def run(request: pytest.FixtureRequest, seen: dict[str, Any]) -> dict[str, Any]:
    """Return what was seen with one attach method."""
    found: dict[str, Any] = seen[request.param]
    return found | {"method": request.param}


@pytest.mark.guest
def test_it_becomes_ready(run: dict[str, Any]) -> None:
    """The start returns once hooks and machine are known, and says so."""
    assert 0 == run["start"]["status"], run
    unit = run["unit"]
    assert ("active", "running", "notify") == (
        *(unit["ActiveState"], unit["SubState"]),
        unit["Type"],
    )
    assert "0" == unit["NRestarts"]
    assert re.fullmatch(
        f"observing by {run['method']}, ([0-9]+) of \\1 hooks, [0-9]+ devices",
        unit["StatusText"],
    )


def unprivileged(threads: list[dict[str, str]]) -> None:
    """Nothing but the bounding set, of which no_new_privs takes the effect."""
    assert len(threads) > 1
    for thread in threads:
        assert "1" == thread["NoNewPrivs"]
        assert "2" == thread["Seccomp"]
        assert thread["Gid"].split()[0] == thread["Groups"]
        assert "0" not in thread["Uid"].split()
        for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
            assert 0 == int(thread[name], 16), name


@pytest.mark.guest
def test_no_thread_has_a_privilege(run: dict[str, Any]) -> None:
    """Neither the main loop nor the server has what the loader had."""
    unprivileged(run["threads"])


@pytest.mark.guest
def test_what_it_made_is_for_itself(run: dict[str, Any]) -> None:
    """No directory, socket or file is readable for everybody."""
    assert {
        "/run/pci-observer": "pci-observer 750",
        "/run/pci-observer/observer.sock": "pci-observer 600",
        "/var/lib/pci-observer": "pci-observer 700",
        "/var/lib/pci-observer/history.sqlite": "pci-observer 600",
    } == run["modes"]


@pytest.mark.guest
def test_it_has_no_network(run: dict[str, Any]) -> None:
    """Not even loopback is up; the port was handed over."""
    assert {"own": True, "devices": ["lo"]} == run["network"]


@pytest.mark.guest
def test_it_sees_all(run: dict[str, Any]) -> None:
    """Decisions are judged, writes and messages about devices are heard."""
    before, after = run["before"], run["after"]

    def grown(name: str) -> float:
        return sum(
            value - before.get(key, 0)
            for key, value in after.items()
            if key.split("{")[0] == name
        )

    assert grown("match_decisions_total") > WRITES * 10
    assert 2 * WRITES + 1 <= grown("sysfs_writes_total")
    assert 0 == grown("divergences_total")
    assert 0 == grown("events_lost_total")
    assert 0 == after["hooks_missing"]
    ours = f'hook="pci_match_device",method="{run["method"]}"'
    assert 1 == after[f"hook_attached{{{ours}}}"]
    assert 250 == after["series_limit"]
    assert 0 == run["status"]["status"]
    assert "0000:" in run["explain"]["out"]
    assert " removed\n" in run["nic"]["out"]  # which messages of the kernel tell alone


@pytest.mark.guest
def test_reload(run: dict[str, Any]) -> None:
    """What is good is taken over, what is bad changes nothing and is told."""
    reload = run["reload"]
    assert (0, 260) == (reload["good"]["status"], reload["limit"])
    assert (
        "the configuration was refused; see the log" == reload["refused"]["StatusText"]
    )
    assert 260 == reload["limit_then"]
    told = [json.loads(line) for line in run["journal"]]
    mistakes = [line["mistake"] for line in told if "mistake" in line]
    assert mistakes
    for mistake in mistakes:
        assert re.match("/etc/.*toml:1: seris: there is no such option; ", mistake)
    kept = {line["held"] for line in told if line["event"] == "privilege kept"}
    assert {"CapBnd"} == {each.split()[0] for each in kept}


@pytest.mark.guest
def test_it_goes(run: dict[str, Any]) -> None:
    """Nothing is left in the kernel, and no scrape starts it again."""
    assert 0 == run["stop"]["status"]
    assert ("inactive", "success") == (
        run["stopped"]["ActiveState"],
        run["stopped"]["Result"],
    )
    assert "inactive" == run["socket"]["ActiveState"]
    assert [] == run["left"]


@pytest.mark.guest
def test_tls_and_a_password(seen: dict[str, Any]) -> None:
    """The unit's limits leave room for OpenSSL and bcrypt; what they read is read."""
    guarded = seen["guarded"]
    assert 0 == guarded["start"]["status"], guarded
    assert {"right": 200, "wrong password": 401, "no TLS": 0} == {
        name: answer["status"] for name, answer in guarded["asked"].items()
    }
    told = samples(guarded["asked"]["right"]["body"])
    hook = 'hook_attached{hook="pci_match_device",'
    assert 1 in {value for name, value in told.items() if name.startswith(hook)}
    assert [1] == [value for name, value in told.items() if "build_info{" in name]
    assert "pci_observer" not in guarded["asked"]["wrong password"]["body"]
    unprivileged(guarded["threads"])


@pytest.mark.guest
def test_a_certificate_that_is_renewed(seen: dict[str, Any]) -> None:
    """The next connection has it, and it is the same process."""
    guarded = seen["guarded"]
    assert guarded["certificates"] == guarded["presented"]
    renewed = guarded["renewed"]
    assert 200 == renewed["asked"]["status"]
    assert guarded["unit"]["MainPID"] == renewed["unit"]["MainPID"]
    told = [json.loads(line)["event"] for line in guarded["journal"]]
    assert ["web config", "web config is read again"] == told


@pytest.mark.guest
def test_the_watchdog(seen: dict[str, Any]) -> None:
    """A loop that turns is left alone, one that stands still is started again."""
    troubles = seen["troubles"]
    assert ("active", "0") == (
        troubles["alive"]["ActiveState"],
        troubles["alive"]["NRestarts"],
    )
    for trouble in ("hung", "killed"):
        assert troubles[trouble]["restarted"], troubles
        assert troubles[trouble]["ready"]


@pytest.mark.guest
def test_it_is_not_started_again_for_nothing(seen: dict[str, Any]) -> None:
    """What no restart heals ends it, with a line that says what to do."""
    troubles = seen["troubles"]
    for trouble in ("misconfigured", "listen"):
        found = troubles[trouble]
        assert 0 != found["status"]
        assert ("failed", "2") == (
            found["unit"]["ActiveState"],
            found["unit"]["ExecMainStatus"],
        )
    one, two = troubles["journal"]
    assert "toml:1: seris: there is no such option" in one
    assert (
        "systemd passed a socket, but --listen is 127.0.0.1:9817: leave it out" in two
    )


@pytest.mark.guest
def test_without_a_server(seen: dict[str, Any]) -> None:
    """Where it serves none, whoever comes to the socket is refused at once."""
    none = seen["troubles"]["none"]
    assert ("ConnectionRefusedError", "active") == (
        none["answer"],
        none["unit"]["ActiveState"],
    )


@pytest.mark.guest
def test_what_systemd_has_it_wait_for(seen: dict[str, Any]) -> None:
    """Not for all local file systems, neither itself nor by what it uses."""
    after = set(seen["order"].split())
    assert "pci-observer.socket" in after
    late = {"local-fs.target", "systemd-tmpfiles-setup.service", "sysinit.target"}
    assert not late & after


HIDDEN: Final = "the kernel hides the addresses of its symbols"
REFUSED: Final = "no permission to trace the kernel ("


@pytest.mark.guest
def test_capabilities(seen: dict[str, Any]) -> None:
    """What each is needed for: with one less, this or that is missing, as is told."""
    found = seen["capabilities"]
    for method in METHODS:
        whole = found[f"{method} with all"]
        assert {""} == set(whole["hooks"].values())
        assert whole["drivers"] == whole["tables"] > 10
    # kprobes: those of the hooks, or with fentry those of sysfs writes alone.
    assert found["kprobe without sys_admin"]["error"].startswith(REFUSED)
    less = found["fentry without sys_admin"]
    assert less["drivers"] == less["tables"]
    assert "" == less["hooks"]["pci_match_device"]
    refused = {hook for hook, problem in less["hooks"].items() if problem}
    assert STORES == refused
    # Addresses: of sysfs writes, and of the tables of drivers in the kernel itself.
    hidden = found["fentry without sys_admin and syslog"]
    assert "" == hidden["hooks"]["pci_match_device"]
    assert {HIDDEN} == {hidden["hooks"][store] for store in STORES}
    assert hidden["tables"] < hidden["drivers"]
    for method in METHODS:
        for one in ("bpf", "perfmon"):
            key = f"{method} without sys_admin and {one}"
            assert found[key]["error"].startswith(REFUSED), key
