"""Words for what images hold: rights, attributes, devices."""

from collections.abc import Sequence

from hitless.inspect.entries import Kind
from hitless.pagetable import READ, WRITE, PageFormat
from hitless.units import lg2_text, size_text


def rights_text(rights: int) -> str:
    """``RW``, ``R-``, ``-W`` or ``--``."""
    return ("R" if rights & READ else "-") + ("W" if rights & WRITE else "-")


def attributes_text(fmt: PageFormat, attrs: int) -> str:
    """The attributes by the names of their fields, without those that say rights: ``FC``, ``EMT=WB SNP``."""
    smallest = fmt.leaf_sizes[0]
    plain = fmt.leaf(smallest.lg2, 0, 0)
    word = fmt.leaf(smallest.lg2, 0, attrs)
    layout = fmt.layout("leaf", smallest.level)
    found = []
    for field in layout.fields if layout is not None else ():
        value = (word & ~plain & field.mask) >> field.lo
        if not value or field.unit or field.role == "ignored":
            continue
        without = word & ~field.mask
        if fmt.rights(without, smallest.level) != fmt.rights(word, smallest.level):
            continue
        name = field.values.get(value, f"{value:#x}" if field.ones > 1 else "")
        found.append(f"{field.name}={name}" if name else field.name)
    return " ".join(found)


def kind_text(fmt: PageFormat, kind: Kind) -> tuple[str, str, str]:
    """Rights, leaf size and attributes."""
    return rights_text(kind.rights), lg2_text(kind.leaf_lg2), attributes_text(fmt, kind.attrs)


def device_text(device: int) -> str:
    """A requester id as bus:device.function; larger ids as a number."""
    if device >> 16:
        return f"{device:#x}"
    return f"{device >> 8:02x}:{device >> 3 & 31:02x}.{device & 7}"


def devices_text(devices: Sequence[int], most: int = 8) -> str:
    """The first devices of a list, and how many there are beside them."""
    shown = ", ".join(map(device_text, devices[:most]))
    return shown + (f" and {len(devices) - most:,} more" if len(devices) > most else "")


def bytes_text(count: int) -> str:
    """Bytes as people read them: the largest unit that leaves whole numbers, or a rounded one."""
    exact = size_text(count)
    if len(exact) <= 6:
        return exact
    for suffix, shift in (("P", 50), ("T", 40), ("G", 30), ("M", 20), ("K", 10)):
        if count >> shift:
            return f"{count / (1 << shift):.1f}{suffix}"
    return exact
