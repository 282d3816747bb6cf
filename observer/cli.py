"""The command ``pci-observer``: arguments in, exit status out."""

from __future__ import annotations

import argparse
import json
import os
import sys
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from observer import __version__
from observer.model import SEMANTICS
from observer.text import printable
from observer.unimportable import unimportable

# OpenSSL would take 6 MB of the daemon, and hashlib has hashes of its own.
with unimportable("_hashlib"):
    import hashlib  # noqa: F401

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from observer.btf import Btf
    from observer.daemon import Options
    from observer.machine import Machine

_Told_contra = TypeVar("_Told_contra", contravariant=True)


class _Form(Protocol[_Told_contra]):
    """A module that writes what a verb tells."""

    def as_object(self, told: _Told_contra, /) -> dict[str, object]:
        """Return it for programs."""

    def as_text(
        self, told: _Told_contra, clock: Callable[[int], str], /
    ) -> Iterator[str]:
        """Yield lines for a person."""


GOOD: Final = 0
FINDING: Final = 1  # a divergence, a regression, a difference
USAGE: Final = 2  # wrong usage or bad input
UNOBSERVABLE: Final = 3  # this kernel can't be observed

_MOST: Final = 1_000_000  # days or MiB of history

_DESCRIPTION: Final = "Observe and judge every PCI match decision of a Linux kernel."
_EXITS: Final = (
    "exit status: 0 good, 1 a finding, 2 wrong usage or bad input, "
    "3 this kernel can't be observed"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; return the exit status of contracts.md."""
    status = GOOD
    try:
        try:
            options = _parser().parse_args(arguments)
            verb: Callable[[argparse.Namespace], int] = options.verb
            status = verb(options)
        finally:
            if sys.stdout is not None:  # closed by who started us
                sys.stdout.flush()
    except BrokenPipeError:  # | head; what is left must not fail again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "pci-observer", description=_DESCRIPTION, epilog=_EXITS
    )
    parser.add_argument("--version", action="version", version=__version__)
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    _add_run(verbs)
    _add_record(verbs)
    _add_replay(verbs)
    _add_audit(verbs)
    _add_explain(verbs)
    _add_history(verbs)
    _add_diff(verbs)
    _add_baseline(verbs)
    _add_preflight(verbs)
    _add_doctor(verbs)
    _add_predict(verbs)
    _add_semantics(verbs)
    _add_status(verbs)
    _add_boot_args(verbs)
    return parser


_Verbs = argparse._SubParsersAction  # noqa: SLF001 - argparse has no public name


def _verb(
    verbs: _Verbs[argparse.ArgumentParser],
    name: str,
    function: Callable[[argparse.Namespace], int],
    text: str,
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=text, description=text, epilog=_EXITS)
    parser.set_defaults(verb=function)
    return parser


def _add_hook_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--attach",
        choices=("auto", "fentry", "kprobe"),
        default="auto",
        help="how to hook the kernel (default: fentry where it works and the kernel "
        "does not preempt itself, else kprobe)",
    )
    parser.add_argument(
        "--semantics",
        choices=("auto", *SEMANTICS),
        default="auto",
        metavar="SLUG",
        help=f"judge by this one instead of the kernel's own: {', '.join(SEMANTICS)}",
    )
    parser.add_argument(
        "--ring-bytes",
        type=_ring_bytes,
        metavar="N",
        help="size of the ring buffer, a power of two from 4096 on (default: 4 MiB)",
    )
    parser.add_argument(
        "--log-level",
        choices=("debug", "info", "warning", "error"),
        default="info",
        help="least severe lines to log (default: info)",
    )
    parser.add_argument(
        "--log-format",
        choices=("auto", "console", "json"),
        default="auto",
        help="how log lines look (default: console on a terminal, else json)",
    )


def _ring_bytes(text: str) -> int:
    value = int(text)
    if value < 4096 or value & (value - 1):  # noqa: PLR2004 - a page
        raise argparse.ArgumentTypeError(f"{text} is no power of two from 4096 on")
    return value


def _add_run(verbs: _Verbs[argparse.ArgumentParser]) -> None:
    parser = _verb(verbs, "run", _run, "Observe in the foreground until Ctrl-C.")
    _add_hook_options(parser)
    parser.add_argument(
        "--listen",
        default="127.0.0.1:9817",
        metavar="ADDR",
        help="serve metrics on this address (default: %(default)s)",
    )
    parser.add_argument(
        "--record", type=Path, metavar="FILE", help="keep all decisions in FILE as well"
    )
    _add_socket(parser, "unix socket for audit, explain and status to ask on")
    _add_state(parser, "keep history in this directory")
    parser.add_argument(
        "--no-state", action="store_true", help="keep no history of what is observed"
    )
    parser.add_argument(
        "--state-days",
        type=_number_from(1),
        default=30,
        metavar="N",
        help="delete decisions and probes once the machine ran for so long after them "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--state-mib",
        type=_number_from(8),
        default=256,
        metavar="N",
        help="let the file grow to this size (default: %(default)s)",
    )


def _add_state(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument(
        "--state",
        type=Path,
        metavar="DIR",
        help=f"{text} (default: $STATE_DIRECTORY, else /var/lib/pci-observer)",
    )


def _number_from(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        value = int(text)
        if not least <= value <= _MOST:
            raise argparse.ArgumentTypeError(
                f"{text} is not within {least} and {_MOST}"
            )
        return value

    return number


def _add_socket(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument(
        "--socket",
        type=Path,
        metavar="PATH",
        help=f"{text} (default: /run/pci-observer/observer.sock)",
    )


def _add_record(verbs: _Verbs[argparse.ArgumentParser]) -> None:
    parser = _verb(
        verbs, "record", _record, "Keep all decisions in a file until Ctrl-C."
    )
    _add_hook_options(parser)
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="FILE",
        help="file to write; compressed if it ends in .gz or .xz",
    )


def _add_replay(verbs: _Verbs[argparse.ArgumentParser]) -> None:
    parser = _verb(verbs, "replay", _replay, "Judge a recording.")
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument(
        "--semantics",
        choices=tuple(SEMANTICS),
        metavar="SLUG",
        help="judge by this one instead of the recording's own: "
        + ", ".join(SEMANTICS),
    )
    parser.add_argument(
        "--what-if",
        action="store_true",
        help="tell each decision that would differ under another semantics",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="JSON Lines, a summary last")
    form.add_argument("--metrics", action="store_true", help="print the metrics")


def _add_audit(verbs: _Verbs[argparse.ArgumentParser]) -> None:
    text = (
        "Judge the whole machine now: every device, who could have it, what is wrong."
    )
    parser = _verb(verbs, "audit", _audit, text)
    parser.add_argument("--json", action="store_true", help="the same as JSON")
    _add_semantics_option(parser)
    _add_socket(parser, "where the daemon answers")


def _add_explain(verbs: _Verbs[argparse.ArgumentParser]) -> None:
    text = "Say why a device is, or is not, bound to a driver."
    parser = _verb(verbs, "explain", _explain, text)
    parser.add_argument("address", metavar="ADDRESS", help="as 0000:00:02.0 or 00:02.0")
    parser.add_argument("--driver", metavar="NAME", help="why not this one")
    parser.add_argument("--json", action="store_true", help="the same as JSON")
    _add_semantics_option(parser)
    _add_socket(parser, "where the daemon answers")


def _add_history(verbs: _Verbs[argparse.ArgumentParser]) -> None:
    text = "Tell what was bound under which kernel, since when and by whom."
    parser = _verb(verbs, "history", _history, text)
    parser.add_argument(
        "address",
        nargs="?",
        metavar="ADDRESS",
        help="this device alone, with what happened to it; as 00:02.0",
    )
    parser.add_argument("--json", action="store_true", help="the same as JSON")
    _add_state(parser, "where the daemon keeps it")


def _add_diff(verbs: _Verbs[argparse.ArgumentParser]) -> None:
    text = "Say what changed between two pictures of a machine, or of two."
    parser = _verb(verbs, "diff", _diff, text)
    named = (
        "file that audit --json wrote, now, baseline, boot id, boot:-1 (one boot ago) "
        "or kernel release"
    )
    parser.add_argument("before", metavar="A", help=named)
    parser.add_argument("after", metavar="B", help="the same")
    parser.add_argument("--json", action="store_true", help="the same as JSON")
    _add_state(parser, "where the daemon keeps history")
    _add_socket(parser, "where the daemon answers")


def _add_baseline(verbs: _Verbs[argparse.ArgumentParser]) -> None:
    text = "Show the picture that other kernels are compared with, or take a new one."
    parser = _verb(verbs, "baseline", _baseline, text)
    parser.add_argument(
        "--accept", action="store_true", help="make the bindings of now the baseline"
    )
    parser.add_argument("--json", action="store_true", help="the same as JSON")
    _add_state(parser, "where the daemon keeps history")
    _add_socket(parser, "where the daemon answers")


def _add_preflight(verbs: _Verbs[argparse.ArgumentParser]) -> None:
    text = "Say what a kernel upgrade would change, before that kernel is booted."
    parser = _verb(verbs, "preflight", _preflight, text)
    kernel = parser.add_mutually_exclusive_group(required=True)
    kernel.add_argument(
        "--kernel", metavar="RELEASE", help="an installed kernel, as of uname -r"
    )
    kernel.add_argument(
        "--modules",
        type=Path,
        metavar="DIR",
        help="the kernel whose modules are there, as in /lib/modules/RELEASE or in an "
        "unpacked package",
    )
    parser.add_argument(
        "--image",
        type=Path,
        metavar="FILE",
        help="its vmlinuz (default: the one in /boot, or beside its modules)",
    )
    parser.add_argument(
        "--root",
        type=Path,
        default=Path("/"),
        metavar="DIR",
        help="where /etc, /lib/modules, /boot and /proc are (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="the same as JSON")
    _add_socket(parser, "where the daemon answers")


def _add_semantics_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--semantics",
        choices=tuple(SEMANTICS),
        metavar="SLUG",
        help=f"judge by this one instead of the kernel's own: {', '.join(SEMANTICS)}",
    )


def _add_doctor(verbs: _Verbs[argparse.ArgumentParser]) -> None:
    text = "Say whether this kernel can be observed, how, and what is missing."
    parser = _verb(verbs, "doctor", _doctor, text)
    parser.add_argument("--json", action="store_true", help="the same as JSON")


def _add_predict(verbs: _Verbs[argparse.ArgumentParser]) -> None:
    text = "Answer made-up cases, JSON Lines in, JSON Lines out."
    parser = _verb(verbs, "predict", _predict, text)
    parser.add_argument(
        "file",
        type=Path,
        nargs="?",
        metavar="FILE",
        help="cases to answer (default: standard input)",
    )
    parser.add_argument(
        "--semantics",
        metavar="SLUG",
        help="match by this one (default: the running kernel's, else linux-5.15): "
        + ", ".join(SEMANTICS),
    )
    parser.add_argument(
        "--new-id-rules",
        metavar="SLUG",
        help="write to new_id and remove_id by these (default: the running kernel's, "
        "else linux-7.3): linux-3.16, linux-5.11, linux-7.3",
    )


def _add_semantics(verbs: _Verbs[argparse.ArgumentParser]) -> None:
    text = "Show the semantics that the model knows, or the decision table of one."
    parser = _verb(verbs, "semantics", _semantics, text)
    parser.add_argument("slug", nargs="?", metavar="SLUG", help=", ".join(SEMANTICS))
    parser.add_argument("--json", action="store_true", help="the same as JSON")


def _add_status(verbs: _Verbs[argparse.ArgumentParser]) -> None:
    text = "Show devices, drivers, findings and losses, until Ctrl-C."
    parser = _verb(verbs, "status", _status, text)
    parser.add_argument(
        "--once", action="store_true", help="print it once, as where no terminal is"
    )
    parser.add_argument(
        "--interval",
        type=_interval,
        default=2.0,
        metavar="S",
        help="seconds from picture to picture (default: 2)",
    )
    _add_socket(parser, "where the daemon answers")


def _add_boot_args(verbs: _Verbs[argparse.ArgumentParser]) -> None:
    text = (
        "Print the kernel command line that records decisions made before user space "
        "runs."
    )
    parser = _verb(verbs, "boot-args", _boot_args, text)
    parser.add_argument(
        "--btf",
        type=Path,
        metavar="FILE",
        help="of this kernel: raw BTF, or a vmlinuz (default: the running one)",
    )


def _interval(text: str) -> float:
    value = float(text)
    if not 0.1 <= value <= 3600:  # noqa: PLR2004 - an hour
        raise argparse.ArgumentTypeError(f"{text} is not within 0.1 and 3600")
    return value


def _fail(sentence: object, status: int) -> int:
    print(f"pci-observer: {printable(str(sentence))}", file=sys.stderr)
    return status


def _tell(
    options: argparse.Namespace, form: _Form[_Told_contra], told: _Told_contra
) -> None:
    """Print it as JSON if that is asked for, else as text."""
    if options.json:
        print(json.dumps(form.as_object(told), indent=2))
    else:
        for line in form.as_text(told, _clock):
            print(line)


def _run(options: argparse.Namespace) -> int:
    from observer.daemon import Options  # noqa: PLC0415
    from observer.store import Limits  # noqa: PLC0415

    return _observe(
        options,
        Options(
            address=options.listen,
            socket=options.socket,
            recording=options.record,
            state=None if options.no_state else _state(options),
            limits=Limits.of(days=options.state_days, mib=options.state_mib),
        ),
    )


def _record(options: argparse.Namespace) -> int:
    from observer.daemon import Options  # noqa: PLC0415

    return _observe(options, Options(recording=options.output))


def _state(options: argparse.Namespace) -> Path:
    from observer import state_directory  # noqa: PLC0415

    state: Path = options.state or state_directory.default()
    return state


def _observe(options: argparse.Namespace, chosen: Options) -> int:
    # Each verb imports what it needs: the daemon stays small.
    from observer import daemon  # noqa: PLC0415
    from observer.attachment import AttachError  # noqa: PLC0415
    from observer.control import ControlError  # noqa: PLC0415
    from observer.privileges import PrivilegesError  # noqa: PLC0415
    from observer.server import ListenError  # noqa: PLC0415

    try:
        daemon.run(
            chosen._replace(
                method=options.attach,
                semantics=options.semantics,
                log_level=options.log_level,
                log_form=options.log_format,
                ring_bytes=options.ring_bytes,
            )
        )
    except (ListenError, ControlError) as e:
        return _fail(e, USAGE)
    except (AttachError, PrivilegesError) as e:
        return _fail(e, UNOBSERVABLE)
    except OSError as e:
        if chosen.recording is None or e.filename is None:
            raise
        return _fail(f"{e.filename}: {e.strerror}", USAGE)
    except KeyboardInterrupt:  # before the daemon takes signals itself
        return GOOD
    return GOOD


def _replay(options: argparse.Namespace) -> int:
    from observer import replay  # noqa: PLC0415
    from observer.recording import RecordingError  # noqa: PLC0415

    try:
        replayed = replay.replay(options.file, options.semantics)
    except RecordingError as e:
        return _fail(e, USAGE)
    except OSError as e:
        return _fail(f"{options.file}: {e.strerror}", USAGE)
    if options.metrics:
        print(replayed.metrics.render("")[0].decode(), end="")
    elif options.json:
        for line in replay.lines(replayed, what_if=options.what_if):
            print(json.dumps(line))
    else:
        for text in replay.sentences(replayed, what_if=options.what_if):
            print(printable(text))
    return FINDING if replayed.divergences else GOOD


def _audit(options: argparse.Namespace) -> int:
    from observer import audit  # noqa: PLC0415

    judged = audit.audit(_machine(options), options.semantics, _clock)
    _tell(options, audit, judged)
    return FINDING if audit.has_findings(judged) else GOOD


def _explain(options: argparse.Namespace) -> int:
    from observer import story, surroundings  # noqa: PLC0415

    machine = _machine(options)
    try:
        around = surroundings.look(
            story.find(machine, options.address), machine.release, driver=options.driver
        )
        told = story.story(
            machine,
            options.address,
            driver=options.driver,
            semantics=options.semantics,
            surroundings=around,
            clock=_clock,
        )
    except story.StoryError as e:
        return _fail(e, USAGE)
    _tell(options, story, told)
    return GOOD


def _history(options: argparse.Namespace) -> int:
    from observer import history, store, story  # noqa: PLC0415

    try:
        address = options.address and story.normalised(options.address)
        with store.Archive(_state(options) / store.FILE) as archive:
            read = history.read(archive, address)
    except (store.StoreError, story.StoryError) as e:
        return _fail(e, USAGE)
    _tell(options, history, read)
    return GOOD


def _diff(options: argparse.Namespace) -> int:
    from observer import comparison, pictures  # noqa: PLC0415
    from observer.store import FILE  # noqa: PLC0415

    def find(word: str) -> comparison.Side:
        return pictures.find(
            word, state=_state(options) / FILE, look=lambda: _machine(options)
        )

    try:
        compared = comparison.compare(find(options.before), find(options.after))
    except pictures.PictureError as e:
        return _fail(e, USAGE)
    _tell(options, comparison, compared)
    return FINDING if compared.changes else GOOD


def _baseline(options: argparse.Namespace) -> int:
    from observer import baseline, pictures  # noqa: PLC0415
    from observer.store import FILE  # noqa: PLC0415

    try:
        if options.accept:
            told = baseline.accept(_state(options) / FILE, _machine(options))
        else:
            told = baseline.show(_state(options) / FILE, _machine(options))
    except pictures.PictureError as e:
        return _fail(e, USAGE)
    _tell(options, baseline, told)
    return FINDING if told.changes else GOOD


def _preflight(options: argparse.Namespace) -> int:
    from observer import boot_files, preflight, sysfs, target  # noqa: PLC0415

    try:
        directory = options.modules or target.directory_of(options.kernel, options.root)
        there = target.installed(directory, options.root, image=options.image)
    except target.TargetError as e:
        return _fail(e, USAGE)
    machine = _machine(options)
    config, gaps = boot_files.read_boot_config(options.root)
    here = target.running(machine, options.root)
    predicted = preflight.preflight(
        machine, config, here, there, sysfs.module_names(), gaps
    )
    if options.json:
        print(json.dumps(preflight.as_object(predicted), indent=2))
    else:
        for line in preflight.as_text(predicted):
            print(line)
    return FINDING if preflight.has_changes(predicted) else GOOD


def _machine(options: argparse.Namespace) -> Machine:
    """Ask the daemon; where that can't be, look at the machine."""
    from observer import control, present, snapshot  # noqa: PLC0415
    from observer.fields import FieldError  # noqa: PLC0415

    gaps: tuple[str, ...] = ()
    try:
        answer = control.fetch(options.socket or control.SOCKET, "/machine")
        if answer is not None:
            return snapshot.from_object(answer)
    except control.ControlError as e:
        gaps = (f"What the daemon saw is not known: {e}.",)
    except FieldError as e:
        gaps = (f"What the daemon answered is not understood: {e}.",)
    machine = present.look()
    return machine._replace(gaps=(*gaps, *machine.gaps))


def _clock(unix_ns: int) -> str:
    """Spell a time as this machine has it; with the date where it is not today's."""
    try:
        moment = datetime.fromtimestamp(unix_ns / 1e9, UTC).astimezone()
    except (ValueError, OverflowError):  # a clock that was set to no year of ours
        return f"@{unix_ns // 10**9}"
    today = moment.date() == datetime.now(UTC).astimezone().date()
    return moment.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M:%S")


def _doctor(options: argparse.Namespace) -> int:
    from observer.doctor import examine  # noqa: PLC0415

    diagnosis = examine()
    if options.json:
        checks = [check._asdict() for check in diagnosis.checks]
        print(json.dumps(diagnosis._asdict() | {"checks": checks}, indent=2))
    else:
        for check in diagnosis.checks:
            mark = "ok" if check.good else "--"
            print(f"{mark}  {check.name:10} {printable(check.finding)}")
        verdict = (
            f"This kernel can be observed, by {diagnosis.method}."
            if diagnosis.observable
            else "This kernel can't be observed from here."
        )
        print(verdict)
    return GOOD if diagnosis.observable else UNOBSERVABLE


def _predict(options: argparse.Namespace) -> int:
    from observer import predict  # noqa: PLC0415

    try:
        chosen = predict.options(options.semantics, options.new_id_rules)
        with ExitStack() as exits:
            name, lines = "stdin", sys.stdin.buffer
            if options.file is not None:
                name, lines = options.file, exits.enter_context(options.file.open("rb"))
            for line in predict.answers(name, lines, chosen):
                print(line, flush=True)
    except predict.PredictError as e:
        return _fail(e, USAGE)
    except BrokenPipeError:
        raise
    except OSError as e:
        return _fail(f"{options.file}: {e.strerror}", USAGE)
    return GOOD


def _semantics(options: argparse.Namespace) -> int:
    from observer import semantics  # noqa: PLC0415

    if options.slug is not None and options.slug not in SEMANTICS:
        known = ", ".join(SEMANTICS)
        return _fail(f"{options.slug}: no such semantics; one of {known}", USAGE)
    if options.json:
        print(json.dumps(semantics.as_object(options.slug), indent=2))
    else:
        print(semantics.as_text(options.slug), end="")
    return GOOD


def _status(options: argparse.Namespace) -> int:
    from observer import control, present, status  # noqa: PLC0415

    try:
        status.show(
            lambda: status.view(options.socket or control.SOCKET, present.look),
            status.console(sys.stdout),
            once=options.once,
            interval_s=options.interval,
        )
    except control.ControlError as e:
        return _fail(e, USAGE)
    except KeyboardInterrupt:  # before there is a picture
        return GOOD
    return GOOD


def _boot_args(options: argparse.Namespace) -> int:
    from observer import boot_args, kernel  # noqa: PLC0415
    from observer.btf import BtfError  # noqa: PLC0415
    from observer.kernel_image import ImageError  # noqa: PLC0415
    from observer.layout import LayoutError, layout_of  # noqa: PLC0415

    try:
        btf = _types(options.btf) if options.btf else kernel.read_btf()
        line = boot_args.command_line(layout_of(btf))
    except ImageError as e:
        return _fail(e, USAGE)
    except (BtfError, LayoutError) as e:
        if options.btf is None:
            return _fail(e, UNOBSERVABLE)
        return _fail(f"{options.btf}: {e}", USAGE)
    except kernel.KernelError as e:
        return _fail(e, UNOBSERVABLE)
    print(line)
    rest = len(boot_args.without(kernel.command_line()))
    room = boot_args.LINE_BYTES - rest - 1 - len(line)
    told = (
        f"{len(line)} characters; besides them this boot's kernel command line has "
        f"{rest}, and the kernel takes {boot_args.LINE_BYTES}"
    )
    if room < 0:
        return _fail(f"{told}: too long by {-room}", FINDING)
    print(f"pci-observer: {told}", file=sys.stderr)
    return GOOD


def _types(path: Path) -> Btf:
    """Read a kernel's types from raw BTF, or out of its image."""
    from observer.btf import Btf, is_btf  # noqa: PLC0415
    from observer.kernel_image import ImageError, btf_of  # noqa: PLC0415

    try:
        with path.open("rb") as file:
            raw = is_btf(file.read(2))
        return Btf(path.read_bytes() if raw else btf_of(path))
    except OSError as e:
        raise ImageError(f"{path}: {e.strerror}") from None
