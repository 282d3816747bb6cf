"""The layouts of real kernels, of kernels that lack something, and of nonsense."""

from __future__ import annotations

import json
import struct
from contextlib import suppress
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
from btf_trim import FUNC, Reader, trim
from hypothesis import example, given, settings
from hypothesis import strategies as st

from observer.btf import Btf, BtfError
from observer.layout import Layout, LayoutError, layout_of

DIRECTORY = Path(__file__).parent / "btf"
EXPECTED = json.loads((DIRECTORY / "layouts.json").read_text())
KERNELS = sorted(EXPECTED)
L0, A, B = "5.10.0-46-amd64", "6.1.0-47-amd64", "6.12.90+deb12.1-amd64"
C, D, E = "6.12.95+deb12-amd64", "6.12.117+deb12-amd64", "6.1.0-56-amd64"


def types_of(kernel: str) -> bytes:
    """Read a fixture."""
    return (DIRECTORY / f"{kernel}.btf").read_bytes()


def layout(kernel: str) -> Layout:
    """Work out the layout of a fixture."""
    return layout_of(Btf(types_of(kernel)))


def renamed(data: bytes, old: str, new: str) -> bytes:
    """Rename all types and members of one name; both names are equally long."""
    before, found, after = data.rpartition(b"\0%s\0" % old.encode())
    assert found
    assert len(old) == len(new)
    return before + b"\0%s\0" % new.encode() + after


def retyped(data: bytes, function: str, like: str) -> bytes:
    """Give a function the prototype of another one."""
    reader = Reader(data)
    target, model = (reader.find(FUNC, [name])[0] for name in (function, like))
    at = reader.spans[target][0] + 8
    return data[:at] + struct.pack("<I", reader[model].value) + data[at + 4 :]


class TestKernels:
    """Real kernels, one row of layouts.json each."""

    def test_complete(self) -> None:
        """Every fixture has its row, and every layout a fixture."""
        assert KERNELS == sorted(path.stem for path in DIRECTORY.glob("*.btf"))
        assert set("ABCDE") | {"L0"} == {row["name"] for row in EXPECTED.values()}

    @pytest.mark.parametrize("kernel", KERNELS)
    def test_expected(self, kernel: str) -> None:
        """Names, slugs and offsets are the ones that bpftool gave for this kernel."""
        assert EXPECTED[kernel] == layout(kernel).as_dict()

    @pytest.mark.parametrize(
        ("kernel", "offset"),
        [(L0, 2512), (A, 2600), (E, 2608), ("7.0.7+deb13-amd64", 2704)],
    )
    def test_own_override(self, kernel: str, offset: int) -> None:
        """The override wanders about in struct pci_dev from kernel to kernel."""
        found = layout(kernel)
        assert "pci_dev.driver_override" == found.override_field
        assert offset == found.offsets["DEV_OVERRIDE"]

    @pytest.mark.parametrize(
        ("kernel", "expected"),
        [
            (L0, (16, 24, 96, 240)),
            (A, (16, 24, 120, 264)),
            (B, (0, 8, 104, 248)),
            ("6.18.15+deb13-amd64", (0, 8, 104, 248)),
            ("6.19.8+deb13-amd64", (0, 8, 104, 256)),
            ("7.3.4+deb13-amd64", (0, 8, 104, 256)),
        ],
    )
    def test_pci_driver(self, kernel: str, expected: tuple[int, ...]) -> None:
        """So do the members of struct pci_driver."""
        btf = Btf(types_of(kernel))
        members = "name", "id_table", "driver", "dynids"
        assert expected == tuple(btf.offset("pci_driver", name) for name in members)

    @pytest.mark.parametrize("kernel", KERNELS)
    def test_size_of_an_id(self, kernel: str) -> None:
        """An id without override_only takes 32 bytes, one with it 40."""
        found = layout(kernel).offsets
        expected = (40, 32) if "ID_OVERRIDE_ONLY" in found else (32, None)
        assert expected == (found["ID_SIZE"], found.get("ID_OVERRIDE_ONLY"))

    @pytest.mark.parametrize("kernel", KERNELS)
    def test_embedded(self, kernel: str) -> None:
        """What is inside struct device or device_driver adds up in what holds it."""
        found = layout(kernel).offsets
        assert found["DEV_DEVICE"] + found["DEVICE_BUS"] == found["DEV_DEVICE_BUS"]
        assert found["DRV_DRIVER"] + found["DRIVER_NAME"] == found["DRV_NAME"]


class TestOverride:
    """The field that PCI reads, whatever else there is."""

    def test_trap(self) -> None:
        """On layout B both overrides exist, and PCI reads its own."""
        btf = Btf(types_of(B))
        generic = btf.offset("pci_dev", "dev", "driver_override", "name")
        assert generic is not None
        assert (
            btf.offset("pci_dev", "driver_override")
            == layout_of(btf).offsets["DEV_OVERRIDE"]
        )
        assert generic != layout_of(btf).offsets["DEV_OVERRIDE"]
        assert "pci_dev.driver_override" == layout_of(btf).override_field

    @pytest.mark.parametrize("kernel", [C, D])
    def test_generic(self, kernel: str) -> None:
        """Where PCI has given up its own, the name inside the generic one counts."""
        btf = Btf(types_of(kernel))
        found = layout_of(btf)
        assert "device.driver_override.name" == found.override_field
        expected = btf.offset("pci_dev", "dev", "driver_override", "name")
        assert expected == found.offsets["DEV_OVERRIDE"]

    def test_none(self) -> None:
        """A kernel without any override has the semantics of Linux 3.15."""
        found = layout_of(
            Btf(renamed(types_of(L0), "driver_override", "driver_overrule"))
        )
        assert "other:none" == found.name
        assert ("linux-3.15", None) == (found.semantics, found.override_field)
        assert "DEV_OVERRIDE" not in found.offsets

    def test_generic_without_name(self) -> None:
        """A generic override of an unknown form is not guessed at."""
        data = types_of(C)
        btf, reader = Btf(data), Reader(data)
        device = btf.struct("device")
        assert device is not None
        override = btf.member(device, "driver_override")
        assert override is not None
        at = reader.spans[override.type_id][0] + 12  # the first member's name offset
        with pytest.raises(
            LayoutError, match=r"^struct device has no member driver_override\.name in"
        ):
            layout_of(Btf(data[:at] + bytes(4) + data[at + 4 :]))


class TestMixtures:
    """Vendors combine the features freely."""

    @pytest.mark.parametrize(
        ("kernel", "name"),
        [
            (C, "other:device.driver_override"),
            (D, "other:device.driver_override+id_copy"),
            (E, "other:id_copy+pci_dev.driver_override"),
        ],
    )
    def test_without_override_only(self, kernel: str, name: str) -> None:
        """A mixture never seen is named by its features, and works."""
        data = renamed(types_of(kernel), "override_only", "override_nope")
        found = layout_of(Btf(data))
        assert (name, "linux-3.16") == (found.name, found.semantics)
        assert layout(kernel).override_field == found.override_field
        assert "ID_OVERRIDE_ONLY" not in found.offsets

    def test_probe_function(self) -> None:
        """Only the kernel's own functions tell which one every probe goes through."""
        data = renamed(types_of(A), "__driver_probe_device", "__driver_trial_device")
        assert "driver_probe_device" == layout_of(Btf(data)).probe_function

    def test_new_id_rules(self) -> None:
        """Those of 7.3 came with the match's copy; 7.2.13 inlines what they add."""
        found = layout_of(
            Btf(renamed(types_of(D), "do_pci_add_dynid", "do_pci_add_dynic"))
        )
        assert ("D", "linux-7.3") == (found.name, found.new_id_rules)


class TestMissing:
    """A kernel that lacks something is refused in a sentence that says what."""

    @pytest.mark.parametrize(
        ("name", "sentence"),
        [
            ("name", "struct pci_driver has no member driver.name"),
            ("driver", "struct pci_driver has no member driver.name"),
            ("p", "struct pci_driver has no member driver.p"),
            ("probe", "struct pci_driver has no member probe"),
            ("id_table", "struct pci_driver has no member id_table"),
            ("dynids", "struct pci_driver has no member dynids.list"),
            ("list", "struct pci_driver has no member dynids.list"),
            ("id", "struct pci_dynid has no member id"),
            ("driver_data", "struct pci_device_id has no member driver_data"),
            ("dev", "struct pci_dev has no member dev"),
            ("kobj", "struct pci_dev has no member dev.kobj.name"),
            ("bus", "struct pci_dev has no member dev.bus"),
            ("vendor", "struct pci_dev has no member vendor"),
            ("device", "struct pci_dev has no member device"),
            ("subsystem_vendor", "struct pci_dev has no member subsystem_vendor"),
            ("subsystem_device", "struct pci_dev has no member subsystem_device"),
            ("class", "struct pci_dev has no member class"),
            ("is_virtfn", "struct pci_dev has no member is_virtfn"),
            ("pci_driver", "this kernel's BTF has no struct pci_driver"),
            ("pci_dev", "this kernel's BTF has no struct pci_dev"),
            ("pci_dynid", "this kernel's BTF has no struct pci_dynid"),
            ("pci_device_id", "this kernel's BTF has no struct pci_device_id"),
            ("bus_type", "this kernel's BTF has no struct bus_type"),
            ("device_driver", "this kernel's BTF has no struct device_driver"),
        ],
    )
    @pytest.mark.parametrize("kernel", [L0, B, "7.3.4+deb13-amd64"])
    def test_renamed(self, kernel: str, name: str, sentence: str) -> None:
        """Whatever is gone is named, with what to do about it."""
        with pytest.raises(LayoutError) as caught:
            layout_of(Btf(renamed(types_of(kernel), name, "X" * len(name))))
        assert sentence in str(caught.value)
        assert "`pci-observer doctor --json`" in str(caught.value)

    @pytest.mark.parametrize("kernel", [L0, B, D])
    def test_match_function(self, kernel: str) -> None:
        """Where it is inlined the rest is known; its caller must be there."""
        name = "pci_match_device"
        inlined = renamed(types_of(kernel), name, "X" * len(name))
        layout = layout_of(Btf(inlined))
        known = layout_of(Btf(types_of(kernel)))
        assert (0, known.offsets | {"MATCH_ARGS": 0}) == (
            layout.match_args,
            {**layout.offsets},
        )
        assert known.semantics == layout.semantics
        name = "pci_bus_match"
        with pytest.raises(LayoutError, match="no function pci_match_device in its"):
            layout_of(Btf(renamed(inlined, name, "X" * len(name))))

    def test_arguments(self) -> None:
        """A match function with yet another number of arguments is not guessed at."""
        data = retyped(types_of(D), "pci_match_device", like="pci_unregister_driver")
        with pytest.raises(LayoutError, match="takes 1 arguments, where 2 and 3 are"):
            layout_of(Btf(data))


class TestValue:
    """A layout is a value, and goes through JSON."""

    @pytest.mark.parametrize("kernel", KERNELS)
    def test_round_trip(self, kernel: str) -> None:
        """What a recording's header says is read back; unknown fields are skipped."""
        found = layout(kernel)
        text = json.dumps(found.as_dict() | {"later": "field"})
        assert found == Layout.from_dict(json.loads(text))
        assert hash(found) == hash(Layout.from_dict(json.loads(text)))

    def test_no_override(self) -> None:
        """A layout without an override keeps having none."""
        values = EXPECTED[L0] | {"override_field": None}
        assert Layout.from_dict(values).override_field is None

    @pytest.mark.parametrize(
        ("values", "sentence"),
        [
            ({"name": None}, "layout: name is None, should be of type str"),
            ({"match_args": "2"}, "layout: match_args is '2', should be of type int"),
            (
                {"override_field": 7},
                "layout: override_field is 7, should be of type str",
            ),
            ({"offsets": []}, r"layout: offsets is \[\], should be of type dict"),
            ({"offsets": {"X": "1"}}, "layout: X is '1', should be of type int"),
        ],
    )
    def test_bad_field(self, values: dict[str, object], sentence: str) -> None:
        """A field of the wrong type is named."""
        with pytest.raises(LayoutError, match=sentence):
            Layout.from_dict(EXPECTED[L0] | values)

    def test_read_only(self) -> None:
        """Nobody changes a layout by accident."""
        found = layout(A)
        with pytest.raises(FrozenInstanceError):
            found.name = "B"  # type: ignore[misc]
        with pytest.raises(TypeError):
            found.offsets["DEV_CLASS"] = 0  # type: ignore[index]


def survives(data: bytes) -> None:
    """Read this: it gives a layout or one of the two errors."""
    with suppress(BtfError, LayoutError):
        # 0 where the function is not there, but its caller.
        assert layout_of(Btf(data)).match_args in {0, 2, 3}


MUTATIONS = st.lists(
    st.tuples(
        st.integers(0, len(types_of(D)) // 4 - 1),
        st.integers(0, 0xFFFFFFFF) | st.integers(0, 400) | st.integers(0, 31),
    ),
    min_size=1,
    max_size=20,
)


class TestNonsense:
    """Any bytes give a layout, BtfError or LayoutError, and that soon."""

    @settings(deadline=5000, max_examples=300)
    @given(MUTATIONS)
    @example([(1604, 0)])  # the name of pci_match_device
    def test_mutated(self, mutations: list[tuple[int, int]]) -> None:
        """Words of a real kernel's types replaced at random."""
        data = bytearray(types_of(D))
        for word, value in mutations:
            struct.pack_into("<I", data, word * 4, value)
        survives(bytes(data))

    @settings(deadline=5000)
    @given(st.sampled_from(KERNELS), st.floats(0, 1), st.floats(0, 1))
    def test_cut_out(self, kernel: str, first: float, second: float) -> None:
        """A piece of any length is missing anywhere."""
        data = types_of(kernel)
        begin, end = sorted(int(part * len(data)) for part in (first, second))
        survives(data[:begin] + data[end:])

    @settings(deadline=5000)
    @given(st.integers(0, len(types_of(B)) - 1))
    def test_cut_short(self, length: int) -> None:
        """A file that isn't whole is refused, wherever it ends."""
        with pytest.raises(BtfError):
            Btf(types_of(B)[:length])

    @given(st.binary(max_size=200), st.booleans())
    def test_any_bytes(self, data: bytes, headed: bool) -> None:  # noqa: FBT001
        """Any bytes at all, and any behind a good start."""
        survives((b"\x9f\xeb\x01\0\x18\0\0\0" if headed else b"") + data)


class TestTrim:
    """Fixtures stand for the kernels they were cut from."""

    @pytest.mark.parametrize("kernel", KERNELS)
    def test_same_layout(self, kernel: str) -> None:
        """Cut down further, to what a layout takes, nothing changes but the size."""
        structs = ["pci_driver", "pci_dev", "pci_device_id", "pci_dynid", "pci_dynids"]
        structs += ["device", "device_driver", "bus_type", "kobject"]
        functions = ["pci_match_device", "__driver_probe_device", "do_pci_add_dynid"]
        data = trim(types_of(kernel), structs, functions)
        assert len(data) < len(types_of(kernel))
        assert layout(kernel) == layout_of(Btf(data))
