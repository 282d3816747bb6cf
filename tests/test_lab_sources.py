"""The lab's reading of apt sources: whose mirror kernels come from."""

from pathlib import Path

import pytest
from lab.sources import (
    DEFAULT_KEYRING,
    Mirrors,
    NoMirrorError,
    Source,
    codename,
    machine_sources,
    mirrors,
    parse_deb822,
    parse_one_line,
)

ARCHIVE = "http://mirror.example/debian"
SECURITY = "http://mirror.example/debian-security"


def test_deb822_gives_every_uri_with_every_suite() -> None:
    """A paragraph is the product of its URIs and suites, without final slashes."""
    text = "Types: deb\nURIs: http://a.example/x/ http://b.example/x\nSuites: s t\n"

    assert [
        Source("http://a.example/x", "s", None),
        Source("http://a.example/x", "t", None),
        Source("http://b.example/x", "s", None),
        Source("http://b.example/x", "t", None),
    ] == list(parse_deb822(text))


def test_deb822_skips_comments_sources_and_what_is_disabled() -> None:
    """Comments vanish, also between fields; deb-src and Enabled: no don't count."""
    text = (
        "Types: deb deb-src\n# a comment\nURIs: http://a.example\nSuites: s\n"
        "Signed-By: /k.gpg\n"
        "\n"
        "Types: deb-src\nURIs: http://b.example\nSuites: s\n"
        "\n"
        "Enabled: no\nTypes: deb\nURIs: http://c.example\nSuites: s\n"
    )

    assert [Source("http://a.example", "s", "/k.gpg")] == list(parse_deb822(text))


def test_deb822_joins_continuation_lines() -> None:
    """A field goes on in lines that begin with a blank."""
    text = "Types: deb\nURIs:\n http://a.example\n http://b.example\nSuites: s\n"

    assert ["http://a.example", "http://b.example"] == [
        source.uri for source in parse_deb822(text)
    ]


def test_one_line_sources_with_and_without_options() -> None:
    """The bracketed options may hold a keyring; comments and deb-src don't count."""
    text = (
        "# deb http://no.example s main\n"
        "deb http://a.example/ bookworm main contrib\n"
        "deb [arch=amd64 signed-by=/k.gpg] http://b.example t main\n"
        "deb-src http://c.example s main\n"
    )

    assert [
        Source("http://a.example", "bookworm", None),
        Source("http://b.example", "t", "/k.gpg"),
    ] == list(parse_one_line(text))


def test_machine_sources_reads_both_kinds_of_file(tmp_path: Path) -> None:
    """sources.list and all of sources.list.d count; other files there don't."""
    parts = tmp_path / "sources.list.d"
    parts.mkdir()
    (tmp_path / "sources.list").write_text("deb http://a.example s main\n")
    (parts / "b.sources").write_text("Types: deb\nURIs: http://b.example\nSuites: s\n")
    (parts / "c.list.save").write_text("deb http://c.example s main\n")

    assert ["http://a.example", "http://b.example"] == [
        source.uri for source in machine_sources(etc=tmp_path)
    ]


def test_machine_sources_without_sources_list(tmp_path: Path) -> None:
    """A machine without any source has none; that is no crash."""
    assert [] == list(machine_sources(etc=tmp_path))


def test_mirrors_are_those_of_the_machines_own_release() -> None:
    """Foreign archives are passed over, wherever they stand in the list."""
    sources = [
        Source("http://other.example", "nodistro", None),
        Source(SECURITY, "bookworm-security", None),
        Source(ARCHIVE, "bookworm", "/nowhere.gpg"),
    ]

    assert Mirrors(ARCHIVE, SECURITY, DEFAULT_KEYRING) == mirrors(
        iter(sources), "bookworm"
    )


def test_mirrors_keep_the_machines_keyring(tmp_path: Path) -> None:
    """A keyring that the machine's source names, and that exists, is the one."""
    keyring = tmp_path / "k.gpg"
    keyring.touch()
    source = Source(ARCHIVE, "stable", str(keyring))

    assert str(keyring) == mirrors(iter([source]), "bookworm").keyring


def test_no_mirror_is_said_in_one_sentence() -> None:
    """Without a source of its own release the machine can't fetch kernels."""
    with pytest.raises(NoMirrorError, match="no apt source for Debian bookworm"):
        mirrors(iter([Source(ARCHIVE, "trixie", None)]), "bookworm")


def test_stanzas_leave_out_a_security_archive_that_is_not_there() -> None:
    """The main archive alone is a source list too."""
    text = Mirrors(ARCHIVE, None, DEFAULT_KEYRING).stanzas()

    assert [ARCHIVE] == sorted({source.uri for source in parse_deb822(text)})


def test_codename_is_read_with_and_without_quotes(tmp_path: Path) -> None:
    """os-release is shell syntax: quotes are optional."""
    release = tmp_path / "os-release"
    release.write_text('ID=debian\nVERSION_CODENAME="bookworm"\n')

    assert "bookworm" == codename(os_release=release)
