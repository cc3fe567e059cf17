"""The page formats of a unit: as its features say, and as its structures may ask for."""

from hitless.pagetable import PageFormat
from hitless_intel.features import IntelFeatures
from hitless_intel.first_stage import FirstStage
from hitless_intel.second_stage import SecondStage


def second_stage(features: IntelFeatures, aw: int, *, dirty: bool) -> SecondStage:
    """Second-stage tables of a width; ``dirty``: hardware sets A and D in them."""
    return SecondStage(
        features.haw,
        aw=aw,
        mgaw=features.mgaw,
        snoop_control=features.snoop_control,
        dirty=dirty,
        leaf_levels=(0, *([1] if features.sslps_2m else []), *([2] if features.sslps_1g else [])),
        upper=features.bits_62_61,
    )


def first_stage(features: IntelFeatures, levels: int, *, extended: bool) -> FirstStage:
    """First-stage tables of four or five levels; ``extended``: hardware sets EA in them."""
    return FirstStage(
        levels,
        haw=features.haw,
        leaf_levels=(0, 1, 2) if features.fs1gp else (0, 1),
        extended=extended,
        execute_disable=features.execute_disable,
        sets_accessed=features.coherent,
    )


class Formats:
    """What a unit's structures may lead to, each made once.

    Args:
        page_format: the format that stands for itself where a structure describes just it.
    """

    def __init__(self, page_format: PageFormat, features: IntelFeatures) -> None:
        self._features = features
        self._second: dict[tuple[int, bool], PageFormat] = {}
        self._first: dict[tuple[int, bool], PageFormat] = {}
        if isinstance(page_format, SecondStage):
            self._second[page_format.aw, page_format.dirty] = page_format
        elif isinstance(page_format, FirstStage):
            self._first[len(page_format.levels), page_format.extended] = page_format

    def second(self, aw: int, *, dirty: bool) -> PageFormat:
        """Second-stage tables by address width, and whether A and D are set."""
        if (aw, dirty) not in self._second:
            self._second[aw, dirty] = second_stage(self._features, aw, dirty=dirty)
        return self._second[aw, dirty]

    def first(self, levels: int, *, extended: bool) -> PageFormat:
        """First-stage tables by number of levels, and whether EA is set."""
        if (levels, extended) not in self._first:
            self._first[levels, extended] = first_stage(self._features, levels, extended=extended)
        return self._first[levels, extended]
