"""Between the fields of STE and CD and the configuration of a page format, both ways.

Spec: IHI0070 5.2 and 5.4. Facts: ARM-STE-2, ARM-CD-1, ARM-LVL-*.
"""

from collections.abc import Mapping

from hitless.errors import HitlessError
from hitless.hardware.structures import StageRoot
from hitless.units import aligned_lg2
from hitless_arm_smmu.features import ArmSmmuFeatures
from hitless_arm_smmu.stage1 import MAIR, ArmStage1, Stage1Config
from hitless_arm_smmu.stage2 import ArmStage2, Stage2Config

STAGE_1, STAGE_2 = 1, 2
"""Bits of STE.Config."""
SIZES = (32, 36, 40, 42, 44, 48, 52)
"""Bits of an output address, by IPS, S2PS and OAS (ARM-LVL-7)."""
_GRANULE_LG2 = {0: 12, 1: 16, 2: 14}
_GRANULE_1_LG2 = {1: 14, 2: 12, 3: 16}
_TSZ_MIN, _TSZ_MIN_52, _TSZ_MAX = 16, 12, 39
_SNOOPED = {"IR": 1, "OR": 1, "SH": 3}  # write-back, inner shareable
_NOT_SNOOPED = {"IR": 0, "OR": 0, "SH": 2}


def ste_regime(ste: Mapping[str, int], features: ArmSmmuFeatures) -> Stage2Config | str:
    """Stage 2's configuration; or why the STE is bad (ARM-STE-2, ARM-STE-11)."""
    if not ste["S2AA64"] or ste["S2ENDI"]:
        return "tables that are not VMSAv8-64, little-endian, are not supported (ARM-STE-11)"
    granule_lg2 = _GRANULE_LG2.get(ste["S2TG"])
    if granule_lg2 is None:
        return f"S2TG {ste['S2TG']} is reserved (ARM-LVL-8)"
    ds, lpa = bool(ste["S2DS"]) and granule_lg2 != 16, granule_lg2 == 16 and features.output_bits == 52
    output = _output_bits(ste["S2PS"], features, wide=ds or lpa)
    if not _TSZ_MIN_52 <= ste["S2T0SZ"] <= _TSZ_MAX or (ste["S2T0SZ"] < _TSZ_MIN and not (ds or lpa)):
        return f"S2T0SZ {ste['S2T0SZ']} is out of range (ARM-LVL-4)"
    config = Stage2Config(
        granule_lg2=granule_lg2,
        input_bits=64 - ste["S2T0SZ"],
        output_bits=output,
        ds=ds,
        lpa=lpa,
        bbml=features.bbml,
        ha=bool(ste["S2HA"]),
        hd=bool(ste["S2HA"] and ste["S2HD"]),
        affd=bool(ste["S2AFFD"]),
        s2fwb=bool(ste["S2FWB"]),
        half=features.half,
    )
    if config.input_bits > features.output_bits:
        return f"an IPA of {config.input_bits} bits is wider than the SMMU's addresses (ARM-LVL-10)"
    sl0 = ste["S2SL0"] | ste["S2SL0_2"] << 2
    fitting = [each for each in (config.plain, config.folded) if each.sl0 == sl0]
    if not fitting:
        return f"S2SL0 {sl0} does not go with {config.input_bits} bits of IPA (ARM-LVL-4, ARM-LVL-5)"
    if ste["S2TTB"] << 4 >> output:
        return f"S2TTB is beyond {output} bits (ARM-STE-11)"
    return fitting[0]


def stage2_fields(root: StageRoot, features: ArmSmmuFeatures) -> dict[str, int]:
    """The fields of an STE that lead to stage 2 tables.

    Raises:
        HitlessError: a VMID, width or root that the fields cannot hold.
    """
    fmt = root.page_format
    if not isinstance(fmt, ArmStage2):
        raise unfit(f"stage 2 is of format {fmt.name}", "give arm_smmu/stage2 tables")
    config = fmt.config
    check_id("VMID", root.tag, wide=features.vmid16)
    _check(root, config.output_bits, fmt.top.table_lg2)
    walks = _SNOOPED if features.coherent else _NOT_SNOOPED
    return {
        "S2FWB": int(config.s2fwb),
        "S2VMID": root.tag,
        "S2T0SZ": 64 - config.input_bits,
        "S2SL0": config.sl0 & 3,
        "S2SL0_2": config.sl0 >> 2,
        **{f"S2{name}0": value for name, value in walks.items()},
        "S2TG": _code(_GRANULE_LG2, config.granule_lg2),
        "S2PS": SIZES.index(config.output_bits),
        "S2AA64": 1,
        "S2AFFD": int(config.affd),
        "S2HA": int(config.ha),
        "S2HD": int(config.hd),
        "S2R": 1,
        "S2DS": int(config.ds),
        "S2TTB": root.root_pa >> 4,
    }


def cd_regime(cd: Mapping[str, int], features: ArmSmmuFeatures) -> Stage1Config | str:
    """Stage 1's configuration, the lower half's unless EPD0 turns it off; or why the CD is bad (ARM-CD-1, ARM-CD-2)."""
    upper = bool(cd["EPD0"])
    if not cd["AA64"] or cd["ENDI"]:
        return "tables that are not VMSAv8-64, little-endian, are not supported (ARM-CD-2)"
    granule_lg2 = (_GRANULE_1_LG2 if upper else _GRANULE_LG2).get(cd["TG1" if upper else "TG0"])
    if granule_lg2 is None:
        return f"TG{int(upper)} is reserved (ARM-LVL-8)"
    ds, lpa = bool(cd["DS"]) and granule_lg2 != 16, granule_lg2 == 16 and features.output_bits == 52
    output, tsz = _output_bits(cd["IPS"], features, wide=ds or lpa), cd["T1SZ" if upper else "T0SZ"]
    if not (_TSZ_MIN_52 if ds or granule_lg2 == 16 else _TSZ_MIN) <= tsz <= _TSZ_MAX:
        return f"T{int(upper)}SZ {tsz} is out of range (ARM-FIRST-5)"
    if cd["TTB1" if upper else "TTB0"] << 4 >> output:
        return f"TTB{int(upper)} is beyond {output} bits (ARM-CD-2)"
    return Stage1Config(
        granule_lg2=granule_lg2,
        input_bits=64 - tsz,
        output_bits=output,
        ds=ds,
        lpa=lpa,
        bbml=features.bbml,
        ha=bool(cd["HA"]),
        hd=bool(cd["HA"] and cd["HD"]),
        affd=bool(cd["AFFD"]),
        upper=upper,
        ns=features.ns,
        had=bool(cd["HAD1" if upper else "HAD0"]),
    )


def cd_fields(root: StageRoot, features: ArmSmmuFeatures) -> dict[str, int]:
    """The fields of a CD that lead to stage 1 tables; the other half is turned off.

    Raises:
        HitlessError: an ASID, width or root that the fields cannot hold.
    """
    fmt = root.page_format
    if not isinstance(fmt, ArmStage1):
        raise unfit(f"stage 1 is of format {fmt.name}", "give arm_smmu/stage1 tables")
    config, asid = fmt.config, root.tag >> 16
    check_id("ASID", asid, wide=features.asid16)
    _check(root, config.output_bits, fmt.top.table_lg2)
    half = int(config.upper)
    walks = _SNOOPED if features.coherent else _NOT_SNOOPED
    return {
        f"T{half}SZ": 64 - config.input_bits,
        f"TG{half}": _code(_GRANULE_1_LG2 if half else _GRANULE_LG2, config.granule_lg2),
        **{f"{name}{half}": value for name, value in walks.items()},
        f"EPD{1 - half}": 1,
        "V": 1,
        "IPS": SIZES.index(config.output_bits),
        "AFFD": int(config.affd),
        "AA64": 1,
        "HA": int(config.ha),
        "HD": int(config.hd),
        "R": 1,
        "A": 1,
        "ASET": 1,
        "ASID": asid,
        f"HAD{half}": int(config.had),
        f"TTB{half}": root.root_pa >> 4,
        "DS": int(config.ds),
        "MAIR0": MAIR,
    }


def _output_bits(code: int, features: ArmSmmuFeatures, *, wide: bool) -> int:
    """The effective output size: what the SMMU and the descriptors have bounds it (ARM-LVL-7)."""
    return min(SIZES[min(code, len(SIZES) - 1)], features.output_bits, 52 if wide else 48)


def check_id(name: str, value: int, *, wide: bool) -> None:
    """A VMID or ASID against the bits that the SMMU has for it.

    Raises:
        HitlessError: it is wider.
    """
    bits = 16 if wide else 8
    if value >> bits:
        raise unfit(f"{name} {value:#x} is wider than {bits} bits", f"use a smaller one, or set {name.lower()}16")


def _check(root: StageRoot, output_bits: int, table_lg2: int) -> None:
    if output_bits not in SIZES:
        raise unfit(f"no code for {output_bits} bits of output", f"use one of {', '.join(map(str, SIZES))}")
    if root.root_pa >> output_bits or aligned_lg2(root.root_pa) < max(table_lg2, 4):
        raise unfit(f"root table at {root.root_pa:#x}", f"align it to its size, 2**{table_lg2}, below 2**{output_bits}")


def _code(codes: Mapping[int, int], granule_lg2: int) -> int:
    return next(code for code, lg2 in codes.items() if lg2 == granule_lg2)


def unfit(what: str, do: str) -> HitlessError:
    """An error: no STE or CD can say this."""
    return HitlessError(f"the structures cannot say this: {what}", who="arm_smmu", do=do)
