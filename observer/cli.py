"""The command ``pci-observer``: arguments in, exit status out."""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from observer import config
from observer.arguments import parser, run_options
from observer.slugs import SLUGS
from observer.text import printable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from observer.btf import Btf
    from observer.daemon import Options
    from observer.loading import Loading
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

_OBSERVING: Final = ("run", "record")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; return the exit status of contracts.md."""
    status = GOOD
    try:
        try:
            options = _options(arguments)
            status = _VERBS[options.verb](options)
        except config.ConfigError as e:
            for mistake in str(e).splitlines():
                status = _fail(mistake, USAGE)
        except KeyboardInterrupt:
            if options.verb not in _OBSERVING:
                raise  # else told to stop before the daemon takes signals itself
        finally:
            if sys.stdout is not None:  # closed by who started us
                sys.stdout.flush()
    except BrokenPipeError:  # | head; what is left must not fail again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Take the command line apart, and the file that it names. Raises ConfigError."""
    given = parser().parse_args(arguments)
    if given.verb != "run" or given.config is None:
        return given
    known = run_options()
    defaults = config.defaults(config.read(given.config, known), known, given)
    options = parser(defaults).parse_args(arguments)
    options.read = lambda: _chosen(_options(arguments))
    return options


def _config(options: argparse.Namespace) -> int:
    known = run_options()
    settings = config.read(options.file, known)
    access = config.web_config(settings)
    if access is not None:
        from observer.access import Access  # noqa: PLC0415
        from observer.web_config import WebConfigError  # noqa: PLC0415

        try:  # with certificates and keys, as whoever asks may read them
            Access(access, on_change=print, on_trouble=print)
        except WebConfigError as e:
            return _fail(e, USAGE)
    if options.show:
        for line in config.as_toml(settings, known):
            print(printable(line))
    else:
        print(
            f"{printable(str(options.file))}: {len(settings)} options are set, all well"
        )
    return GOOD


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
    whole = options.every_decision or options.record is not None
    with _loading(options, whole=whole) as loading:
        return _observe(
            options, _chosen(options), loading, required=options.require_hooks
        )


def _chosen(options: argparse.Namespace) -> Options:
    from observer.daemon import Options  # noqa: PLC0415
    from observer.series import Selection  # noqa: PLC0415
    from observer.store import Limits  # noqa: PLC0415

    return Options(
        address=options.listen,
        web_config=options.web_config,
        textfile=options.textfile,
        selection=Selection(
            options.series, options.series_class, options.series_vendor
        ),
        socket=options.socket,
        recording=options.record,
        state=None if options.no_state else _state(options),
        limits=Limits.of(days=options.state_days, mib=options.state_mib),
        semantics=options.semantics,
        log_level=options.log_level,
        log_form=options.log_format,
        given={
            key: getattr(options, action.dest)
            for key, action in config.options(run_options()).items()
        },
    )


def _record(options: argparse.Namespace) -> int:
    with _loading(options, whole=True) as loading:
        from observer.daemon import Options  # noqa: PLC0415

        chosen = Options(
            answer=False,
            recording=options.output,
            semantics=options.semantics,
            log_level=options.log_level,
            log_form=options.log_format,
        )
        return _observe(options, chosen, loading, required=True)


def _state(options: argparse.Namespace) -> Path:
    from observer import state_directory  # noqa: PLC0415

    state: Path = options.state or state_directory.default()
    return state


@contextmanager
def _loading(options: argparse.Namespace, *, whole: bool) -> Iterator[Loading]:
    """Start to attach before the daemon is imported, which takes longer."""
    from observer import loading, memory  # noqa: PLC0415

    memory.save()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    arguments = loading.loader_arguments(
        options.attach,
        whole=whole,
        compiled=options.compile,
        ring_bytes=options.ring_bytes,
    )
    with loading.Loading(arguments) as started:
        with suppress(loading.AttachError):  # told again, where all refusals are
            started.hooked()
        yield started


def _observe(
    options: argparse.Namespace, chosen: Options, loading: Loading, *, required: bool
) -> int:
    # Each verb imports what it needs: the daemon stays small.
    from observer import daemon  # noqa: PLC0415
    from observer.attachment import take_over  # noqa: PLC0415
    from observer.control import ControlError  # noqa: PLC0415
    from observer.listening import ListenError  # noqa: PLC0415
    from observer.loading import AttachError  # noqa: PLC0415
    from observer.privileges import PrivilegesError  # noqa: PLC0415
    from observer.textfile import TextfileError  # noqa: PLC0415

    try:
        daemon.run(
            chosen,
            attach_hooks=lambda: take_over(loading, required=required),
            read=getattr(options, "read", None),
        )
    except (ListenError, ControlError, TextfileError) as e:
        return _fail(e, USAGE)
    except (AttachError, PrivilegesError) as e:
        return _fail(e, UNOBSERVABLE)
    except OSError as e:
        if chosen.recording is None or e.filename is None:
            raise
        return _fail(f"{e.filename}: {e.strerror}", USAGE)
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
    from observer import history, state_directory, store, story  # noqa: PLC0415

    state = _state(options)
    try:
        address = options.address and story.normalised(options.address)
        with (
            state_directory.as_owner(state),
            store.Archive(state / store.FILE) as archive,
        ):
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
            else "This kernel can't be observed from here; `run` only audits sysfs."
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

    if options.slug is not None and options.slug not in SLUGS:
        known = ", ".join(SLUGS)
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


_VERBS: Final[dict[str, Callable[[argparse.Namespace], int]]] = {
    "run": _run,
    "record": _record,
    "replay": _replay,
    "audit": _audit,
    "explain": _explain,
    "history": _history,
    "diff": _diff,
    "baseline": _baseline,
    "preflight": _preflight,
    "doctor": _doctor,
    "predict": _predict,
    "semantics": _semantics,
    "status": _status,
    "boot-args": _boot_args,
    "config": _config,
}
