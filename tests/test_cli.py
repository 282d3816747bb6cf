"""observer/cli.py: exit statuses, one-line errors, nothing hostile to a terminal."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import machines
import pytest
from kept import keep
from machines import device
from pictures import file_of

from observer import __version__, cli, control
from observer.boot_args import command_line
from observer.btf import Btf
from observer.cli import FINDING, GOOD, UNOBSERVABLE, USAGE, main
from observer.layout import layout_of
from observer.model import SEMANTICS
from observer.record import (
    Device,
    Driver,
    Id,
    Inputs,
    Loss,
    LossStage,
    Match,
    Outcome,
    Record,
    Source,
    Task,
)
from observer.recording import Header, Writer

VERBS = (
    *("run", "record", "replay", "doctor", "predict", "semantics", "status"),
    *("history", "diff", "baseline", "preflight", "boot-args"),
)
BTF = Path(__file__).parent / "btf" / "6.1.0-56-amd64.btf"
HEADER = Header("6.1.0-56-amd64", "x86_64", {"name": "E"}, "linux-5.15")
DRIVER = Driver(1, "e1000", (Id(1, 2),))
AGREE = Match(
    5,
    Task(1, 1, "modprobe", 0),
    "0000:00:02.0",
    False,
    Inputs(Device(1, 2, 3, 4, 5), DRIVER),
    Outcome(Source.STATIC, 0),
)
DIVERGE = AGREE._replace(outcome=Outcome(Source.NONE))
OVERRIDE_ONLY = AGREE._replace(
    inputs=AGREE.inputs._replace(
        driver=DRIVER._replace(id_table=(Id(1, 2, override_only=1),))
    )
)
HOSTILE = "\x1b]0;owned\x07\nagree 99 \u202e"
# Root without any capability: no kernel lets it trace.
POWERLESS = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Return where to record."""
    return tmp_path / "r.jsonl"


def record(path: Path, *fed: Record, header: Header = HEADER) -> str:
    """Write a recording; return its name."""
    with Writer(path, header) as writer:
        for each in fed:
            writer.write(each)
    return str(path)


def powerless(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command without the privilege to trace."""
    return subprocess.run(
        [*POWERLESS, sys.executable, "-m", "observer", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


def exited(*arguments: str) -> object:
    """Return the status with which argparse ends the command."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    return caught.value.code


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Help is there for each verb and tells the exit statuses."""
    assert GOOD == exited(*verb.split(), "--help")
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.startswith(f"usage: pci-observer {verb}".strip())
    assert "exit status: 0 good, 1 a finding, 2 wrong usage or bad input" in shown


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """The version is the package's."""
    assert (GOOD, f"{__version__}\n") == (exited("--version"), capsys.readouterr().out)


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        "no-such-verb",
        "run --attach magic",
        "run --semantics linux-9.0",
        "run --ring-bytes 5000",
        "run --ring-bytes 2048",
        "run --ring-bytes 2147483648",
        "run --ring-bytes many",
        "run --state-days 0",
        "run --state-mib 7",
        "run --state-mib 1000001",
        "run --state-mib all",
        "record -o r --state d",
        "history a b",
        "record",
        "replay",
        "replay r --semantics linux-9.0",
        "replay r --json --metrics",
        "doctor --yaml",
    ],
)
def test_usage(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong usage is told on stderr, its last line says what is wrong."""
    assert USAGE == exited(*arguments.split())
    output, errors = capsys.readouterr()
    assert "" == output
    assert "error: " in errors.splitlines()[-1]


def test_slugs_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """A slug that does not exist is answered with those that do."""
    exited("replay", "r", "--semantics", "linux-9.0")
    last = capsys.readouterr().err.splitlines()[-1]
    assert [] == [slug for slug in SEMANTICS if slug not in last]


@pytest.mark.parametrize(
    ("fed", "status"),
    [
        ([], GOOD),
        ([AGREE], GOOD),
        ([AGREE, DIVERGE], FINDING),
        ([Loss(0, 1, LossStage.RESERVE, 1)], GOOD),
    ],
)
def test_replay_status(recording: Path, fed: list[Record], status: int) -> None:
    """A divergence is a finding; all else is good."""
    assert status == main(["replay", record(recording, *fed)])


def test_replay_by_other_semantics(recording: Path) -> None:
    """The semantics that is named judges."""
    name = record(recording, OVERRIDE_ONLY)
    assert [FINDING, GOOD] == [
        main(["replay", name]),
        main(["replay", name, "--semantics", "linux-3.16"]),
    ]


def test_replay_text(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A line for each divergence, then the totals."""
    main(["replay", record(recording, AGREE, DIVERGE)])
    first, *rest = capsys.readouterr().out.splitlines()
    assert first.startswith(
        "expected_not_matched: e1000 and 0000:00:02.0: the kernel answered none, "
        "the model static 0: "
    )
    assert [
        "kernel         6.1.0-56-amd64",
        "semantics      linux-5.15",
        "truncated      False",
        "decisions      2",
        "agree          1",
        "diverge        1",
        "indeterminate  0",
        "divergences    1",
        "lost           {}",
        "what_if_devices {}",
    ] == rest


def test_replay_json(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A JSON object for each divergence, a summary last."""
    main(["replay", "--json", record(recording, AGREE, DIVERGE)])
    divergence, last = map(json.loads, capsys.readouterr().out.splitlines())
    named = divergence["kind"], divergence["driver"], divergence["model_index"]
    assert ("expected_not_matched", "e1000", 0) == named
    assert (2, 1) == (last["summary"]["decisions"], last["summary"]["diverge"])


def test_replay_what_if(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Other semantics are heard when they are asked for, before the summary."""
    main(["replay", "--json", "--what-if", record(recording, OVERRIDE_ONLY)])
    *_, difference, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert "hang" == difference["what_if"]["rfc-2021-06-17"]
    assert 1 == last["summary"]["what_if_devices"]["rfc-2021-06-17"]


def test_replay_metrics(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The metrics are printed as they are served, and nothing else."""
    main(["replay", "--metrics", record(recording, DIVERGE)])
    output = capsys.readouterr().out
    expected = 'divergences_total{driver="e1000",kind="expected_not_matched"} 1.0\n'
    assert f"\npci_observer_{expected}" in output
    assert output.startswith("# HELP ")


@pytest.mark.parametrize("form", [[], ["--json"], ["--metrics"]])
def test_hostile_names(
    recording: Path, form: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Names in a recording can't speak to the terminal or make lines of their own."""
    driver = DRIVER._replace(name=HOSTILE)
    inputs = DIVERGE.inputs._replace(driver=driver, driver_override=HOSTILE)
    match = DIVERGE._replace(inputs=inputs, address=HOSTILE)
    header = HEADER._replace(release=HOSTILE, layout={"name": HOSTILE + "\udcff"})
    main(["replay", *form, record(recording, match, header=header)])
    output = capsys.readouterr().out
    assert output.replace("\n", "").isprintable()
    assert "\nagree 99" not in output


def failed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the one line that a bad input is answered with."""
    assert USAGE == main(arguments)
    output, errors = capsys.readouterr()
    (line,) = errors.splitlines()
    assert ("", True) == (output, line.isprintable())
    return line


def test_no_recording(capsys: pytest.CaptureFixture[str], recording: Path) -> None:
    """A file that does not exist is named."""
    expected = f"pci-observer: {recording}: No such file or directory"
    assert expected == failed(capsys, "replay", str(recording))


def test_bad_recording(capsys: pytest.CaptureFixture[str], recording: Path) -> None:
    """What is wrong with a recording is told by file, line and field."""
    recording.write_text('{"format": "something else"}\n')
    expected = f"pci-observer: {recording}: line 1: format: not pci-observer-recording"
    assert expected == failed(capsys, "replay", str(recording))


def test_broken_line(capsys: pytest.CaptureFixture[str], recording: Path) -> None:
    """So is what is wrong in the middle."""
    record(recording, AGREE)
    with recording.open("a") as file:
        file.write('{"record": "loss"}\n')
    expected = f"pci-observer: {recording}: line 4: since_ns: missing"
    assert expected == failed(capsys, "replay", str(recording))


def test_recording_of_unknown_semantics(
    capsys: pytest.CaptureFixture[str], recording: Path
) -> None:
    """A recording's own slug may be one that we do not know, or a hostile one."""
    name = record(recording, header=HEADER._replace(semantics=HOSTILE))
    assert r"semantics: \x1b]0;owned" in failed(capsys, "replay", name)


def test_hostile_file_name(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A file's name can't speak to the terminal either."""
    assert r"\x1b[31m\nr: No such" in failed(
        capsys, "replay", str(tmp_path / "\x1b[31m\nr")
    )


@pytest.fixture
def snapshots(tmp_path: Path) -> tuple[str, str]:
    """Return two files that `audit --json` wrote, of a device bound and unbound."""
    names = []
    for name, bound in (("before", "e1000"), ("after", None)):
        path = tmp_path / name
        path.write_text(json.dumps(file_of(machines.machine(device(bound=bound)))))
        names.append(str(path))
    return names[0], names[1]


def test_diff(snapshots: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """A difference is a finding; neither a daemon nor its state is needed."""
    before, after = snapshots
    assert GOOD == main(["diff", before, before, "--state", "/nowhere"])
    assert "No difference." == capsys.readouterr().out.splitlines()[-1]
    assert FINDING == main(["diff", before, after, "--state", "/nowhere"])
    assert "1 difference." == capsys.readouterr().out.splitlines()[-1]
    assert FINDING == main(["diff", before, after, "--json"])
    (change,) = json.loads(capsys.readouterr().out)["changes"]
    assert ("driver_lost", "e1000", None) == (
        *(change["kind"], change["before"]),
        change["after"],
    )


def test_diff_with_now(
    snapshots: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a daemon this machine is looked at."""
    socket = str(tmp_path / "none.sock")
    status = main(["diff", snapshots[0], "now", "--json", "--socket", socket])
    told = json.loads(capsys.readouterr().out)
    assert status == (FINDING if told["changes"] else GOOD)
    assert os.uname().release == told["after"]["release"]


def test_diff_of_a_bad_file(
    snapshots: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """What is wrong is told by file and field."""
    before, after = snapshots
    Path(after).write_text('{"format": "pci-observer-audit", "version": 1}')
    expected = f"pci-observer: {after}: kernel: missing"
    assert expected == failed(capsys, "diff", before, after)


def test_diff_with_a_boot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], snapshots: tuple[str, str]
) -> None:
    """The state says what was bound then."""
    keep(tmp_path)
    state = ["--state", str(tmp_path)]
    assert GOOD == main(["diff", "6.1", "boot:-0", *state])
    assert "6.1: Linux 6.1, " in capsys.readouterr().out
    assert FINDING == main(["diff", "baseline", snapshots[1], *state])
    capsys.readouterr()
    assert "no/such: No such" in failed(capsys, "diff", "no/such", "6.1", *state)
    assert "6.2: neither a file" in failed(capsys, "diff", "6.2", "6.1", *state)


def test_baseline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Shown, accepted, shown again."""
    keep(tmp_path)
    where = ["--state", str(tmp_path), "--socket", str(tmp_path / "none.sock")]
    main(["baseline", *where])
    assert capsys.readouterr().out.startswith("baseline: Linux 6.1, ")
    assert GOOD == main(["baseline", "--accept", *where])
    release = os.uname().release
    assert capsys.readouterr().out.startswith(f"baseline: Linux {release}, ")
    assert GOOD == main(["baseline", "--json", *where])
    assert 0 == json.loads(capsys.readouterr().out)["differences"]
    absent = str(tmp_path / "none")
    assert "is not there" in failed(capsys, "baseline", "--state", absent)


def test_bad_address(capsys: pytest.CaptureFixture[str]) -> None:
    """An address that can't be listened on is wrong usage."""
    with pytest.raises(SystemExit) as ended:
        main(["run", "--listen", "nowhere"])
    assert USAGE == ended.value.code
    line = capsys.readouterr().err.splitlines()[-1]
    assert "--listen: 'nowhere' is no address to listen on: write 127.0.0.1" in line


@pytest.mark.parametrize("words", [["run", "--config"], ["config", "--check"]])
def test_bad_configuration(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line for each mistake, and nothing is begun."""
    file = tmp_path / "x.toml"
    file.write_text("series = 1\nfrob = 2\n")
    assert USAGE == main([*words, str(file)])
    first, second = capsys.readouterr().err.splitlines()
    assert f"pci-observer: {file}:1: series: 1 is not within 200 and 2000" == first
    assert second.startswith(f"pci-observer: {file}:2: frob: there is no such option;")


def test_good_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is good is said, or shown; the file that it names is looked at as well."""
    file, web = tmp_path / "x.toml", tmp_path / "web.yml"
    file.write_text(f'series = 200\nweb.config.file = "{web}"\n')
    web.write_text("http_server_config: {}\n")
    assert GOOD == main(["config", "--check", str(file)])
    assert f"{file}: 2 options are set, all well\n" == capsys.readouterr().out
    assert GOOD == main(["config", "--show", str(file)])
    assert "\nseries = 200\n" in capsys.readouterr().out
    web.write_text("x: 1\n")
    assert USAGE == main(["config", "--check", str(file)])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"pci-observer: {web}:1: x: ")


def test_configuration_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command line goes before the file, also when that is read again."""
    file = tmp_path / "x.toml"
    file.write_text("series = 200\nstate-days = 3\n")
    taken: list[Any] = []
    verbs = {"run": lambda options: taken.append(options) or GOOD}
    monkeypatch.setattr(cli, "_VERBS", verbs)
    assert GOOD == main(["run", "--series=250", "--config", str(file)])
    (options,) = taken
    assert (250, 3) == (options.series, options.state_days)
    file.write_text("series = 200\nstate-days = 4\n")
    again = options.read()
    assert (250, 4 * 86400 * 10**9) == (again.selection.limit, again.limits.age_ns)


def test_run_unobservable() -> None:
    """A kernel that must be observed and can't: told in the last line, by status 3."""
    done = powerless("run", "--listen", "127.0.0.1:0", "--require-hooks")
    assert (UNOBSERVABLE, "") == (done.returncode, done.stdout)
    attaching, line = done.stderr.splitlines()
    assert "attaching" == json.loads(attaching)["event"]
    assert line.startswith("pci-observer: ")


def test_record_unobservable(recording: Path) -> None:
    """Then nothing is recorded, not even a header."""
    done = powerless("record", "-o", str(recording))
    assert (UNOBSERVABLE, False) == (done.returncode, recording.exists())


def test_doctor_unobservable() -> None:
    """The doctor comes to the same verdict, and ends with it."""
    done = powerless("doctor")
    last = done.stdout.splitlines()[-1]
    assert (UNOBSERVABLE, "") == (done.returncode, done.stderr)
    assert "This kernel can't be observed from here; `run` only audits sysfs." == last


def test_doctor_text(capsys: pytest.CaptureFixture[str]) -> None:
    """A line for each check with its mark, then the verdict that the status says."""
    status = main(["doctor"])
    *lines, verdict = capsys.readouterr().out.splitlines()
    assert {"ok", "--"} >= {line.split()[0] for line in lines}
    assert (status == GOOD) == verdict.startswith("This kernel can be observed, by ")
    assert status in {GOOD, UNOBSERVABLE}


def test_doctor_json(capsys: pytest.CaptureFixture[str]) -> None:
    """The same as JSON, with the layout for a bug report."""
    status = main(["doctor", "--json"])
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert ["observable", "method", "checks", "layout"] == list(told)
    assert ["name", "good", "finding"] == list(told["checks"][0])
    assert told["observable"] == (status == GOOD)


def test_boot_args(capsys: pytest.CaptureFixture[str]) -> None:
    """One line for the kernel command line; beside it how long it is."""
    assert GOOD == main(["boot-args", "--btf", str(BTF)])
    told = capsys.readouterr()
    line = command_line(layout_of(Btf(BTF.read_bytes())))
    assert f"{line}\n" == told.out
    assert told.err.startswith(f"pci-observer: {len(line)} characters; besides them ")
    assert told.err.endswith(", and the kernel takes 2047\n")


def test_boot_args_that_do_not_fit(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are printed, and by how much they are too long."""
    length = len(command_line(layout_of(Btf(BTF.read_bytes()))))
    for rest, status in ((2047 - length - 1, GOOD), (2047 - length, FINDING)):
        words = "x" * rest
        monkeypatch.setattr("observer.kernel.command_line", lambda words=words: words)
        assert status == main(["boot-args", "--btf", str(BTF)])
    assert capsys.readouterr().err.endswith("takes 2047: too long by 1\n")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "No such file or directory"),
        (b"", "not a Linux x86 boot image (no HdrS)"),
        (b"\x9f\xeb\0\0", "BTF"),
    ],
)
def test_boot_args_of_no_kernel(
    content: bytes | None,
    problem: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Neither types nor an image: one line names the file."""
    file = tmp_path / "vmlinuz"
    if content is not None:
        file.write_bytes(content)
    assert USAGE == main(["boot-args", "--btf", str(file)])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"pci-observer: {file}: ")
    assert problem in line


@pytest.mark.parametrize("arguments", [["--help"], ["doctor"], ["replay", "/dev/null"]])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_reader_that_leaves(arguments: list[str], unbuffered: str) -> None:
    """A reader that has seen enough, such as head, is nothing to complain about."""
    command = subprocess.Popen(
        [sys.executable, "-m", "observer", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PYTHONUNBUFFERED": unbuffered} if unbuffered else {},
    )
    assert isinstance(command.stdout, io.IOBase)
    command.stdout.close()
    _, errors = command.communicate(timeout=60)
    assert [] == [line for line in errors.splitlines() if "BrokenPipe" in line]
    assert command.returncode in {GOOD, USAGE, UNOBSERVABLE}


def test_status_of_a_broken_daemon(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A daemon that gives no answer is one line and a status, no picture."""
    path = tmp_path / "observer.sock"
    with control.listen(path) as listener:

        def hang_up() -> None:
            listener.accept()[0].close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        assert USAGE == main(["status", "--once", "--socket", str(path)])
        thread.join()
    told = capsys.readouterr()
    assert "" == told.out
    assert f"pci-observer: the daemon behind {path} gave no whole" in told.err


def test_status_without_a_daemon(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a daemon this machine is looked at, or it is said why that can't be."""
    status = main(["status", "--once", "--socket", str(tmp_path / "observer.sock")])
    told = capsys.readouterr()
    assert status in (GOOD, UNOBSERVABLE)
    assert ("! no daemon: only the present is known" in told.out) == (status == GOOD)
    assert bool(told.err) == (status == UNOBSERVABLE)


@pytest.mark.parametrize("interval", ["0", "-1", "nan", "inf", "x"])
def test_status_interval(interval: str) -> None:
    """An interval that can't be waited is wrong usage."""
    with pytest.raises(SystemExit) as exit_info:
        main(["status", "--interval", interval])
    assert USAGE == exit_info.value.code


def test_preflight_of_no_kernel(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """One line says what is installed."""
    directory = tmp_path / "lib/modules/6.1.0"
    directory.mkdir(parents=True)
    (directory / "modules.dep").write_text("")
    line = failed(capsys, "preflight", "--kernel", "9\n9", "--root", str(tmp_path))
    assert line.endswith("; installed are 6.1.0")
    assert "9\\n9: no such kernel below " in line
    line = failed(capsys, "preflight", "--modules", str(tmp_path))
    assert "no directory of modules" in line


def test_preflight(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The machine that this runs on, before a kernel without any module."""
    directory = tmp_path / "lib/modules/6.1.0"
    directory.mkdir(parents=True)
    for name in ("alias", "dep", "softdep", "builtin", "builtin.modinfo"):
        (directory / f"modules.{name}").write_text("")
    socket = str(tmp_path / "no.sock")
    status = main(
        ["preflight", "--modules", str(directory), "--json", "--socket", socket]
    )
    written = json.loads(capsys.readouterr().out)
    assert "pci-observer-preflight" == written["format"]
    assert "6.1.0" == written["to"]["release"]
    assert (FINDING if written["changes"] else GOOD) == status
    assert status == main(
        ["preflight", "--modules", str(directory), "--socket", socket]
    )
    assert capsys.readouterr().out.startswith("Linux ")
