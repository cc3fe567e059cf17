"""The machines: which QEMU, which IOMMU, which kernel arguments, which registers say where the tables are."""

from typing import NamedTuple

RAM = 4096 << 20
LOW = 2 << 30
"""x86: so much of the memory lies below 4 GiB."""


class MachineSpec(NamedTuple):
    """One machine.

    Args:
        registers: by the name that ``hitless inspect`` takes: address and bytes; the first is ``--from``'s.
        segments: ``--segment`` of the image of its memory.
        traces: events that tell translations and invalidations.
        ring: registers of a command buffer whose commands say what the trace leaves out: base and head.
    """

    name: str
    arch: str
    start: str
    registers: dict[str, tuple[int, int]]
    arguments: tuple[str, ...]
    append: str
    segments: tuple[str, ...]
    traces: tuple[str, ...]
    ring: tuple[int, int] | None = None


_COMMON = "-accel tcg,thread=multi -smp 1"
_X86 = f"qemu-system-x86_64 {_COMMON} -cpu max,la57=off -machine q35,memory-backend=m0".split()
_ARM = (
    f"qemu-system-aarch64 {_COMMON} -cpu cortex-a57 -machine virt,iommu=smmuv3,gic-version=3,memory-backend=m0".split()
)
_SPLIT = (f"0+{LOW:#x}@0", f"{4 << 30:#x}@{LOW:#x}")
_X86_APPEND = "console=ttyS0 panic=-1 mitigations=off iommu.strict=1 hugepagesz=1G hugepages=1"
_VTD = ("vtd_dmar_translate", "vtd_inv_desc*", "vtd_dmar_fault")
_AMD = ("amdvi_translation_result", "amdvi_iotlb_hit", "amdvi_pages_inval", "amdvi_all_inval", "amdvi_devtab_inval")
_SMMU = ("smmuv3_translate_success", "smmuv3_range_inval", "smmuv3_cmdq_tlbi*", "smmuv3_cmdq_cfgi*")


def _intel(name: str, options: str, append: str = "") -> MachineSpec:
    return MachineSpec(
        name,
        "amd64",
        "intel/root-table",
        {"root": (0xFED90020, 8)},
        (*_X86, "-device", f"intel-iommu,intremap=off,{options}"),
        f"{_X86_APPEND} iommu=nopt intel_iommu=on{append}",
        _SPLIT,
        _VTD,
    )


MACHINES = {
    each.name: each
    for each in (
        _intel("intel-legacy", "aw-bits=48"),
        _intel("intel-legacy-3", "aw-bits=39"),
        _intel("intel-scalable", "x-scalable-mode=on,aw-bits=48", ",sm_on"),
        _intel("intel-first-stage", "x-scalable-mode=on,x-flts=on,aw-bits=48", ",sm_on"),
        MachineSpec(
            "amd",
            "amd64",
            "amd/device-table",
            {"devtab": (0xFED80000, 8)},
            (*_X86, "-device", "amd-iommu,pt=off,intremap=off"),
            f"{_X86_APPEND} iommu=nopt",
            _SPLIT,
            _AMD,
            (0xFED80008, 0xFED82000),
        ),
        MachineSpec(
            "arm",
            "arm64",
            "arm_smmu/stream-table",
            {"strtab_base": (0x09050080, 8), "strtab_base_cfg": (0x09050088, 4)},
            tuple(_ARM),
            "console=ttyAMA0 panic=-1 iommu.strict=1 iommu.passthrough=0",
            (f"{1 << 30:#x}@0",),
            _SMMU,
        ),
    )
}
