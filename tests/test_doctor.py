"""observer/doctor.py: a verdict with its findings, whatever the machine may do."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from test_layout import renamed

from observer import compiler, doctor
from observer.bpf import BpfError
from observer.hooks import METHODS
from observer.kernel import running
from observer.loader import preferred

BTF = Path(__file__).parent / "btf"
NEEDED = ("machine", "types", "semantics", "programs")


def descriptors() -> set[str]:
    """Return what is open now."""
    return {
        f"{fd.name}: {fd.readlink()}"
        for fd in Path("/proc/self/fd").iterdir()
        if fd.is_symlink()
    }


def checks(diagnosis: doctor.Diagnosis) -> dict[str, doctor.Check]:
    """Return the checks by name."""
    return {check.name: check for check in diagnosis.checks}


@pytest.fixture(scope="module")
def here() -> doctor.Diagnosis:
    """Examine this machine once."""
    return doctor.examine()


def test_verdict(here: doctor.Diagnosis) -> None:
    """Observable means: one method works, and nothing that is needed is missing."""
    found = checks(here)
    methods = [m for m in METHODS if m in found and found[m].good]
    missing = [name for name in NEEDED if name in found and not found[name].good]
    assert here.method == (methods[0] if methods else None)
    assert here.observable == bool(methods and not missing)


def test_every_check_has_a_finding(here: doctor.Diagnosis) -> None:
    """Good or bad, each check says what it found, in one line."""
    findings = [check.finding for check in here.checks]
    assert [] == [text for text in findings if not text or "\n" in text]


def test_kernel_is_named(here: doctor.Diagnosis) -> None:
    """The first line says which kernel this is about."""
    kernel = running()
    expected = doctor.Check("kernel", good=True, finding=" ".join(kernel))
    assert expected == here.checks[0]


def test_programs(here: doctor.Diagnosis) -> None:
    """They came along: no compiler is asked for."""
    assert doctor.Check("programs", True, "they came along") == checks(here)["programs"]


@pytest.mark.parametrize(
    ("problem", "finding"),
    [("", "bcc compiles them, which takes a while"), ("no bcc", "no bcc")],
)
def test_no_programs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, problem: str, finding: str
) -> None:
    """Without them bcc is what is needed."""
    monkeypatch.setattr(compiler, "unavailable", lambda: problem)
    found = checks(doctor.examine(btf_file=tmp_path / "absent"))["programs"]
    assert (problem == "", finding) == (found.good, found.finding)


def test_layout(here: doctor.Diagnosis) -> None:
    """A layout that was understood is in the report, for bug reports."""
    assert (here.layout is not None) == checks(here)["types"].good


def test_nothing_is_left_behind(here: doctor.Diagnosis) -> None:
    """What was tried is taken away: the same descriptors as before are open."""
    assert here  # bcc is imported by now
    before = descriptors()
    doctor.examine()
    assert before == descriptors()


def test_kernel_without_types(tmp_path: Path) -> None:
    """Without BTF nothing is tried, and the missing option is named."""
    diagnosis = doctor.examine(btf_file=tmp_path / "absent")
    found = checks(diagnosis)
    assert ["kernel", "machine", "types", "programs"] == list(found)
    assert (False, None, None) == (
        diagnosis.observable,
        diagnosis.method,
        diagnosis.layout,
    )
    assert found["types"].finding.endswith("built with CONFIG_DEBUG_INFO_BTF=y")


def test_kernel_with_broken_types(tmp_path: Path) -> None:
    """Types that can't be read are a finding, not a crash."""
    (tmp_path / "vmlinux").write_bytes(b"no BTF at all")
    diagnosis = doctor.examine(btf_file=tmp_path / "vmlinux")
    assert not diagnosis.observable
    assert "is no BTF: " in checks(diagnosis)["types"].finding


def offering(*methods: str, btf_file: Path) -> doctor.Diagnosis:
    """Examine a kernel that can be hooked by these methods."""

    def attempt(_function: str, *, method: str, function_id: int) -> None:
        assert function_id
        if method not in methods:
            raise BpfError(errno.ENODEV, f"no {method} here")

    return doctor.examine(btf_file=btf_file, attempt=attempt)


@pytest.mark.parametrize(
    ("offered", "best"),
    [(("fentry", "kprobe"), "fentry"), (("kprobe",), "kprobe"), ((), None)],
)
def test_method(offered: tuple[str, ...], best: str | None) -> None:
    """The best of the methods that work is named, what refused is a finding."""
    diagnosis = offering(*offered, btf_file=BTF / "6.1.0-56-amd64.btf")
    found = checks(diagnosis)
    assert (best, best is not None) == (diagnosis.method, diagnosis.observable)
    assert {
        name: "can hook pci_match_device"
        if name in offered
        else f"this kernel can't be hooked (no {name} here)"
        for name in METHODS
    } == {name: found[name].finding for name in METHODS}


def refusing(*refused: tuple[str, str]) -> doctor.Diagnosis:
    """Examine a kernel that refuses these functions by these methods."""

    def attempt(function: str, *, method: str, **_: object) -> None:
        if (function, method) in refused:
            raise BpfError(errno.EBUSY, f"{method} is busy")

    return doctor.examine(btf_file=BTF / "6.1.0-56-amd64.btf", attempt=attempt)


PROBE = "__driver_probe_device"
FIRST, SECOND = preferred()


def test_all_hooks() -> None:
    """Nothing to say of the other hooks is good."""
    assert (
        doctor.Check("hooks", True, "the others can be hooked as well")
        == (checks(refusing())["hooks"])
    )


def test_one_hook_by_another_method() -> None:
    """What is refused is told, though it costs nothing."""
    diagnosis = refusing((PROBE, FIRST))
    assert (
        doctor.Check(
            "hooks",
            False,
            f"{PROBE} by {FIRST}: this kernel can't be hooked ({FIRST} is busy)",
        )
        == (checks(diagnosis)["hooks"])
    )
    assert (FIRST, True) == (diagnosis.method, diagnosis.observable)


@pytest.mark.parametrize(
    ("function", "said", "method"),
    [
        ("pci_match_device", "pci_bus_match tells whether there is a match", FIRST),
        (PROBE, "pci_device_probe tells of probes", FIRST),
    ],
)
def test_a_fallback(function: str, said: str, method: str) -> None:
    """What would be hooked instead is told; decisions are seen all the same."""
    diagnosis = refusing((function, FIRST), (function, SECOND))
    assert said in checks(diagnosis)["hooks"].finding
    assert (method, True) == (diagnosis.method, diagnosis.observable)


def test_writes_without_kprobes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only kprobes can hook what sysfs calls: without them the hooks are not well."""

    def switched_off(method: str) -> None:
        if method == "kprobe":
            raise BpfError(errno.ENODEV, "off")

    monkeypatch.setattr("observer.doctor.check_method", switched_off)
    diagnosis = refusing()
    told = checks(diagnosis)["hooks"]
    assert ("fentry", False) == (diagnosis.method, told.good)
    assert "writes to PCI's files in sysfs are not seen: this kernel" in told.finding


def test_writes_without_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """What sysfs calls is found by its address: that these are hidden is told."""
    monkeypatch.setattr("observer.kernel.symbol_address", lambda _: 0)
    told = checks(refusing())["kallsyms"]
    assert not told.good
    assert told.finding.endswith("writes to PCI's files in sysfs are not seen")


def test_neither_a_fallback() -> None:
    """Without any hook for decisions the kernel can't be observed."""
    both = [(f, m) for f in ("pci_match_device", "pci_bus_match") for m in METHODS]
    diagnosis = refusing(*both)
    assert (None, False) == (diagnosis.method, diagnosis.observable)
    assert "no decision is seen" in checks(diagnosis)["hooks"].finding


def test_understood_kernel() -> None:
    """The layout is told in short, and whole for a bug report."""
    diagnosis = offering("fentry", btf_file=BTF / "6.1.0-56-amd64.btf")
    assert (
        "layout E, 3 arguments, driver_override in pci_dev.driver_override"
    ) == checks(diagnosis)["types"].finding
    assert "E" == (diagnosis.layout or {})["name"]


def test_kernel_beyond_the_model(tmp_path: Path) -> None:
    """A kernel that keeps driver_override where we don't look can't be observed."""
    types = (BTF / "5.10.0-46-amd64.btf").read_bytes()
    (tmp_path / "vmlinux").write_bytes(
        renamed(types, "driver_override", "driver_overrode")
    )
    diagnosis = offering("fentry", btf_file=tmp_path / "vmlinux")
    assert ("fentry", False) == (diagnosis.method, diagnosis.observable)
    assert (
        "linux-3.15, for no driver_override was found, but one must be there"
    ) == checks(diagnosis)["semantics"].finding


@pytest.mark.parametrize(
    ("armed", "asked", "good", "said"),
    [
        (True, True, True, "decisions are recorded since the boot"),
        (False, True, True, "taken by an earlier start"),
        (False, False, False, "`pci-observer boot-args` prints"),
    ],
)
def test_boot(
    monkeypatch: pytest.MonkeyPatch, *, armed: bool, asked: bool, good: bool, said: str
) -> None:
    """Whether the boot is recorded; where it is not, what to do, and no obstacle."""
    monkeypatch.setattr("observer.tracefs.is_armed", lambda: armed)
    monkeypatch.setattr("observer.tracefs.is_asked_for", lambda: asked)
    check = checks(doctor.examine())["boot"]
    assert good == check.good
    assert said in check.finding
    assert check.name not in NEEDED
