"""The packages: what is in them, and that it works where it is installed.

tests/live/installed.py runs in a guest, under a booted systemd. Another kernel there:
PCI_OBSERVER_KERNELS="7.3".
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any, Final

import pytest
from lab.machine import REPOSITORY
from live.boots import Boots, boot, progress
from prometheus_client.parser import text_string_to_metric_families

from observer import __version__

KERNELS: Final = os.environ.get("PCI_OBSERVER_KERNELS", "6.1").split()
PIP: Final = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
PRIVATE: Final = "usr/lib/pci-observer"
CASE: Final = {
    "device": {"vendor": "0x8086", "device": "0x100e", "class": "0x020000"}
    | {"subvendor": "0x1af4", "subdevice": "0x1100"},
    "driver": {"name": "e1000", "dynids": []}
    | {"id_table": [{"vendor": "0x8086", "device": "0x100e"}]},
    "driver_override": "vfio-pci",
}
# What comes along beside the modules, by the directory that it is taken from.
DATA: Final = {
    "bpf": ("bpf", r"\.[ch]$|\.json$"),
    "dashboards": ("dashboards", r"\.json$|\.yaml$"),
    "runbooks": ("docs/runbooks", r"\.md$"),
    "systemd": ("systemd", r""),
}
# Where Debian has it. What else is in the package is a module, or one vendored.
PLACES: Final = {
    "bpf": f"{PRIVATE}/observer/data/bpf",
    "dashboards": "usr/share/pci-observer/dashboards",
    "runbooks": "usr/share/pci-observer/runbooks",
}
CONFIGURATION: Final = (
    "etc/pci-observer/pci-observer.toml",
    "etc/pci-observer/web.yml",
)
DEPENDS: Final = {
    *("python3", "python3-bcrypt", "python3-rich", "python3-yaml", "python3:any"),
    "systemd",  # or what else makes users of sysusers.d
}


def run(*command: str | Path, **more: Any) -> str:  # noqa: ANN401 - subprocess.run's
    """Return what a command prints; fail with what it says when it fails."""
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        check=False,
        **more,
    )
    assert not done.returncode, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def made(target: str, directory: Path) -> Path:
    """Make a package; return its path in a directory, where no other making gets it."""
    ours = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
    with (REPOSITORY / "build" / ".lock-packages").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lines = run("make", target, cwd=REPOSITORY, env=ours).splitlines()
        return Path(shutil.copy(REPOSITORY / lines[-1], directory))


def files(directory: Path) -> dict[str, bytes]:
    """Return all files below a directory, with what is in them."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def data(name: str) -> dict[str, bytes]:
    """Return the files that must come along from a directory of the repository."""
    directory, pattern = DATA[name]
    found = files(REPOSITORY / directory)
    return {path: text for path, text in found.items() if re.search(pattern, path)}


def modules() -> dict[str, bytes]:
    """Return the modules of the package."""
    found = files(REPOSITORY / "observer")
    return {path: text for path, text in found.items() if path.endswith(".py")}


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a fresh environment with the wheel in it."""
    wheel = made("wheel", tmp_path_factory.mktemp("wheel"))
    directory = wheel.with_name("venv")
    venv.create(directory, symlinks=True, with_pip=False)
    offline = ("--no-index", "--find-links", REPOSITORY / "build" / "wheels")
    into = ("--python", directory / "bin" / "python")
    run(*PIP, *into, "install", *offline, wheel, cwd="/")
    return directory


@pytest.fixture(scope="session")
def deb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Debian package; lintian has seen it."""
    return made("deb", tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="session")
def unpacked(deb: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with the files of the Debian package."""
    directory = tmp_path_factory.mktemp("deb")
    run("dpkg-deb", "--extract", deb, directory)
    return directory


def test_the_wheel_runs_in_a_fresh_environment(installed: Path) -> None:
    """The command is there and tells its version, by a Python without our tree."""
    command = installed / "bin" / "pci-observer"
    told = run(command, "--version", cwd="/", env={})
    assert f"{__version__}\n" == told


def test_the_wheel_answers_cases(installed: Path) -> None:
    """The model is in it: predict and semantics answer."""
    command = (installed / "bin" / "pci-observer", "predict", "--semantics")
    more = {"cwd": "/", "env": {}, "input": json.dumps(CASE)}
    told = json.loads(run(*command, "linux-3.16", **more))
    assert ("linux-3.16", "none", None) == (
        told["semantics"],
        told["match"],
        told["index"],
    )
    table = run(installed / "bin" / "pci-observer", "semantics", cwd="/", env={})
    assert "linux-5.15" in table


def test_the_wheel_has_what_is_no_module(installed: Path) -> None:
    """Programs, dashboards, rules, runbooks and units are there, byte by byte."""
    (package,) = installed.glob("lib/python*/site-packages/observer")
    found = files(package / "data")
    expected = {f"{n}/{path}": text for n in DATA for path, text in data(n).items()}
    assert expected == found
    assert {
        *("bpf/fentry.x86_64.json", "dashboards/prometheus_alerts.yaml"),
        *("dashboards/pci-observer-host.json", "systemd/pci-observer.service"),
    } <= found.keys()


def test_the_wheel_finds_its_programs(installed: Path) -> None:
    """The programs that a daemon would load are those that the wheel brought along."""
    say = "from observer.shipped import BPF_DIR; print(BPF_DIR)"
    told = run(installed / "bin" / "python", "-I", "-c", say, cwd="/", env={})
    directory = Path(told.strip())
    assert directory.is_relative_to(installed)
    assert data("bpf") == files(directory)


def test_the_wheel_has_all_modules(installed: Path) -> None:
    """No module of the tree is left out, and no other comes along."""
    (package,) = installed.glob("lib/python*/site-packages/observer")
    found = files(package)
    assert modules() == {k: v for k, v in found.items() if k.endswith(".py")}


def test_the_debian_package_is_of_this_version(deb: Path) -> None:
    """debian/changelog tells the version of the program."""
    assert __version__ == run("dpkg-deb", "--field", deb, "Version").strip()


def test_the_debian_package_needs_what_debian_has(deb: Path) -> None:
    """All of it; the compiler is only recommended, since programs come along."""
    depends = run("dpkg-deb", "--field", deb, "Depends").strip()
    names = {re.split(r"[ (|]", each.strip())[0] for each in depends.split(",")}
    assert names == DEPENDS
    assert "python3-bpfcc\n" == run("dpkg-deb", "--field", deb, "Recommends")


def test_the_debian_package_has_all_modules(unpacked: Path) -> None:
    """The program and what Debian lacks are in a directory of their own."""
    directory = unpacked / PRIVATE
    found = files(directory / "observer")
    assert modules() == {k: v for k, v in found.items() if k.endswith(".py")}
    kinds = {path.name for path in directory.iterdir()}
    assert {"observer", "prometheus_client", "structlog"} == kinds


@pytest.mark.parametrize("name", PLACES)
def test_the_debian_package_has_what_is_no_module(unpacked: Path, name: str) -> None:
    """Programs, dashboards, rules and runbooks are where Debian has them."""
    assert data(name) == files(unpacked / PLACES[name])


def test_the_debian_package_has_the_units(unpacked: Path) -> None:
    """Every unit is installed as it is in the repository."""
    units = {
        path: text
        for path, text in data("systemd").items()
        if path.endswith((".service", ".socket"))
    }
    assert units
    assert units == files(unpacked / "lib" / "systemd" / "system")


def test_the_debian_package_has_configuration(deb: Path, unpacked: Path) -> None:
    """An operator's changes outlive upgrades; one of the files may hold secrets."""
    told = run("dpkg-deb", "--info", deb, "conffiles")
    assert [f"/{path}" for path in CONFIGURATION] == told.split()
    modes = [stat.S_IMODE((unpacked / path).stat().st_mode) for path in CONFIGURATION]
    assert [0o644, 0o640] == modes


def test_the_debian_package_knows_nothing_of_the_machine(
    deb: Path, unpacked: Path
) -> None:
    """All is root's and writable for nobody else; no path of the build is in it."""
    listed = run("dpkg-deb", "--contents", deb).splitlines()
    assert listed
    for line in listed:
        mode, owner = line.split()[:2]
        assert "root/root" == owner
        assert "-" == mode[5] == mode[8]
    here = str(REPOSITORY).encode()
    assert not [path for path, text in files(unpacked).items() if here in text]


def options() -> tuple[set[str], set[str]]:
    """Return all verbs, and all options of them."""
    command = (sys.executable, "-m", "observer")
    told = run(*command, "--help", cwd=REPOSITORY)
    verbs = set(re.findall(r"(?m)^ {4}(\w[\w-]*)(?: |$)", told))
    for verb in verbs:
        told += run(*command, verb, "--help", cwd=REPOSITORY)
    return verbs, set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", told))


def test_the_manual_page_has_every_option(unpacked: Path) -> None:
    """It is well formed, and names all verbs with all that they take."""
    page = unpacked / "usr/share/man/man1/pci-observer.1.gz"
    environ = {"MANWIDTH": "2000", "LC_ALL": "C.UTF-8", "PATH": os.environ["PATH"]}
    command = ("man", "--warnings", "--encoding=UTF-8", "--local-file", page)
    done = subprocess.run(
        command, env=environ, capture_output=True, text=True, check=True
    )
    assert "" == done.stderr
    verbs, words = options()
    assert 14 <= len(verbs)
    assert verbs == set(re.findall(r"(?m)^ {3}pci-observer ([\w-]+)$", done.stdout))
    terms = "".join(re.findall(r"(?m)^ {7}(-.*\n)", done.stdout))
    assert words == set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", terms))


def test_bash_completes(unpacked: Path) -> None:
    """Bash offers verbs, and a verb's options."""
    file = unpacked / "usr/share/bash-completion/completions/pci-observer"
    script = """
        . /usr/share/bash-completion/bash_completion
        . "$1"
        set -- $(complete -p pci-observer) -- "${@:2}"
        while [ "$1" != -F ]; do shift; done
        function=$2
        while [ "$1" != -- ]; do shift; done
        COMP_WORDS=("${@:2}") COMP_CWORD=$(($# - 2)) COMP_LINE="${*:2}"
        COMP_POINT=${#COMP_LINE}
        word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}
        $function pci-observer "$word" "$before"
        echo "${COMPREPLY[@]}"
    """
    bash = ("bash", "-c", script, "bash", file, "pci-observer")
    assert "audit\n" == run(*bash, "aud")
    assert "--listen\n" == run(*bash, "run", "--li")


def test_fish_completes(unpacked: Path) -> None:
    """Fish offers verbs, and a verb's options."""
    file = unpacked / "usr/share/fish/vendor_completions.d/pci-observer.fish"
    script = 'source $argv[1]; complete --do-complete "$argv[2]"'
    fish = ("fish", "--no-config", "--command", script, file)
    words = ["pci-observer aud", "pci-observer run --li"]
    told = [run(*fish, each).split("\t")[0] for each in words]
    assert ["audit", "--listen"] == told


def test_zsh_completes(unpacked: Path, tmp_path: Path) -> None:
    """Zsh completes verbs, and a verb's options."""
    directory = unpacked / "usr/share/zsh/vendor-completions"
    script = REPOSITORY / "tests" / "lab" / "completed.zsh"
    told = []
    for number, words in enumerate(["pci-observer aud", "pci-observer run --li"]):
        file = tmp_path / str(number)
        run("zsh", "-f", script, directory, words, file, timeout=60)
        told.append(file.read_text().strip())
    assert ["pci-observer audit", "pci-observer run --listen"] == told


@pytest.fixture(scope="session")
def boots(
    deb: Path, tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Boots:
    """All guests; each boots when a test first asks for it."""

    def start(kernel: str) -> dict[str, Any]:
        directory = tmp_path_factory.mktemp(f"installed-{kernel}")
        package = shutil.copy(deb, directory)
        say = progress(pytestconfig)
        module = "live.installed"
        result: dict[str, Any] = boot(
            kernel, module, directory, say, package, systemd=True
        )
        return result

    return Boots(start)


@pytest.fixture(params=KERNELS)
def seen(request: pytest.FixtureRequest, boots: Boots) -> dict[str, Any]:
    """Return what happened under one kernel."""
    found: dict[str, Any] = boots[request.param]
    return found


def good(seen: dict[str, Any], *names: str) -> None:
    """Check that commands ended well."""
    for name in names:
        assert not seen[name]["status"], seen[name]


@pytest.mark.guest
def test_installing_starts_the_daemon(seen: dict[str, Any]) -> None:
    """After dpkg --install the unit is enabled and at work, as a user of its own."""
    assert ("systemd", []) == (seen["init"], seen["before"])
    assert not seen["known_before"]
    good(seen, "install", "verify")
    first = seen["first"]
    assert first["ready"], first
    expected = ("active", "running", "enabled", "0")
    names = ("ActiveState", "SubState", "UnitFileState", "NRestarts")
    assert expected == tuple(first["unit"][name] for name in names)
    assert "pci-observer" == first["user"]
    assert "attaching" in first["journal"]["out"]


@pytest.mark.guest
def test_the_installed_daemon_observes(seen: dict[str, Any]) -> None:
    """Its metrics are served, and its hooks are there."""
    for name in ("first", "second"):
        attached = {
            sample.labels["hook"]
            for family in text_string_to_metric_families(seen[name]["metrics"])
            for sample in family.samples
            if sample.name == "pci_observer_hook_attached" and sample.value
        }
        assert "pci_match_device" in attached


@pytest.mark.guest
def test_the_installed_command_works(seen: dict[str, Any]) -> None:
    """Verbs run by Debian's Python, and the daemon answers those that ask it."""
    good(seen, "doctor", "semantics")
    assert "This kernel can be observed" in seen["doctor"]["out"]
    for name in ("first", "second"):
        good(seen[name], "status")
        assert f"pci-observer {__version__} on" in seen[name]["status"]["out"]


@pytest.mark.guest
def test_manual_pages_and_completions_are_found(seen: dict[str, Any]) -> None:
    """By man and by bash, without being told where they are."""
    for name in ("pci-observer", "pci-observer.toml"):
        page = seen["man"][name]
        assert (0, "") == (page["status"], page["err"])
        assert f"{name.upper()}(" in page["out"]
    assert "audit\n" == seen["completed"]["out"]


@pytest.mark.guest
def test_secrets_are_the_daemons_alone(seen: dict[str, Any]) -> None:
    """Passwords' hashes can be read by the daemon, and by nobody else."""
    expected = {"mode": "640", "owner": "root", "group": "pci-observer"}
    assert expected == seen["access"]


@pytest.mark.guest
def test_the_daemon_stops(seen: dict[str, Any]) -> None:
    """Systemctl stop ends it, as a success."""
    good(seen, "stop")
    stopped = seen["stopped"]
    assert ("inactive", "success") == (stopped["ActiveState"], stopped["Result"])


@pytest.mark.guest
def test_an_upgrade_restarts_it(seen: dict[str, Any]) -> None:
    """Another installation starts the daemon again and keeps what was configured."""
    good(seen, "upgrade")
    assert seen["second"]["ready"], seen["second"]
    assert seen["kept"]


@pytest.mark.guest
def test_removing_keeps_state_and_configuration(seen: dict[str, Any]) -> None:
    """The program is gone and nothing runs; what an operator may miss is there."""
    good(seen, "remove")
    assert not seen["removed"]["running"]
    assert seen["removed"]["kept"]
    assert {f"/{path}" for path in CONFIGURATION} == set(seen["removed"]["brought"])
    assert seen["removed"]["history"]
    assert seen["removed"]["known"]


@pytest.mark.guest
def test_purging_leaves_nothing(seen: dict[str, Any]) -> None:
    """Neither state nor configuration, and nothing that systemd kept of it."""
    good(seen, "purge")
    assert ([], []) == (seen["purged"]["brought"], seen["purged"]["left"])
