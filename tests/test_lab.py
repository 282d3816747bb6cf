"""The lab's pure parts: the choice of a kernel, QEMU arguments, the cache."""

import subprocess
from pathlib import Path

import pytest
from lab import devices
from lab.apt import Apt, AptError
from lab.functions import FUNCTIONS_PER_BRIDGE, functions
from lab.guest import split_at_dashes
from lab.kernels import (
    Cache,
    KernelError,
    arrange,
    glibc,
    header_packages,
    needs_glibc,
    relocate,
    wrap,
)
from lab.machine import Boot, writable_directories
from lab.modules import match_of
from lab.release import Image, natural, release_of, resolve
from shapes import layouts


def images(*pairs: tuple[str, str]) -> dict[str, Image]:
    """Make kernels by release, as the index has them."""
    return {release: Image(release, version) for release, version in pairs}


SERVED = images(
    ("6.1.0-9-amd64", "6.1.27-1"),
    ("6.1.0-56-amd64", "6.1.192-2"),
    ("6.1.0-0.deb11.52-amd64", "6.1.192-1~deb11u1"),
    ("6.12.90+deb13.1-amd64", "6.12.90-2"),
    ("6.12.90+deb12-amd64", "6.12.90-1~bpo12+1"),
    ("6.12.90+deb12.1-amd64", "6.12.90-2~bpo12+1"),
    ("6.12.117+deb13-amd64", "6.12.117-1"),
)


@pytest.mark.parametrize(
    ("wanted", "release"),
    [
        ("6.1", "6.1.0-56-amd64"),
        ("6.1.27", "6.1.0-9-amd64"),
        ("6.1.192", "6.1.0-56-amd64"),
        ("6.12.90", "6.12.90+deb12.1-amd64"),
        ("6.12", "6.12.117+deb13-amd64"),
        ("6.12.90+deb13.1-amd64", "6.12.90+deb13.1-amd64"),
        ("6", "6.12.117+deb13-amd64"),
        ("6.1.2", None),
        ("5.10", None),
        ("", None),
    ],
)
def test_resolve(wanted: str, release: str | None) -> None:
    """The newest upstream version that fits; of equals, Debian 12's own build."""
    assert release == resolve(wanted, SERVED)


def test_resolve_does_not_depend_on_the_order_of_the_index() -> None:
    """The same kernels in the other order give the same answer."""
    backwards = dict(reversed(SERVED.items()))

    assert resolve("6.12.90", SERVED) == resolve("6.12.90", backwards)


def test_natural_order_counts() -> None:
    """Numbers inside a version compare as numbers."""
    versions = ["6.12.100-1", "6.12.9-1", "6.12.90-2~bpo12+1", "5.10.262-1"]

    assert ["5.10.262-1", "6.12.9-1", "6.12.90-2~bpo12+1", "6.12.100-1"] == sorted(
        versions, key=natural
    )


@pytest.mark.parametrize(
    ("package", "release"),
    [
        ("linux-image-6.1.0-56-amd64", "6.1.0-56-amd64"),
        ("linux-image-7.3.4+deb13-amd64", "7.3.4+deb13-amd64"),
        ("linux-image-6.1-amd64", None),
        ("linux-image-amd64", None),
        ("linux-image-6.1.0-56-cloud-amd64", None),
        ("linux-image-6.1.0-56-rt-amd64", None),
        ("linux-image-6.1.0-56-amd64-unsigned", None),
        ("linux-image-6.1.0-56-amd64-dbg", None),
        ("linux-headers-6.1.0-56-amd64", None),
    ],
)
def test_release_of_a_package(package: str, release: str | None) -> None:
    """Only the plain flavour's own packages are kernels to boot."""
    assert release == release_of(package)


def test_upstream_version_has_no_epoch_and_no_revision() -> None:
    """Debian's revision, rebuild and epoch are no part of the kernel's version."""
    assert "6.12.90" == Image("x", "1:6.12.90-2~bpo12+1").upstream


def unpacked_kernel(directory: Path, release: str) -> Path:
    """Make a cached kernel, as far as the cache looks."""
    image = directory / release / "boot" / f"vmlinuz-{release}"
    image.parent.mkdir(parents=True)
    image.touch()
    return image


def test_an_exact_cached_release_needs_neither_apt_nor_network(tmp_path: Path) -> None:
    """What is unpacked is used as it is."""
    image = unpacked_kernel(tmp_path, "6.1.0-56-amd64")

    assert image == Cache(tmp_path).get("6.1.0-56-amd64")


@pytest.mark.parametrize("wanted", ["", "..", "apt", "../elsewhere"])
def test_the_cache_has_no_image_for_what_is_no_release(
    wanted: str, tmp_path: Path
) -> None:
    """A name that leads elsewhere is no release."""
    assert Cache(tmp_path).image(wanted) is None


class Unreachable(Apt):
    """An archive that can't be reached, with no index from an earlier day."""

    def update(self) -> None:
        """Fail as apt does."""
        raise AptError("the archive can't be reached")


class Serving(Apt):
    """An archive whose index lists `SERVED`, read at any time."""

    def update(self) -> None:
        """Have nothing to do."""

    def index_age_seconds(self, *, now: float) -> float | None:
        """Be fresh."""
        return 0.0 * now

    def images(self) -> dict[str, Image]:
        """List what is served."""
        return SERVED


class Ageing(Serving):
    """An archive whose index was read a minute ago."""

    updates = 0

    def update(self) -> None:
        """Count."""
        self.updates += 1

    def index_age_seconds(self, *, now: float) -> float | None:
        """Be a minute old."""
        return 60.0 + 0.0 * now


def test_what_is_served_today_is_asked_today(tmp_path: Path) -> None:
    """An index of this week will do, unless it is asked for that of now."""
    archive = Ageing(tmp_path / "apt")
    cache = Cache(tmp_path, apt=archive)

    assert SERVED == cache.images()
    assert 0 == archive.updates
    assert SERVED == cache.images(today=True)
    assert 1 == archive.updates


def test_a_series_resolved_before_works_offline(tmp_path: Path) -> None:
    """Without an index, a series means what it meant the last time."""
    image = unpacked_kernel(tmp_path, "6.1.0-56-amd64")
    Cache(tmp_path, apt=Serving(tmp_path / "apt")).get("6.1")

    offline = Cache(tmp_path, apt=Unreachable(tmp_path / "apt"))

    assert image == offline.get("6.1")


def test_a_version_no_longer_served_is_used_while_it_is_cached(tmp_path: Path) -> None:
    """Debian drops kernels; one that is unpacked here goes on to work."""
    image = unpacked_kernel(tmp_path, "6.5.0-1-amd64")
    (tmp_path / "resolved.json").write_text('{"6.5": "6.5.0-1-amd64"}')

    assert image == Cache(tmp_path, apt=Serving(tmp_path / "apt")).get("6.5")


def test_a_kernel_that_is_nowhere_is_said_to_be_no_longer_served(
    tmp_path: Path,
) -> None:
    """The reason is passed on, whatever rubbish the memory of old answers holds."""
    (tmp_path / "resolved.json").write_text("[")

    with pytest.raises(KernelError, match="is no longer served"):
        Cache(tmp_path, apt=Serving(tmp_path / "apt")).get("6.5")


def test_offline_without_memory_the_reason_is_given(tmp_path: Path) -> None:
    """A kernel never had, and no network: both are said."""
    with pytest.raises(KernelError, match="be fetched: the archive"):
        Cache(tmp_path, apt=Unreachable(tmp_path / "apt")).get("6.1")


@pytest.mark.parametrize("place", ["lib", "usr/lib"])
def test_arrange_brings_old_and_new_packages_into_one_shape(
    place: str, tmp_path: Path
) -> None:
    """Since 6.19 vmlinuz lies beside the modules; here it is in boot, always."""
    modules = tmp_path / "root" / place / "modules" / "7.3"
    modules.mkdir(parents=True)
    (modules / "vmlinuz").write_text("image")
    (modules / "build").symlink_to("/nowhere")

    arrange(tmp_path / "root", tmp_path / "out", "7.3")

    assert "image" == (tmp_path / "out/boot/vmlinuz-7.3").read_text()
    assert [] == list((tmp_path / "out/lib/modules/7.3").iterdir())


def test_unpacked_headers_need_neither_apt_nor_network(tmp_path: Path) -> None:
    """A module is built with what is there."""
    unpacked_kernel(tmp_path, "6.1.0-56-amd64")
    source = tmp_path / "6.1.0-56-amd64/headers/usr/src/linux-headers-6.1.0-56-amd64"
    source.mkdir(parents=True)
    cache = Cache(tmp_path, apt=Unreachable(tmp_path / "apt"))

    assert source == cache.headers("6.1.0-56-amd64")


def test_headers_need_the_common_ones_and_the_build_tools() -> None:
    """Not the compiler that the package asks for, which this machine has."""
    depends = ["linux-headers-7-common", "linux-kbuild-7", "gcc-14", "linux-base"]

    assert ["linux-headers-7-common", "linux-kbuild-7"] == header_packages(depends)


def test_relocated_headers_find_their_common_part(tmp_path: Path) -> None:
    """Unpacked anywhere, make includes what lies beside, from any directory."""
    for name, text in {
        "h": "KBUILD_OUTPUT=/usr/src/h\ninclude /usr/src/h-common/Makefile\n",
        "h-common": "all: ; @echo $(realpath $(KBUILD_OUTPUT))\n",
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "Makefile").write_text(text)

    relocate(tmp_path / "h" / "Makefile")

    command = ["make", "-s", "-C", str(tmp_path / "h")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert f"{tmp_path / 'h'}\n" == done.stdout, done.stderr


def test_tools_of_a_newer_debian_run_by_its_library(tmp_path: Path) -> None:
    """A script takes the program's place; its own name and arguments are passed on."""
    libraries = tmp_path / "new libraries"
    libraries.mkdir()
    interpreter = libraries / "ld-linux-x86-64.so.2"
    interpreter.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    interpreter.chmod(0o755)
    tool = tmp_path / "tool"
    tool.write_bytes(b"\x7fELF GLIBC_2.2.5 GLIBC_2.38 GLIBC_2.4")
    assert 38 == needs_glibc(tool)

    wrap(tool, libraries)

    done = subprocess.run(
        [str(tool), "a b"], capture_output=True, text=True, check=True
    )
    assert ["--library-path", str(libraries), f"{tool}.elf", "a b"] == [
        *done.stdout.splitlines()
    ]
    assert 0 == needs_glibc(tool)


def test_this_machines_tools_need_no_newer_library() -> None:
    """Otherwise each of them would be wrapped."""
    assert 0 < needs_glibc(Path("/usr/bin/env")) <= glibc()


@pytest.mark.parametrize(
    ("layout", "defined"),
    [
        ("L0", ["-DMATCH_ARGS=2"]),
        ("B", ["-DMATCH_ARGS=2", "-DHAS_OVERRIDE_ONLY"]),
        ("D", ["-DMATCH_ARGS=3", "-DHAS_OVERRIDE_ONLY", "-DOVERRIDE_IN_DEVICE"]),
        ("E", ["-DMATCH_ARGS=3", "-DHAS_OVERRIDE_ONLY"]),
    ],
)
def test_modules_know_the_kernels_layout(layout: str, defined: list[str]) -> None:
    """Not from headers: where two fields could hold the override, one does."""
    assert defined == match_of(layouts()[layout])


def test_functions_fill_slots_then_bridges() -> None:
    """Eight functions a slot, the first of a slot multifunction; then a new bridge."""
    words = functions(FUNCTIONS_PER_BRIDGE + 1, "edu")

    assert ["-device", "pci-bridge,id=many0,chassis_nr=20"] == words[:2]
    assert "edu,bus=many0,addr=0x1.0,multifunction=on" == words[3]
    assert "edu,bus=many0,addr=0x1.7" == words[17]
    assert "edu,bus=many0,addr=0x2.0,multifunction=on" == words[19]
    assert "edu,bus=many1,addr=0x1.0,multifunction=on" == words[-1]


def test_no_functions_need_no_bridge() -> None:
    """Nothing asked, nothing added."""
    assert [] == functions(0)


@pytest.mark.parametrize("name", sorted(devices.SETS))
def test_device_sets_are_pairs_of_option_and_value(name: str) -> None:
    """QEMU's options here all take one value, without blanks to be split at."""
    words = devices.SETS[name]

    assert {"-device", "-audiodev", "-netdev"} >= set(words[::2])
    assert [] == [word for word in words if " " in word or word == ""]


def boot(**changes: object) -> Boot:
    """Describe a boot of a kernel that is not there."""
    defaults: dict[str, object] = {"vmlinuz": Path("/k"), "script": Path("/s")}
    return Boot(**(defaults | changes))  # type: ignore[arg-type]


def test_boot_command_forwards_the_port_both_ways(tmp_path: Path) -> None:
    """A port means a network card in QEMU and its address for the guest's init."""
    words = boot(port=9817).command(tmp_path)

    assert "user,id=lab,hostfwd=tcp:127.0.0.1:9817-10.0.2.15:9817" in words
    assert "LAB_MAC=52:54:00:98:17:01" in words[words.index("--script-sh") + 1]


def test_boot_command_adds_no_network_unasked(tmp_path: Path) -> None:
    """Without a port the guest has no card that would be a device to observe."""
    words = boot().command(tmp_path)

    assert [] == [word for word in words if "virtio-net" in word or "LAB_MAC" in word]


def test_boot_command_ends_with_the_callers_qemu_arguments(tmp_path: Path) -> None:
    """virtme-run hands everything behind --qemu-opts on: ours must be last."""
    words = boot(qemu_args=("-device", "edu"), append=("iommu=pt",)).command(tmp_path)

    assert ["-device", "edu"] == words[-2:]
    assert words.index("iommu=pt") < words.index("--qemu-opts")


def test_qemu_paths_have_their_commas_doubled() -> None:
    """A comma ends a QEMU option's value unless it is doubled."""
    words = boot().command(Path("/a,b"))

    assert "file,id=lab-status,path=/a,,b/status" in words


def test_the_repository_is_writable_in_the_guest_wherever_it_lies() -> None:
    """A repository below none of the usual directories gets an overlay of its own."""
    assert "/elsewhere/x" in writable_directories(Path("/elsewhere/x"))
    assert "/tmp/x" not in writable_directories(Path("/tmp/x"))  # noqa: S108


def test_qemu_arguments_stand_behind_two_dashes() -> None:
    """Everything behind the first `--` is QEMU's."""
    assert (["6.1", "s"], ["-device", "edu"]) == split_at_dashes(
        ["6.1", "s", "--", "-device", "edu"]
    )
    assert (["6.1", "s"], []) == split_at_dashes(["6.1", "s"])
