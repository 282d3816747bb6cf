"""The texts for operators say what the code does."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from exported import PREFIX, families

from observer import __version__, web_config
from observer.cli import main
from observer.disagreement import Field
from observer.findings import Name
from observer.hooks import HOOKS, METHODS
from observer.model import SEMANTICS
from observer.record import (
    Judgement,
    Kind,
    LossStage,
    ProbeResult,
    Reason,
    Source,
    StoreFile,
)
from observer.series import CHANGES

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TEXTS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")

# Labels whose values are fixed.
VALUES: dict[tuple[str, str], Iterable[str]] = {
    ("match_decisions_total", "result"): set(Source) - {Source.HANG},
    ("what_if_devices", "semantics"): SEMANTICS,
    ("judgements_total", "judgement"): Judgement,
    ("boot_decisions_total", "judgement"): Judgement,
    ("divergences_total", "kind"): Kind,
    ("indeterminate_total", "reason"): Reason,
    ("probe_results_total", "result"): ProbeResult,
    ("events_total", "stage"): ("emitted", "received", "decoded"),
    ("events_lost_total", "stage"): LossStage,
    ("hook_attached", "hook"): HOOKS,
    ("hook_attached", "method"): METHODS,
    ("probe_misses_total", "hook"): HOOKS,
    ("findings", "finding"): Name,
    ("sysfs_writes_total", "file"): StoreFile,
    ("sysfs_writes_total", "judgement"): Judgement,
    ("picture_disagreements_total", "field"): Field,
    ("device_change_info", "change"): CHANGES,
    ("label_sets_dropped_total", "label"): ("address", "driver", "ids"),
    ("store_rows_total", "stage"): ("offered", "written"),
    ("store_rows_dropped_total", "stage"): ("queue", "disk"),
    ("hooked_calls_total", "call"): ("match", "probe", "write"),
    ("hooked_calls_total", "at"): ("entry", "return", "return_without_entry"),
}


def section(title: str) -> str:
    """Return what stands in README.md under a heading."""
    return README.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def rows(text: str, first: str) -> dict[str, list[str]]:
    """Return the table whose first heading is this, by its first column."""
    table = text.split(f"| {first} |", 1)[1].split("\n\n", 1)[0]
    lines = [line for line in table.splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0].strip("`"): row[1:] for row in cells}


def labels(cell: str) -> dict[str, list[str]]:
    """Return labels, and the values that are listed for them."""
    found = re.findall(r"`(\w+)`(?: = ([^`;]+))?", cell)
    return {
        name: values.strip().split(", ") if values else [] for name, values in found
    }


def help_of(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Return what the command prints for --help."""
    with pytest.raises(SystemExit):
        main([*arguments, "--help"])
    return capsys.readouterr().out


def test_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    """README.md lists the verbs that there are, and gives an example of each."""
    text = section("The command")
    offered = set(re.findall(r"(?m)^ {4}(\w[\w-]*)(?: |$)", help_of([], capsys)))
    assert offered == rows(text, "verb").keys()
    assert offered == set(re.findall(r"(?m)^pci-observer ([\w-]+)", text))


def test_options(capsys: pytest.CaptureFixture[str]) -> None:
    """Every option in README.md's text on the command is one of a verb's."""
    verbs = (
        "run",
        "record",
        "replay",
        "doctor",
        "predict",
        "semantics",
        "status",
        "audit",
        "explain",
        "diff",
        "baseline",
        "history",
        "preflight",
        "boot-args",
        "config",
    )
    offered = "".join(help_of([verb], capsys) for verb in verbs)
    for option in set(re.findall(r"--[a-z][a-z-]+", section("The command"))) - {
        "--help"
    }:
        assert f"{option} " in offered or f"{option}\n" in offered


def test_metrics() -> None:
    """README.md's table is what is exported: names, types and labels."""
    table = rows(section("Metrics"), "name")
    exported = {name.removeprefix(PREFIX): each for name, each in families().items()}
    assert exported.keys() == table.keys()
    for name, family in exported.items():
        assert family.type == table[name][0].split()[0]
        assert family.labels == labels(table[name][1]).keys()


def test_label_values() -> None:
    """README.md lists all values of the labels that have a fixed set of them."""
    table = rows(section("Metrics"), "name")
    listed = {
        (name, label): set(values)
        for name, cells in table.items()
        for label, values in labels(cells[1]).items()
        if values
    }
    assert {key: set(map(str, values)) for key, values in VALUES.items()} == listed


ACCESS = (ROOT / "docs/access.md").read_text(encoding="utf-8")


def yaml_blocks() -> list[str]:
    """Return the files that docs/access.md shows."""
    return re.findall(r"(?ms)^```yaml\n(.*?)^```$", ACCESS)


def test_web_config_keys() -> None:
    """docs/access.md lists the keys that are taken, and no other ones."""
    taken = {
        f"{where}.{key}" if where else key
        for where, keys in web_config.KEYS.items()
        for key in keys
    }
    assert taken == rows(ACCESS, "key").keys()


def test_web_config_example() -> None:
    """The file that docs/access.md shows is taken; so is the one for Prometheus."""
    shown = web_config.parse(Path("web.yml"), yaml_blocks()[0].encode())
    assert shown.tls is not None
    assert ("TLS13", {"prometheus"}) == (shown.tls.min_version, shown.users.keys())
    other = web_config.read(ROOT / "docs/collection/web-config.yml")
    assert {"operator"} == other.users.keys()


def test_web_config_scrape(tmp_path: Path) -> None:
    """Prometheus takes what docs/access.md tells it."""
    text = yaml_blocks()[1].replace("/etc/prometheus", str(tmp_path))
    for name in re.findall(rf"{re.escape(str(tmp_path))}/(\S+)", text):
        (tmp_path / name).touch()
    path = tmp_path / "prometheus.yml"
    path.write_text(text)
    done = subprocess.run(
        ["promtool", "check", "config", path],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert 0 == done.returncode, done.stdout + done.stderr


def test_semantics() -> None:
    """README.md names all semantics, and no other ones."""
    assert SEMANTICS.keys() == set(
        re.findall(r"`((?:linux-\d|rfc-)[\w.-]+)`", section("Semantics"))
    )


def test_hooks() -> None:
    """Each hook has a section with fields, caveats and overhead."""
    titles = re.findall(r"(?m)^## Hook: (.+)$", README)
    assert set(HOOKS) == {name for title in titles for name in title.split(", ")}
    for title in titles:
        parts = re.findall(r"(?m)^### (.+)$", section(f"Hook: {title}"))
        assert ["FIELDS", "CAVEATS", "OVERHEAD"] == parts


@pytest.mark.parametrize("name", TEXTS)
def test_targets(name: str) -> None:
    """Every make target in a text is in the Makefile."""
    text = (ROOT / name).read_text(encoding="utf-8")
    targets = set(re.findall(r"(?m)(?:^|`)make ([a-z-]+)", text))
    assert not {each for each in targets if f"\n{each}:" not in MAKEFILE}


@pytest.mark.parametrize("name", TEXTS)
def test_files(name: str) -> None:
    """Every file of ours that a text names is there."""
    text = (ROOT / name).read_text(encoding="utf-8")
    top = r"(?:observer|bpf|tests|systemd|dashboards|\.ci)/[\w./-]*"
    named = set(re.findall(rf"(?<![\w./-]){top}", text))
    assert not {each for each in named if not (ROOT / each.rstrip(".")).exists()}


def test_changelog() -> None:
    """The changelog has a place for what comes and a section for this version."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert "\n## [Unreleased]\n" in text
    assert f"\n## [{__version__}] - " in text


def test_version() -> None:
    """The command tells the version of the package."""
    command = [sys.executable, "-m", "observer", "--version"]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, cwd=ROOT, timeout=30
    )
    assert f"{__version__}\n" == done.stdout


def test_licences() -> None:
    """Everything below bpf/ names both licences in its first line."""
    first = "SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0"
    files = [path for path in (ROOT / "bpf").rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert first in path.read_text(encoding="utf-8").splitlines()[0]


def test_boot_args_for_grub(tmp_path: Path) -> None:
    """The commands make a file that gives GRUB the first word in single quotes."""
    text = section("Decisions before user space")
    commands = text.split("```sh\n")[1].split("update-grub")[0]
    word, rest = "kprobe_event=p:g/m,f;r64:g/r,f,b=$retval,c=+0(%di)", "ftrace=nop x=y"
    ours = tmp_path / "pci-observer"
    ours.write_text(f"#!/bin/sh\necho '{word} {rest}'\n")
    ours.chmod(0o755)
    file = "/etc/default/grub.d/pci-observer.cfg"
    made = tmp_path / "made.cfg"
    script = commands.replace(file, str(made))
    told = subprocess.run(
        ["sh", "-euc", f'{script}\n. {made}\nprintf %s "$GRUB_CMDLINE_LINUX"'],
        env={"GRUB_CMDLINE_LINUX": "quiet", "PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"quiet '{word}' {rest}" == told.stdout


def test_faults() -> None:
    """Each fault in docs/faults.md has tests that there are, and each test a fault."""
    text = (ROOT / "docs/faults.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(test_\w+)`", text))
    there = {
        name
        for path in (ROOT / "tests").glob("test_*.py")
        for name in re.findall(r"(?m)^def (test_\w+)", path.read_text(encoding="utf-8"))
    }
    assert named - there == set()
    assert len([line for line in text.splitlines() if "`test_" in line]) > 10
