"""Where the observer can't work it says so in one line, and leaves nothing behind.

tests/live/surroundings.py makes the surroundings, in one guest.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import btf_trim
import pytest
from live.boots import Boots, boot, progress

pytestmark = pytest.mark.guest

HERE: Final = Path(__file__).parent
KERNEL: Final = "6.1"
UNOBSERVABLE: Final = 3
USAGE: Final = 2

# What the line must name: the cause, and what to do about it.
SENTENCES: Final = {
    "no_btf": ("/sys/kernel/btf/vmlinux does not exist", "CONFIG_DEBUG_INFO_BTF=y"),
    "no_function": ("no function pci_match_device", "please report"),
    "broken_btf": ("/sys/kernel/btf/vmlinux is no BTF", "CONFIG_DEBUG_INFO_BTF=y"),
    "no_permission": ("no permission", "run as root"),
    "no_programs": ("bcc can't be imported", "python3-bpfcc"),
    "locked_down": ("locked down (confidentiality)", "boot without"),
}
every_cause = pytest.mark.parametrize("cause", SENTENCES)


@pytest.fixture(scope="session")
def surrounded(
    tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Boots:
    """Boot the guest when a test first asks for it."""

    def start(kernel: str) -> dict[str, Any]:
        directory = tmp_path_factory.mktemp("surroundings")
        write_btf(directory)
        result: dict[str, Any] = boot(
            kernel, "live.surroundings", directory, progress(pytestconfig)
        )
        return result

    return Boots(start)


@pytest.fixture
def seen(surrounded: Boots) -> dict[str, Any]:
    """Return what each surrounding led to."""
    found: dict[str, Any] = surrounded[KERNEL]
    return found


def write_btf(directory: Path) -> None:
    """Make BTF of a kernel whose pci_match_device was inlined, and no BTF at all."""
    data = (HERE / "btf" / "6.1.0-56-amd64.btf").read_bytes()
    gone = {"pci_match_device", "pci_bus_match"}  # the second is hooked instead
    others = [name for name in btf_trim.FUNCTIONS if name not in gone]
    trimmed = btf_trim.trim(data, btf_trim.STRUCTS, others)
    (directory / "without_function.btf").write_bytes(trimmed)
    (directory / "nonsense.btf").write_bytes(b"nonsense" * 512)


@every_cause
def test_run_says_why_in_one_line_and_ends(seen: dict[str, Any], cause: str) -> None:
    """Exit 3, and a single line on stderr that names the cause and what to do."""
    run = seen[cause]["run"]

    assert UNOBSERVABLE == run["status"], run["stderr"]
    (line,) = run["stderr"].splitlines()
    assert line.startswith("pci-observer: ")
    for part in SENTENCES[cause]:
        assert part in line


@every_cause
def test_doctor_names_the_same_cause(seen: dict[str, Any], cause: str) -> None:
    """Exit 3, the cause in the list, and a verdict in the last line."""
    doctor = seen[cause]["doctor"]

    assert UNOBSERVABLE == doctor["status"], doctor["stderr"]
    assert "" == doctor["stderr"]
    for part in SENTENCES[cause]:
        assert part in doctor["stdout"]
    assert doctor["stdout"].splitlines()[-1].startswith("This kernel can't be observed")


@every_cause
def test_doctor_tells_programs_as_well(seen: dict[str, Any], cause: str) -> None:
    """With --json the same, for a program to read."""
    doctor = seen[cause]["doctor_json"]
    diagnosis = json.loads(doctor["stdout"])
    bad = [check["finding"] for check in diagnosis["checks"] if not check["good"]]

    assert UNOBSERVABLE == doctor["status"]
    assert diagnosis["observable"] is False
    assert any(SENTENCES[cause][0] in finding for finding in bad)


@pytest.mark.parametrize("cause", [*SENTENCES, "port_in_use"])
def test_nothing_is_left_half_attached(seen: dict[str, Any], cause: str) -> None:
    """No program, map or link stays, wherever the attempt ended."""
    assert {"programs": [], "maps": [], "links": []} == seen[cause]["left_behind"]


def test_a_port_in_use_is_wrong_usage(seen: dict[str, Any]) -> None:
    """Exit 2, and the hooks are gone: the operator can choose another one."""
    run = seen["port_in_use"]["run"]

    assert USAGE == run["status"]
    (line,) = run["stderr"].splitlines()
    assert "127.0.0.1:9817" in line
    assert "the port is in use" in line


def test_a_port_in_use_is_no_matter_to_doctor(seen: dict[str, Any]) -> None:
    """It can't know which port will be asked for."""
    assert 0 == seen["port_in_use"]["doctor"]["status"]


def test_no_compiler_is_needed(seen: dict[str, Any]) -> None:
    """Without bcc what came along is loaded."""
    lines = [json.loads(line) for line in seen["no_compiler"]["observed"]]
    (told,) = [line for line in lines if line["event"] == "observing"]

    assert "shipped" == told["programs"]


@pytest.mark.parametrize("surroundings", ["good", "integrity", "no_compiler"])
def test_doctor_finds_a_good_kernel_good(
    seen: dict[str, Any], surroundings: str
) -> None:
    """Debian's kernel as it is, and under the lockdown that secure boot brings.

    It was not told to record its boot, which `doctor` says.
    """
    doctor = seen[surroundings]["doctor_json"]
    diagnosis = json.loads(doctor["stdout"])

    assert 0 == doctor["status"]
    assert diagnosis["observable"] is True
    assert "fentry" == diagnosis["method"]
    assert ["boot"] == [c["name"] for c in diagnosis["checks"] if not c["good"]]
