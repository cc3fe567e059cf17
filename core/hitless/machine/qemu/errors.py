"""What can go wrong with an emulator."""

from hitless.errors import HitlessError


class NoEmulator(HitlessError):
    """QEMU is not installed, or this QEMU cannot do what is asked: a reason to skip, not a fault."""


class NotEmulated(NoEmulator):
    """The vendor, format or feature is one that this QEMU does not emulate."""


class EmulatorError(HitlessError):
    """QEMU died, hangs, or refused an option or a command; carries its own words."""
