"""Layouts of VT-d's structures: root table register, root, context, PASID directory and PASID table entries.

Spec: VT-d 5.10, sections 9.1 to 9.6 and 11.4. Facts: INTEL-CTX-*.
"""

from collections.abc import Mapping
from types import MappingProxyType

from hitless.bits import Field, Layout, bit, ignored, reserved

LEGACY, SCALABLE = 0, 1
"""Translation table modes of the root table register."""

UNTRANSLATED, WITH_ATS, TT_PASS_THROUGH = 0, 1, 2
"""Translation types of a legacy context entry."""

FIRST, SECOND, NESTED, PASS_THROUGH = 1, 2, 3, 4
"""Translation types of a PASID table entry."""

AW_BITS: Mapping[int, int] = MappingProxyType({1: 39, 2: 48, 3: 57})
"""Address bits by the value of an AW field (INTEL-SS-16)."""

_AW = {value: f"{bits} bits, {value + 2} levels" for value, bits in AW_BITS.items()}


def structure_layouts(haw: int, *, second_stage_dirty: bool) -> Mapping[str, Layout]:
    """Every structure by name.

    Args:
        haw: host address width; pointers have no bits above it (INTEL-CTX-13).
        second_stage_dirty: ECAP.SSADS; without it SSADE is reserved (INTEL-CTX-14).
    """
    each = (
        _register(haw),
        _root(haw),
        _scalable_root(haw),
        _context(haw),
        _scalable_context(haw),
        _directory(haw),
        _pasid(haw, second_stage_dirty),
    )
    names = ("rtaddr", "root", "scalable-root", "context", "scalable-context", "pasid-dir", "pasid")
    return MappingProxyType(dict(zip(names, each, strict=True)))


def _pointer(name: str, meaning: str, haw: int, word: int = 0) -> tuple[Field, ...]:
    """A 4 KiB aligned address in one of a structure's 64-bit words, and what lies above it."""
    base = 64 * word
    return (Field(name, base + haw - 1, base + 12, meaning, unit=1 << 12), reserved(base + 63, base + haw))


def _register(haw: int) -> Layout:
    mode = Field("TTM", 11, 10, "translation table mode", values={LEGACY: "legacy", SCALABLE: "scalable"})
    return Layout(
        "root table address register", "VT-d 11.4.5", (reserved(9, 0), mode, *_pointer("RTA", "root table", haw))
    )


def _root(haw: int) -> Layout:
    fields = (bit("P", 0, "present"), reserved(11, 1), *_pointer("CTP", "context table", haw), reserved(127, 64))
    return Layout("root entry", "VT-d 9.1", fields, 128)


def _scalable_root(haw: int) -> Layout:
    fields = (
        bit("LP", 0, "lower half present"),
        reserved(11, 1),
        *_pointer("LCTP", "context table of devfn 0 to 127", haw),
        bit("UP", 64, "upper half present"),
        reserved(75, 65),
        *_pointer("UCTP", "context table of devfn 128 to 255", haw, 1),
    )
    return Layout("scalable-mode root entry", "VT-d 9.2", fields, 128)


def _context(haw: int) -> Layout:
    types = {UNTRANSLATED: "untranslated requests", WITH_ATS: "and ATS", TT_PASS_THROUGH: "pass-through"}
    fields = (
        bit("P", 0, "present"),
        bit("FPD", 1, "faults are not recorded"),
        Field("TT", 3, 2, "translation type", values=types),
        reserved(11, 4),
        *_pointer("SSPTPTR", "second-stage root", haw),
        Field("AW", 66, 64, "address width", values=_AW),
        ignored(70, 67),
        reserved(71, 71),
        Field("DID", 87, 72, "domain"),
        reserved(127, 88),
    )
    return Layout("context entry", "VT-d 9.3", fields, 128)


def _scalable_context(haw: int) -> Layout:
    fields = (
        bit("P", 0, "present"),
        bit("FPD", 1, "faults are not recorded"),
        bit("DTE", 2, "device TLB enabled: ATS"),
        bit("PASIDE", 3, "requests with PASID allowed"),
        bit("PRE", 4, "page requests allowed"),
        bit("HPTE", 5, "host permission table enabled"),
        bit("EPTR", 6),
        reserved(8, 7),
        Field("PDTS", 11, 9, "2^(n+7) directory entries"),
        *_pointer("PASIDDIRPTR", "PASID directory", haw),
        Field("RID_PASID", 83, 64, "PASID of requests without one"),
        bit("RID_PRIV", 84, "requests without PASID are privileged"),
        reserved(255, 85),
    )
    return Layout("scalable-mode context entry", "VT-d 9.4", fields, 256)


def _directory(haw: int) -> Layout:
    fields = (
        bit("P", 0, "present"),
        bit("FPD", 1, "faults are not recorded"),
        reserved(11, 2),
        *_pointer("SMPTBLPTR", "PASID table", haw),
    )
    return Layout("PASID directory entry", "VT-d 9.5", fields)


def _pasid(haw: int, second_stage_dirty: bool) -> Layout:
    types = {FIRST: "first stage", SECOND: "second stage", NESTED: "nested", PASS_THROUGH: "pass-through"}
    dirty = bit("SSADE", 9, "A and D are set in second-stage entries")
    fields = (
        bit("P", 0, "present"),
        bit("FPD", 1, "faults are not recorded"),
        Field("AW", 4, 2, "address width of the second stage", values=_AW),
        reserved(5, 5),
        Field("PGTT", 8, 6, "translation type", values=types),
        dirty if second_stage_dirty else reserved(9, 9),
        reserved(11, 10),
        *_pointer("SSPTPTR", "second-stage root", haw),
        Field("DID", 79, 64, "domain"),
        reserved(86, 80),
        bit("PWSNP", 87, "walks snoop"),
        bit("PGSNP", 88, "pages snoop"),
        bit("CD", 89, "cache disabled"),
        bit("EMTE", 90, "EMT of second-stage entries is used"),
        reserved(95, 91),
        Field("PAT", 127, 96, "page attribute table of the first stage"),
        bit("SRE", 128, "privileged requests allowed"),
        reserved(129, 129),
        Field("FSPM", 131, 130, "first-stage paging mode", values={0: "4 levels", 1: "5 levels"}),
        bit("WPE", 132, "read-only pages refuse privileged writes"),
        reserved(134, 133),
        bit("EAFE", 135, "EA is set in first-stage entries"),
        reserved(139, 136),
        *_pointer("FSPTPTR", "first-stage root", haw, 2),
        reserved(255, 192),
        Field("HPTSZ", 257, 256, "size of the host permission table"),
        bit("HPTPFD", 258),
        reserved(267, 259),
        *_pointer("HPTPTR", "host permission table", haw, 4),
        Field("HPT DID", 335, 320, "domain of the host permission table"),
        reserved(511, 336),
    )
    return Layout("PASID table entry", "VT-d 9.6", fields, 512)
