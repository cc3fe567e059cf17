"""Bits of what stands before the page tables: stream table, STE, CD.

Spec: IHI0070 chapter 5; 6.3 for the registers. Facts: ARM-STE-*, ARM-CD-*. Bits that are not named here
belong to features that are not modelled, or are reserved; an SMMU may ignore the latter (ARM-STE-7).
"""

from attrs import evolve

from hitless.bits import Field, Layout, bit, ignored
from hitless_arm_smmu.layouts import gaps

ABORT, BYPASS = 0, 4
"""STE.Config; stage 1 adds 1 to bypass, stage 2 adds 2."""
_CONFIG = {ABORT: "abort", BYPASS: "bypass", 5: "stage 1", 6: "stage 2", 7: "stage 1 over stage 2"}
_GRANULE = {0: "4K", 1: "64K", 2: "16K"}
_GRANULE_1 = {1: "16K", 2: "4K", 3: "64K"}
_SIZE = {0: "32", 1: "36", 2: "40", 3: "42", 4: "44", 5: "48", 6: "52", 7: "56"}
_CACHE = {0: "non-cacheable", 1: "write-back", 2: "write-through", 3: "write-back, no allocate"}
_SHARE = {0: "non-shareable", 2: "outer", 3: "inner"}


def _layout(name: str, source: str, width: int, *fields: Field) -> Layout:
    """A structure whose other bits are not looked at."""
    free = (ignored(hi, lo, "not modelled") for hi, lo in gaps(fields, width))
    return Layout(name, source, (*fields, *free), width)


def _at(dword: int, *fields: Field) -> tuple[Field, ...]:
    """Fields of one 64-bit word of a structure, given by their bits in that word."""
    base = 64 * dword
    return tuple(evolve(f, hi=f.hi + base, lo=f.lo + base) for f in fields)


STRTAB_BASE = _layout(
    "STRTAB_BASE and STRTAB_BASE_CFG",
    "IHI0070 6.3",
    128,
    *_at(0, Field("ADDR", 51, 6, "of the table", unit=1 << 6), bit("RA", 62, "read-allocate hint")),
    *_at(
        1,
        Field("LOG2SIZE", 5, 0, "bits of a StreamID"),
        Field("SPLIT", 10, 6, "StreamID bits of the second level"),
        Field("FMT", 17, 16, "of the table", values={0: "linear", 1: "two-level"}),
    ),
)
"""The register as ``base`` holds it: STRTAB_BASE in bits 63:0, STRTAB_BASE_CFG in bits 95:64."""

L1STD = _layout(
    "level 1 stream table descriptor",
    "IHI0070 5.1",
    64,
    Field("Span", 4, 0, "2**(n-1) STEs; 0: none"),
    Field("L2Ptr", 51, 6, "of the STEs", unit=1 << 6),
)

STE = _layout(
    "STE",
    "IHI0070 5.2",
    512,
    *_at(
        0,
        bit("V", 0, "valid"),
        Field("Config", 3, 1, "what requests go through", values=_CONFIG),
        Field("S1Fmt", 5, 4, "of the table of CDs", values={0: "linear", 1: "64 CDs a leaf", 2: "1024 CDs a leaf"}),
        Field("S1ContextPtr", 51, 6, "the CD, or the table of CDs", unit=1 << 6),
        Field("S1CDMax", 63, 59, "bits of a SubstreamID; 0: one CD"),
    ),
    *_at(
        1,
        Field("S1DSS", 1, 0, "requests without SubstreamID", values={0: "terminate", 1: "bypass stage 1", 2: "CD 0"}),
        Field("S1CIR", 3, 2, "inner cacheability of CDs", values=_CACHE),
        Field("S1COR", 5, 4, "outer cacheability of CDs", values=_CACHE),
        Field("S1CSH", 7, 6, "shareability of CDs", values=_SHARE),
        bit("MEV", 19, "like events may be merged"),
        bit("S1PIE", 24, "stage 1 has indirect permissions"),
        bit("S2FWB", 25, "stage 2 forces memory types"),
        bit("S1STALLD", 27, "stage 1 may not stall"),
        Field("EATS", 29, 28, "ATS", values={0: "off", 1: "full", 2: "split-stage"}),
        Field("STRW", 31, 30, "translation regime", values={0: "NS-EL1", 2: "EL2"}),
        Field("SHCFG", 45, 44, "shareability of requests", values={**_SHARE, 1: "incoming"}),
    ),
    *_at(
        2,
        Field("S2VMID", 15, 0),
        Field("S2T0SZ", 37, 32, "64 - width of an IPA"),
        Field("S2SL0", 39, 38, "start level"),
        Field("S2IR0", 41, 40, "inner cacheability of walks", values=_CACHE),
        Field("S2OR0", 43, 42, "outer cacheability of walks", values=_CACHE),
        Field("S2SH0", 45, 44, "shareability of walks", values=_SHARE),
        Field("S2TG", 47, 46, "granule", values=_GRANULE),
        Field("S2PS", 50, 48, "bits of a PA", values=_SIZE),
        bit("S2AA64", 51, "VMSAv8-64 tables"),
        bit("S2ENDI", 52, "big-endian tables"),
        bit("S2AFFD", 53, "a clear AF does not fault"),
        bit("S2PTW", 54, "stage 1 walks may not reach device memory"),
        bit("S2HD", 55, "hardware marks dirty pages"),
        bit("S2HA", 56, "hardware sets AF"),
        bit("S2S", 57, "faults stall"),
        bit("S2R", 58, "faults are recorded"),
    ),
    *_at(
        3,
        bit("S2NSW", 0, "walks are Non-secure"),
        bit("S2NSA", 1, "outputs are Non-secure"),
        bit("S2SL0_2", 2, "start level, bit 2"),
        bit("S2DS", 3, "52-bit descriptors"),
        Field("S2TTB", 51, 4, "root table", unit=1 << 4),
    ),
    *_at(4, Field("MECID", 63, 48, "memory encryption context, in a Realm")),
)

L1CD = _layout(
    "level 1 context descriptor",
    "IHI0070 5.3",
    64,
    bit("V", 0, "valid"),
    Field("L2Ptr", 51, 12, "of the CDs", unit=1 << 12),
)

CD = _layout(
    "CD",
    "IHI0070 5.4",
    512,
    *_at(
        0,
        Field("T0SZ", 5, 0, "64 - width of a lower VA"),
        Field("TG0", 7, 6, "granule of TTB0", values=_GRANULE),
        Field("IR0", 9, 8, "inner cacheability of walks", values=_CACHE),
        Field("OR0", 11, 10, "outer cacheability of walks", values=_CACHE),
        Field("SH0", 13, 12, "shareability of walks", values=_SHARE),
        bit("EPD0", 14, "no walks of TTB0"),
        bit("ENDI", 15, "big-endian tables"),
        Field("T1SZ", 21, 16, "64 - width of an upper VA"),
        Field("TG1", 23, 22, "granule of TTB1", values=_GRANULE_1),
        Field("IR1", 25, 24, "inner cacheability of walks", values=_CACHE),
        Field("OR1", 27, 26, "outer cacheability of walks", values=_CACHE),
        Field("SH1", 29, 28, "shareability of walks", values=_SHARE),
        bit("EPD1", 30, "no walks of TTB1"),
        bit("V", 31, "valid"),
        Field("IPS", 34, 32, "bits of the output", values=_SIZE),
        bit("AFFD", 35, "a clear AF does not fault"),
        bit("WXN", 36, "what is writable cannot be executed"),
        bit("UWXN", 37, "what is writable unprivileged cannot be executed privileged"),
        Field("TBI", 39, 38, "top byte ignored"),
        bit("PAN", 40, "privileged accesses stay out of unprivileged pages"),
        bit("AA64", 41, "VMSAv8-64 tables"),
        bit("HD", 42, "hardware marks dirty pages"),
        bit("HA", 43, "hardware sets AF"),
        bit("S", 44, "faults stall"),
        bit("R", 45, "faults are recorded"),
        bit("A", 46, "faults abort"),
        bit("ASET", 47, "the ASID is not shared with CPUs"),
        Field("ASID", 63, 48),
    ),
    *_at(
        1,
        bit("NSCFG0", 0, "TTB0 is Non-secure"),
        bit("HAD0", 1, "table attributes ignored"),
        Field("TTB0", 51, 4, "root table", unit=1 << 4),
    ),
    *_at(
        2,
        bit("NSCFG1", 0, "TTB1 is Non-secure"),
        bit("HAD1", 1, "table attributes ignored"),
        Field("TTB1", 51, 4, "root table", unit=1 << 4),
    ),
    *_at(2, bit("DS", 58, "52-bit descriptors"), bit("PIE", 59, "indirect permissions")),
    *_at(3, Field("MAIR0", 31, 0, "memory types 0 to 3"), Field("MAIR1", 63, 32, "memory types 4 to 7")),
)

LAYOUTS = {"strtab-base": STRTAB_BASE, "l1std": L1STD, "ste": STE, "l1cd": L1CD, "cd": CD}
