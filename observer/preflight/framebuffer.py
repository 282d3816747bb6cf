"""Whether the kernel itself would hold the memory of a card that is given away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from observer.preflight.bindings import IDLE
from observer.preflight.shape import Change, Kind, Note

if TYPE_CHECKING:
    from observer.machine import PciDevice
    from observer.preflight.kernels import Kernel
    from observer.preflight.outlook import Outlook
    from observer.preflight.view import View

# Options with which the firmware's framebuffer gets a device, BOOTFB, or a driver that
# keeps its memory.
# X86_SYSFB is what SYSFB_SIMPLEFB was called before.
_OPTIONS: Final = (
    "CONFIG_SYSFB_SIMPLEFB",
    "CONFIG_X86_SYSFB",
    "CONFIG_DRM_SIMPLEDRM",
    "CONFIG_DRM_EFIDRM",
    "CONFIG_DRM_VESADRM",
    "CONFIG_FB_SIMPLE",
)


def framebuffer(view: View, device: PciDevice, then: Outlook) -> Change | Note | None:
    """Say what may hold BARs of the card that showed the boot, once it is on vfio-pci.

    Whether it does depends on the firmware, and no file tells.
    """
    given_away = any(each.driver in IDLE for each in then.candidates)
    if not (device.boot_vga and given_away):
        return None
    if view.here.config is None or view.there.config is None:
        text = (
            "boot_vga=1; whether BOOTFB/simpledrm of the target kernel would hold its "
            "BARs is unknown, for a kernel's config can't be read"
        )
        return Note(device.address, text)
    new = sorted(_framebuffers(view.there) - _framebuffers(view.here))
    if not new:
        return None
    text = (
        "binding correct; BAR0 may be held by BOOTFB/simpledrm; boot_vga=1; new in the "
        f"target kernel's config: {', '.join(new)}"
    )
    return Change(Kind.FRAMEBUFFER, device.address, text)


def _framebuffers(kernel: Kernel) -> set[str]:
    config = kernel.config or {}
    return {option for option in _OPTIONS if config.get(option) in {"y", "m"}}
