"""The arguments of the command, verb by verb."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final

from observer import __version__, argument_types, listening
from observer.labels import LEAST, MOST, USUAL
from observer.slugs import SLUGS

if TYPE_CHECKING:
    from collections.abc import Mapping

CONFIG: Final = Path("/etc/pci-observer/pci-observer.toml")

_DESCRIPTION: Final = "Observe and judge every PCI match decision of a Linux kernel."
_EXITS: Final = (
    "exit status: 0 good, 1 a finding, 2 wrong usage or bad input, "
    "3 this kernel can't be observed"
)


def parser(run_defaults: Mapping[str, object] | None = None) -> argparse.ArgumentParser:
    """Return the parser of all verbs; it sets `verb` to the name of the chosen one.

    ``run_defaults``: what holds for options of `run` that are not given.
    """
    whole = argparse.ArgumentParser(
        "pci-observer", description=_DESCRIPTION, epilog=_EXITS
    )
    whole.add_argument("--version", action="version", version=__version__)
    verbs = whole.add_subparsers(required=True, metavar="VERB", dest="verb")
    options = run_options()
    options.set_defaults(**(run_defaults or {}))
    text = "Observe in the foreground until Ctrl-C."
    _verb(verbs, "run", text, options)
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
    _add_config(verbs)
    return whole


_Verbs = argparse._SubParsersAction  # noqa: SLF001 - argparse has no public name


def _verb(
    verbs: _Verbs[argparse.ArgumentParser],
    name: str,
    text: str,
    *parents: argparse.ArgumentParser,
) -> argparse.ArgumentParser:
    return verbs.add_parser(
        name, help=text, description=text, epilog=_EXITS, parents=parents
    )


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
        choices=("auto", *SLUGS),
        default="auto",
        metavar="SLUG",
        help=f"judge by this one instead of the kernel's own: {', '.join(SLUGS)}",
    )
    parser.add_argument(
        "--ring-bytes",
        type=argument_types.ring_bytes,
        metavar="N",
        help="size of the ring buffer, a power of two from 4096 on (default: 1 MiB, "
        "4 MiB where every decision is sent)",
    )
    parser.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="compile the programs with bcc instead of taking those that came along",
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


def run_options() -> argparse.ArgumentParser:
    """Return a parser of what `run` takes, which a file can set as well."""
    parser = argparse.ArgumentParser("pci-observer run", add_help=False)
    parser.add_argument(
        "--config",
        type=argument_types.path,
        metavar="FILE",
        help="take from this file, in TOML, what is not set here; read again on SIGHUP",
    )
    _add_hook_options(parser)
    parser.add_argument(
        "--listen",
        type=argument_types.address,
        default=listening.AUTO,
        metavar="ADDR",
        help="serve metrics on this address, on unix:/path, on the socket that systemd "
        "made (systemd), or not at all (none) (default: what systemd made, else "
        "127.0.0.1:9817)",
    )
    parser.add_argument(
        "--web.config.file",
        type=argument_types.path,
        dest="web_config",
        metavar="FILE",
        help="who may ask for metrics, and TLS: a file in the format of Prometheus' "
        "exporter-toolkit, read again when it changes (default: everybody, no TLS)",
    )
    _add_series(parser)
    parser.add_argument(
        "--every-decision",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="take every decision from the kernel whole, instead of counting those "
        "without a match that repeat an earlier one; --record does so as well",
    )
    parser.add_argument(
        "--record",
        type=argument_types.path,
        metavar="FILE",
        help="keep all decisions in FILE as well",
    )
    parser.add_argument(
        "--require-hooks",
        action="store_true",
        help="end with status 3 where no decision can be seen, instead of an audit of "
        "what sysfs shows",
    )
    _add_socket(parser, "unix socket for the verbs that ask")
    state = parser.add_mutually_exclusive_group()
    _add_state(state, "keep history in this directory")
    state.add_argument(
        "--no-state", action="store_true", help="keep no history of what is observed"
    )
    parser.add_argument(
        "--state-days",
        type=argument_types.number_from(1),
        default=30,
        metavar="N",
        help="delete decisions and probes once the machine ran for so long after them "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--state-mib",
        type=argument_types.number_from(8),
        default=256,
        metavar="N",
        help="let the file grow to this size (default: %(default)s)",
    )
    return parser


def _add_series(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--textfile",
        type=argument_types.textfile,
        metavar="FILE",
        help="write metrics to FILE, too, for node_exporter's textfile collector; its "
        "name must end in .prom",
    )
    parser.add_argument(
        "--series",
        type=argument_types.number_within(LEAST, MOST),
        default=USUAL,
        metavar="N",
        help=f"have N series at most, from {LEAST} to {MOST} (default: %(default)s)",
    )
    parser.add_argument(
        "--series-class",
        type=argument_types.class_codes,
        default=(),
        metavar="CODE,...",
        help="devices with a series each: those whose class code begins so, as 02 or "
        "0302 (default: all)",
    )
    parser.add_argument(
        "--series-vendor",
        type=argument_types.vendor_ids,
        default=(),
        metavar="ID,...",
        help="devices with a series each: of these vendors, as 0x8086 (default: all)",
    )


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="the same as JSON")


def _add_state(parser: argparse._ActionsContainer, text: str) -> None:
    parser.add_argument(
        "--state",
        type=argument_types.path,
        metavar="DIR",
        help=f"{text} (default: $STATE_DIRECTORY, else /var/lib/pci-observer)",
    )


def _add_socket(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument(
        "--socket",
        type=argument_types.path,
        metavar="PATH",
        help=f"{text} (default: /run/pci-observer/observer.sock)",
    )


def _add_record(verbs: _Verbs[argparse.ArgumentParser]) -> None:
    parser = _verb(verbs, "record", "Keep all decisions in a file until Ctrl-C.")
    _add_hook_options(parser)
    parser.add_argument(
        "-o",
        "--output",
        type=argument_types.path,
        required=True,
        metavar="FILE",
        help="file to write; compressed if it ends in .gz or .xz",
    )


def _add_replay(verbs: _Verbs[argparse.ArgumentParser]) -> None:
    parser = _verb(verbs, "replay", "Judge a recording.")
    parser.add_argument("file", type=argument_types.path, metavar="FILE")
    parser.add_argument(
        "--semantics",
        choices=SLUGS,
        metavar="SLUG",
        help="judge by this one instead of the recording's own: " + ", ".join(SLUGS),
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
    parser = _verb(verbs, "audit", text)
    _add_json(parser)
    _add_semantics_option(parser)
    _add_socket(parser, "where the daemon answers")


def _add_explain(verbs: _Verbs[argparse.ArgumentParser]) -> None:
    text = "Say why a device is, or is not, bound to a driver."
    parser = _verb(verbs, "explain", text)
    parser.add_argument("address", metavar="ADDRESS", help="as 0000:00:02.0 or 00:02.0")
    parser.add_argument("--driver", metavar="NAME", help="why not this one")
    _add_json(parser)
    _add_semantics_option(parser)
    _add_socket(parser, "where the daemon answers")


def _add_history(verbs: _Verbs[argparse.ArgumentParser]) -> None:
    text = "Tell what was bound under which kernel, since when and by whom."
    parser = _verb(verbs, "history", text)
    parser.add_argument(
        "address",
        nargs="?",
        metavar="ADDRESS",
        help="this device alone, with what happened to it; as 00:02.0",
    )
    _add_json(parser)
    _add_state(parser, "where the daemon keeps it")


def _add_diff(verbs: _Verbs[argparse.ArgumentParser]) -> None:
    text = "Say what changed between two pictures of a machine, or of two."
    parser = _verb(verbs, "diff", text)
    named = (
        "file that audit --json wrote, now, baseline, boot id, boot:-1 (one boot ago) "
        "or kernel release"
    )
    parser.add_argument("before", metavar="A", help=named)
    parser.add_argument("after", metavar="B", help="the same")
    _add_json(parser)
    _add_state(parser, "where the daemon keeps history")
    _add_socket(parser, "where the daemon answers")


def _add_baseline(verbs: _Verbs[argparse.ArgumentParser]) -> None:
    text = "Show the picture that other kernels are compared with, or take a new one."
    parser = _verb(verbs, "baseline", text)
    parser.add_argument(
        "--accept", action="store_true", help="make the bindings of now the baseline"
    )
    _add_json(parser)
    _add_state(parser, "where the daemon keeps history")
    _add_socket(parser, "where the daemon answers")


def _add_preflight(verbs: _Verbs[argparse.ArgumentParser]) -> None:
    text = "Say what a kernel upgrade would change, before that kernel is booted."
    parser = _verb(verbs, "preflight", text)
    kernel = parser.add_mutually_exclusive_group(required=True)
    kernel.add_argument(
        "--kernel", metavar="RELEASE", help="an installed kernel, as of uname -r"
    )
    kernel.add_argument(
        "--modules",
        type=argument_types.path,
        metavar="DIR",
        help="the kernel whose modules are there, as in /lib/modules/RELEASE or in an "
        "unpacked package",
    )
    parser.add_argument(
        "--image",
        type=argument_types.path,
        metavar="FILE",
        help="its vmlinuz (default: the one in /boot, or beside its modules)",
    )
    parser.add_argument(
        "--root",
        type=argument_types.path,
        default=Path("/"),
        metavar="DIR",
        help="where /etc, /lib/modules, /boot and /proc are (default: %(default)s)",
    )
    _add_json(parser)
    _add_socket(parser, "where the daemon answers")


def _add_semantics_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--semantics",
        choices=SLUGS,
        metavar="SLUG",
        help=f"judge by this one instead of the kernel's own: {', '.join(SLUGS)}",
    )


def _add_doctor(verbs: _Verbs[argparse.ArgumentParser]) -> None:
    text = "Say whether this kernel can be observed, how, and what is missing."
    parser = _verb(verbs, "doctor", text)
    _add_json(parser)


def _add_predict(verbs: _Verbs[argparse.ArgumentParser]) -> None:
    text = "Answer made-up cases, JSON Lines in, JSON Lines out."
    parser = _verb(verbs, "predict", text)
    parser.add_argument(
        "file",
        type=argument_types.path,
        nargs="?",
        metavar="FILE",
        help="cases to answer (default: standard input)",
    )
    parser.add_argument(
        "--semantics",
        metavar="SLUG",
        help="match by this one (default: the running kernel's, else linux-5.15): "
        + ", ".join(SLUGS),
    )
    parser.add_argument(
        "--new-id-rules",
        metavar="SLUG",
        help="write to new_id and remove_id by these (default: the running kernel's, "
        "else linux-7.3): linux-3.16, linux-5.11, linux-7.3",
    )


def _add_semantics(verbs: _Verbs[argparse.ArgumentParser]) -> None:
    text = "Show the semantics that the model knows, or the decision table of one."
    parser = _verb(verbs, "semantics", text)
    parser.add_argument("slug", nargs="?", metavar="SLUG", help=", ".join(SLUGS))
    _add_json(parser)


def _add_status(verbs: _Verbs[argparse.ArgumentParser]) -> None:
    text = "Show devices, drivers, findings and losses, until Ctrl-C."
    parser = _verb(verbs, "status", text)
    parser.add_argument(
        "--once", action="store_true", help="print it once, as where no terminal is"
    )
    parser.add_argument(
        "--interval",
        type=argument_types.interval,
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
    parser = _verb(verbs, "boot-args", text)
    parser.add_argument(
        "--btf",
        type=argument_types.path,
        metavar="FILE",
        help="of this kernel: raw BTF, or a vmlinuz (default: the running one)",
    )


def _add_config(verbs: _Verbs[argparse.ArgumentParser]) -> None:
    text = "Check the configuration file of run, or show what it sets."
    parser = _verb(verbs, "config", text)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--check", action="store_true", help="name each mistake by file, line and key"
    )
    what.add_argument(
        "--show",
        action="store_true",
        help="print the file anew, with all options and what each is for",
    )
    parser.add_argument(
        "file",
        type=argument_types.path,
        nargs="?",
        default=CONFIG,
        metavar="FILE",
        help="(default: %(default)s)",
    )
