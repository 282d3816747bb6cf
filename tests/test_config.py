"""observer/config.py: options of run from a file, and what is wrong with one."""

from __future__ import annotations

import time
import tomllib
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from observer import config
from observer.arguments import parser, run_options
from observer.config import ConfigError, Settings

ALL = """\
attach = "kprobe"
semantics = "linux-5.15"
ring-bytes = 8192
compile = true
log-level = "debug"
log-format = "json"
listen = "[::1]:9817"
textfile = "/t/x.prom"
series = 200
series-class = ["02", "0302"]
series-vendor = ["0x8086"]
every-decision = true
require-hooks = true
record = "/r.gz"
socket = "/s"
state = "/d"
state-days = 7
state-mib = 8

[web.config]
file = "/w.yml"
"""


def parsed(text: str) -> Settings:
    """Return what a text sets."""
    return config.parse(text.encode(), run_options(), name="x.toml")


def mistakes(text: str) -> list[str]:
    """Return what is wrong with a text."""
    with pytest.raises(ConfigError) as refused:
        parsed(text)
    return str(refused.value).splitlines()


def test_every_option() -> None:
    """The file gives what the command line gives, for each option."""
    known = run_options()
    settings = parsed(ALL)
    assert config.options(known).keys() - settings.keys() == {"no-state"}
    words = [
        *("--attach", "kprobe", "--semantics", "linux-5.15", "--ring-bytes", "8192"),
        *("--compile", "--log-level", "debug", "--log-format", "json"),
        *("--listen", "[::1]:9817", "--web.config.file", "/w.yml"),
        *("--textfile", "/t/x.prom", "--series", "200", "--series-class", "02,0302"),
        *(
            "--series-vendor",
            "0x8086",
            "--every-decision",
            "--require-hooks",
            "--record",
            "/r.gz",
        ),
        *("--socket", "/s", "--state", "/d", "--state-days", "7", "--state-mib", "8"),
    ]
    given = known.parse_args([])
    assert vars(known.parse_args(words)) == vars(given) | config.defaults(
        settings, known, given
    )


def test_the_command_line_goes_before_the_file() -> None:
    """What is given counts, also where it can't stand beside what the file sets."""
    known = run_options()
    settings = parsed('series = 250\nno-state = true\nlog-level = "debug"\n')

    def chosen(*words: str) -> tuple[object, ...]:
        given = parser().parse_args(["run", *words])
        defaults = config.defaults(settings, known, given)
        options = parser(defaults).parse_args(["run", *words])
        return options.series, options.no_state, options.state, options.log_level

    assert (250, True, None, "debug") == chosen()
    assert (300, True, None, "info") == chosen("--series=300", "--log-level=info")
    assert (250, False, Path("/d"), "debug") == chosen("--state=/d")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "seris = 3",
            "1: seris: there is no such option; there are attach, semantics,",
        ),
        ("\n[frob]\n", "2: frob: there is no such option;"),
        ('\nseries = "300"', '2: series: write a number, not "300"'),
        ("series = 300.0", "1: series: write a text or a number, not 300.0"),
        ("series = true", "1: series: write a text or a number, not true"),
        ("series = 1", "1: series: 1 is not within 200 and 2000"),
        ("compile = 1", "1: compile: write true or false, not 1"),
        ('no-state = "yes"', '1: no-state: write true or false, not "yes"'),
        ("state = 7", "1: state: write a text, not 7"),
        ('series-class = "02"', '1: series-class: write a list of texts, not "02"'),
        ("series-class = [2]", "1: series-class: write a list of texts, not [2]"),
        ("series-class = []", "1: series-class: write a list of texts, not []"),
        ('series-class = [\n"02",\n"x"]', "1: series-class: 'x' is no class code"),
        ('attach = "fexit"', "1: attach: invalid choice: 'fexit' (choose from 'auto'"),
        ('listen = "x"', "1: listen: 'x' is no address to listen on: write 127.0.0.1"),
        (
            "ring-bytes = 7",
            "1: ring-bytes: 7 is no power of two from 4096 to 1073741824",
        ),
        (
            "ring-bytes = 4294967296",
            "1: ring-bytes: 4294967296 is no power of two from 4096 to 1073741824",
        ),
        ('state = ""', "1: state: an empty name is no path"),
        ('record = ""', "1: record: an empty name is no path"),
        (
            "state-days = 2026-01-01",
            '1: state-days: write a text or a number, not "2026',
        ),
        ("listen = {}", "1: listen: write a text or a number, not {}"),
        ("#\n[web.config]\n\nfile = 3", "4: web.config.file: write a text, not 3"),
        ("a = 1\nx", "2: is not TOML: Expected '=' after a key in a key/value pair"),
        ('a = """\n\n', "1: is not TOML: Unterminated string"),
        ("a = 1\na = 2", "2: is not TOML: Cannot overwrite a value"),
        ('state = "/d"\nno-state = true', "2: no-state: can't stand beside state;"),
        (
            'web.config.file = "/w"\nlisten = "none"',
            '1: web.config.file: can\'t stand beside listen = "none"; keep one of them',
        ),
    ],
)
def test_mistake(text: str, expected: str) -> None:
    """One line: the file, its line, the key, what is wrong and what would be right."""
    (line,) = mistakes(text)
    assert line.startswith(f"x.toml:{expected}"), line


def test_all_mistakes_by_line() -> None:
    """The file is looked at whole, also below values of many lines."""
    text = (
        'frob = """\n[x]\nseries = 1\n"""\n\n# x\nseries = 1\nstate-mib = 0\nb.c = 1\n'
    )
    places = [line.split(":")[1:3] for line in mistakes(text)]
    assert [
        ["1", " frob"],
        ["7", " series"],
        ["8", " state-mib"],
        ["9", " b.c"],
    ] == places


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\n\xff", "x.toml:2: is not UTF-8"),
        (b"#" * 65537, "x.toml: is longer than 65536 bytes"),
        (b"a = " + b"[" * 20000, "x.toml: is nested too deeply"),
        (b".".join([b"a"] * 20000) + b"=1", "x.toml: is nested too deeply"),
        (b"\n".join([b"x = [", *[b"series,"] * 6000, b"]"]), "x.toml:2: is not TOML: "),
        (b"a = " + b"1" * 5000, "x.toml: is not TOML: Exceeds the limit (4300 digits)"),
    ],
)
def test_odd_file(data: bytes, expected: str) -> None:
    """Whatever is in it, one line tells."""
    with pytest.raises(ConfigError) as refused:
        config.parse(data, run_options(), name="x.toml")
    assert str(refused.value).startswith(expected)


def test_a_mistake_is_found_soon() -> None:
    """Below a long value, and where its name stands everywhere."""
    lines = ["series-vendor = [", *['  "0x8086", # seris ='] * 2500, "]", "seris = 1"]
    began = time.process_time()
    assert mistakes("\n".join(lines))[0].startswith("x.toml: seris: ")
    lines = ["series-vendor = [", *['  "0x8086",'] * 4000, "]", "seris = 1"]
    assert mistakes("\n".join(lines))[0].startswith("x.toml:4003: seris: ")
    assert 20 > time.process_time() - began  # it was hours


def test_no_file(tmp_path: Path) -> None:
    """A file that can't be read is named."""
    known = run_options()
    for path, why in (
        (tmp_path / "x", "No such file or directory"),
        (tmp_path, "Is a directory"),
        (Path("\0"), "embedded null byte"),
    ):
        with pytest.raises(ConfigError) as refused:
            config.read(path, known)
        assert f"{path}: {why}" == str(refused.value)


def test_shown() -> None:
    """What is shown says the same; the rest is a comment with its default."""
    known = run_options()
    settings = parsed(ALL)
    shown = "\n".join(config.as_toml(settings, known))
    assert settings == parsed(shown)
    nothing = list(config.as_toml({}, known))
    assert not tomllib.loads("\n".join(nothing))
    assert "# series = 300" in nothing
    assert max(map(len, nothing)) <= 88
    for key in config.options(known):
        assert any(line.startswith(f"# {key} = ") for line in nothing), key


def test_the_file_that_is_shipped() -> None:
    """It sets nothing, and shows what could be set, as `config --show` does."""
    shown = "\n".join(config.as_toml({}, run_options()))
    shipped = Path("systemd/pci-observer.toml").read_text()
    head = "# The options of `pci-observer run`, see pci-observer.toml(5).\n\n"
    assert f"{head}{shown}\n" == shipped


def test_odd_text_is_shown() -> None:
    """Quotes, controls and the rest of Unicode come back as they were."""
    settings = parsed('state = "a\\"\\\\\\u007F\\u001B\\u00e9"')
    shown = "\n".join(config.as_toml(settings, run_options()))
    assert settings == parsed(shown)


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    """Nothing but ConfigError is raised."""
    with suppress(ConfigError):
        config.parse(data, run_options(), name="x")


WORDS = [
    *("series", "state", " = ", "\n", '"', '"""', "1", "[", "]", "{", "}", ".", ","),
    *("#", "true", "web.config.file", "listen", "'none'", "0x", "e", "frob", "'"),
]


@given(st.lists(st.sampled_from(WORDS), max_size=30))
def test_any_words(words: list[str]) -> None:
    """Each mistake has its line, on which the key or the end of the text is."""
    text = "".join(words)
    try:
        parsed(text)
    except ConfigError as e:
        for line in str(e).splitlines():
            assert line.startswith("x.toml:")
            number = line.split(":")[1]
            assert not number.isdigit() or int(number) <= text.count("\n") + 1
