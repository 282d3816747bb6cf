"""observer/arguments.py: what the command takes, and what it refuses in one line."""

from __future__ import annotations

import pytest

from observer.arguments import parser


@pytest.mark.parametrize(
    "words",
    [
        ["run", "--ring-bytes", "4097"],
        ["run", "--state-days", "0"],
        ["run", "--state-mib", "x"],
        ["run", "--series", "2001"],
        ["run", "--series", "199"],
        ["run", "--series-class", "2"],
        ["run", "--series-class", "02,0x03"],
        ["run", "--series-vendor", "8086"],
        ["run", "--series-vendor", "0x8086,"],
        ["run", "--textfile", "pci-observer.txt"],
        ["status", "--interval", "0"],
        ["preflight"],
        ["preflight", "--kernel", "a", "--modules", "b"],
        ["nonsense"],
        [],
    ],
)
def test_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The usage, and one line that says what is wrong."""
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(words)
    assert 2 == ended.value.code
    assert "error: " in capsys.readouterr().err.splitlines()[-1]


def test_which_devices_have_series() -> None:
    """Classes as lspci -n shows them, vendors as sysfs does."""
    words = ["--series-class", "02,0C03,010802", "--series-vendor", "0x8086,0x10dE"]
    options = parser().parse_args(["run", *words])
    assert ("02", "0c03", "010802") == options.series_class
    assert (0x8086, 0x10DE) == options.series_vendor
    usual = parser().parse_args(["run"])
    assert (300, (), ()) == (usual.series, usual.series_class, usual.series_vendor)


@pytest.mark.parametrize(
    ("words", "verb"),
    [(["run"], "run"), (["boot-args"], "boot-args"), (["diff", "a", "b"], "diff")],
)
def test_verb_by_name(words: list[str], verb: str) -> None:
    """The command finds the verb's function by its name."""
    assert verb == parser().parse_args(words).verb
