"""Decide how the running kernel stores and matches PCI ids, from its BTF alone.

All differences between kernels live here. The release number decides nothing: stable
trees and vendors carry each of these changes separately.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

    from observer.btf import Btf

_Value = TypeVar("_Value")

_REPORT: Final = (
    "please report this kernel with the output of `pci-observer doctor --json`"
)

# What tells one layout from another.
# Linux kernel commit 343b7258687e ("PCI: Add 'override_only' field to struct
# pci_device_id") (in v5.15)
_ONLY: Final = "override_only"
# Linux kernel commit 782a985d7af2 ("PCI: Introduce new device binding path using
# pci_dev.driver_override") (in v3.16)
# Linux kernel commit 10a4206a2401 ("PCI: use generic driver_override infrastructure")
# (in v7.1) removes it
_PCI: Final = "pci_dev.driver_override"
# Linux kernel commit cb3d1049f4ea ("driver core: generalize driver_override in struct
# device") (in v7.0)
_DEVICE: Final = "device.driver_override"
# Linux kernel commit 3ffc4c9690c3 ("PCI: Fix UAF when probe runs concurrent to dyn ID
# removal") (in v7.3)
_COPY: Final = "id_copy"  # the third argument of pci_match_device

_NAMES: Final = {
    frozenset({_PCI}): "L0",
    frozenset({_ONLY, _PCI}): "A",
    frozenset({_ONLY, _PCI, _DEVICE}): "B",
    frozenset({_ONLY, _DEVICE}): "C",
    frozenset({_ONLY, _DEVICE, _COPY}): "D",
    frozenset({_ONLY, _PCI, _COPY}): "E",
}

# 0: it is no function of its own
_KNOWN_ARGS: Final = {0: frozenset[str](), 2: frozenset[str](), 3: frozenset({_COPY})}

# Constants of the BPF programs: struct and member, as a byte offset in the former.
_OFFSETS: Final = {
    "DRV_NAME": ("pci_driver", "driver", "name"),
    "DRV_DRIVER": ("pci_driver", "driver"),
    "DRV_PRIVATE": ("pci_driver", "driver", "p"),
    "DRV_PROBE": ("pci_driver", "probe"),
    "DRV_ID_TABLE": ("pci_driver", "id_table"),
    "DRV_DYNIDS": ("pci_driver", "dynids", "list"),
    "DYNID_ID": ("pci_dynid", "id"),
    "ID_DRIVER_DATA": ("pci_device_id", "driver_data"),
    "DEV_DEVICE": ("pci_dev", "dev"),
    "DEV_NAME": ("pci_dev", "dev", "kobj", "name"),
    "DEV_DEVICE_BUS": ("pci_dev", "dev", "bus"),  # a struct bus_type
    "DEV_BUS": ("pci_dev", "bus"),  # a struct pci_bus; null in new_id's fake device
    "DEV_VENDOR": ("pci_dev", "vendor"),
    "DEV_DEVICE_ID": ("pci_dev", "device"),
    "DEV_SUBVENDOR": ("pci_dev", "subsystem_vendor"),
    "DEV_SUBDEVICE": ("pci_dev", "subsystem_device"),
    "DEV_CLASS": ("pci_dev", "class"),
    "BUS_NAME": ("bus_type", "name"),
    "DEVICE_BUS": ("device", "bus"),
    "DEVICE_DRIVER": ("device", "driver"),
    "DRIVER_NAME": ("device_driver", "name"),
    "DRIVER_BUS": ("device_driver", "bus"),
}

_IDS_IN_A_ROW: Final = (2, 4, 6, 8)  # bytes behind pci_dev.vendor


class LayoutError(Exception):
    """No layout can be made of this; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Layout:
    """One kernel, as far as matching PCI ids goes."""

    name: str  # L0, A to E, or "other:" and the features of a mixture never seen
    semantics: str  # slug of the truth function
    match_args: int  # of pci_match_device: 2 or 3; 0: not known
    override_field: str | None  # the one PCI reads
    probe_function: str  # the one every probe goes through
    new_id_rules: str  # slug
    offsets: Mapping[str, int] = field(hash=False)  # -D constants; bytes, but for _MASK

    def as_dict(self) -> dict[str, object]:
        """Give the layout as plain values, for the header of a recording."""
        return {
            "name": self.name,
            "semantics": self.semantics,
            "match_args": self.match_args,
            "override_field": self.override_field,
            "probe_function": self.probe_function,
            "new_id_rules": self.new_id_rules,
            "offsets": dict(self.offsets),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> Layout:
        """Read what `as_dict` wrote; unknown fields are skipped."""
        no_override = values.get("override_field") is None
        given = _value(values, "offsets", dict)
        offsets = {key: _value(given, key, int) for key in given}
        return cls(
            name=_value(values, "name", str),
            semantics=_value(values, "semantics", str),
            match_args=_value(values, "match_args", int),
            override_field=(
                None if no_override else _value(values, "override_field", str)
            ),
            probe_function=_value(values, "probe_function", str),
            new_id_rules=_value(values, "new_id_rules", str),
            offsets=MappingProxyType(offsets),
        )


# Of a kernel that does not tell: as every one since 5.15, and so the likeliest.
UNKNOWN: Final = Layout(
    name="unknown",
    semantics="linux-5.15",
    match_args=0,
    override_field=None,
    probe_function="__driver_probe_device",
    new_id_rules="linux-7.3",
    offsets=MappingProxyType({}),
)


def layout_of(btf: Btf) -> Layout:
    """Work out the layout of the kernel that these types are of."""
    match_args = _match_args(btf)
    features = _features(btf) | _KNOWN_ARGS[match_args]
    return Layout(
        name=_name(features),
        semantics=_semantics(features),
        match_args=match_args,
        override_field=_override_field(features),
        probe_function=_probe_function(btf),
        new_id_rules=_new_id_rules(btf, features),
        offsets=MappingProxyType(_constants(btf, features, match_args)),
    )


def _match_args(btf: Btf) -> int:
    count = btf.parameters("pci_match_device")
    if count is None:
        # Inlined or renamed; its caller may be hooked instead.
        if btf.function("pci_bus_match") is not None:
            return 0
        raise LayoutError(
            "this kernel has no function pci_match_device in its BTF (inlined or "
            f"renamed), so its decisions can't be observed; {_REPORT}"
        )
    if not count or count not in _KNOWN_ARGS:
        raise LayoutError(
            f"this kernel's function pci_match_device takes {count} arguments, where "
            f"2 and 3 are known; {_REPORT}"
        )
    return count


def _features(btf: Btf) -> frozenset[str]:
    optional = {
        _ONLY: ("pci_device_id", "override_only"),
        _PCI: ("pci_dev", "driver_override"),
        _DEVICE: ("device", "driver_override"),
    }
    return frozenset(name for name, path in optional.items() if btf.has_member(*path))


def _name(features: frozenset[str]) -> str:
    mixture = "+".join(sorted(features)) or "none"
    return _NAMES.get(features, f"other:{mixture}")


def _semantics(features: frozenset[str]) -> str:
    if _ONLY in features:
        return "linux-5.15"
    return "linux-3.16" if features & {_PCI, _DEVICE} else "linux-3.15"


def _override_field(features: frozenset[str]) -> str | None:
    """Choose the override that PCI reads.

    Where both exist (layout B) PCI still has its own: the other one is there for other
    buses, and null in every PCI device.
    """
    if _PCI in features:
        return "pci_dev.driver_override"
    return "device.driver_override.name" if _DEVICE in features else None


def _probe_function(btf: Btf) -> str:
    # Linux kernel commit ef6dcbdd8eb2 ("driver core: Flow the return code from
    # ->probe() through to sysfs bind") (in v5.14)
    if btf.function("__driver_probe_device") is not None:
        return "__driver_probe_device"
    return "driver_probe_device"


def _new_id_rules(btf: Btf, features: frozenset[str]) -> str:
    # Linux kernel commit 04fde70f782b ("PCI: Fix dyn_id add TOCTOU") (in v7.3), with
    # which the third argument came; its function is inlined in Debian's 7.2.13
    if _COPY in features or btf.function("do_pci_add_dynid") is not None:
        return "linux-7.3"
    # Linux kernel commit 3853f9123c18 ("PCI: Avoid duplicate IDs in driver dynamic IDs
    # list") (in v5.11) leaves no trace in BTF: v5.11 to v5.14 pass for older ones here
    return "linux-5.11" if _ONLY in features else "linux-3.16"


def _constants(btf: Btf, features: frozenset[str], match_args: int) -> dict[str, int]:
    """List all the BPF programs want, without what this kernel doesn't have."""
    constants = {"MATCH_ARGS": match_args, "ID_SIZE": _size(btf, "pci_device_id")}
    constants |= {name: _offset(btf, *path) for name, path in _OFFSETS.items()}
    if _ONLY in features:
        constants["ID_OVERRIDE_ONLY"] = _offset(btf, "pci_device_id", "override_only")
    if _PCI in features:
        constants["DEV_OVERRIDE"] = _offset(btf, "pci_dev", "driver_override")
    elif _DEVICE in features:
        name = _offset(btf, "device", "driver_override", "name")
        constants["DEV_OVERRIDE"] = constants["DEV_DEVICE"] + name
    _check_ids(constants)
    return constants | _is_virtfn(btf)


def _check_ids(constants: Mapping[str, int]) -> None:
    """Make sure that the programs can read a device's ids at once."""
    names = ("DEV_DEVICE_ID", "DEV_SUBVENDOR", "DEV_SUBDEVICE", "DEV_CLASS")
    places = tuple(constants[name] - constants["DEV_VENDOR"] for name in names)
    if places != _IDS_IN_A_ROW:
        raise LayoutError(
            "the ids of struct pci_dev lie in another order than in every kernel "
            f"known; {_REPORT}"
        )


def _is_virtfn(btf: Btf) -> dict[str, int]:
    """Locate this bit-field: the byte, and the bits in it."""
    found = btf.bit_offset("pci_dev", "is_virtfn")
    if found is None:
        raise _missing(btf, "pci_dev", "is_virtfn")
    byte, bit = divmod(found[0], 8)
    mask = ((1 << found[1]) - 1) << bit & 0xFF
    return {"DEV_IS_VIRTFN_BYTE": byte, "DEV_IS_VIRTFN_MASK": mask}


def _offset(btf: Btf, struct: str, *path: str) -> int:
    offset = btf.offset(struct, *path)
    if offset is None:
        raise _missing(btf, struct, *path)
    return offset


def _size(btf: Btf, struct: str) -> int:
    size = btf.size(struct)
    if size is None:
        raise _missing(btf, struct)
    return size


def _missing(btf: Btf, struct: str, *path: str) -> LayoutError:
    """Say what this kernel lacks: the struct, or only the member."""
    if btf.struct(struct) is None:
        return LayoutError(f"this kernel's BTF has no struct {struct}; {_REPORT}")
    member = ".".join(path)
    return LayoutError(
        f"struct {struct} has no member {member} in this kernel's BTF; {_REPORT}"
    )


def _value(values: Mapping[str, object], key: str, kind: type[_Value]) -> _Value:
    value = values.get(key)
    if not isinstance(value, kind):
        raise LayoutError(
            f"layout: {key} is {value!r}, should be of type {kind.__name__}"
        )
    return value
