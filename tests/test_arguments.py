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


@pytest.mark.parametrize(
    ("words", "verb"),
    [(["run"], "run"), (["boot-args"], "boot-args"), (["diff", "a", "b"], "diff")],
)
def test_verb_by_name(words: list[str], verb: str) -> None:
    """The command finds the verb's function by its name."""
    assert verb == parser().parse_args(words).verb
