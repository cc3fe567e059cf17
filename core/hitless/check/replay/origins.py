"""Where a request of a replay begins: what the structures say of its device, in memory or as its unit holds them."""

from collections.abc import Callable, Iterator

from hitless.check.replay.cached import Place
from hitless.check.roots import own_root
from hitless.hardware.caches import CachedStructure
from hitless.hardware.structures import BadStructure, Fetch, Found, StageRoot, Structures
from hitless.plan import StoreStructure

Load = Callable[[int], int]


def requester_of(place: Place, device: int | None) -> tuple[int, int | None] | None:
    """The requester that a request of a device with ATS, or (None) of one without, is one of; None: none is named."""
    for each in place.requesters:
        if each[0] == device or (device is None and each[0] not in place.atcs):
            return each
    return next(iter(place.requesters), None)


def follow(
    structures: Structures, base: int, requester: tuple[int, int | None], load: Load, held: list[CachedStructure]
) -> Iterator[tuple[Fetch, tuple[int, ...]] | Found | BadStructure | Fetch]:
    """Every structure that a request reads, with its words, and then what they come to; of what is held, that."""
    device, pasid = requester
    at = structures.start(base, device, pasid)
    while isinstance(at, Fetch) and at.stage2 is None:
        key = (at.structure, device, pasid if at.pasid is None else at.pasid)
        words = next((each.words for each in held if each[:3] == key), None)
        words = words or tuple(load(at.pa + 8 * i) for i in range(at.words))
        yield at, words
        at = structures.step(at, words)
    yield at


def root_of(
    structures: Structures, place: Place, requester: tuple[int, int | None], load: Load, *, held: bool, stage: str
) -> StageRoot | str:
    """The root table that a request begins at; else the kind of fault that it gets."""
    *_, at = follow(structures, place.base, requester, load, place.structures if held else [])
    if isinstance(at, BadStructure):
        return at.kind
    if isinstance(at, Found) and at.mode != "translate":
        return at.mode
    root = own_root(at, stage) if isinstance(at, Found | Fetch) else None
    return "elsewhere" if root is None or root.tag != place.tag else root


def keep(structures: Structures, place: Place, step: StoreStructure, load: Load) -> None:
    """A store to a structure: the unit may hold on to what it replaces, for each device that reads it."""
    for requester in place.requesters:
        for each in follow(structures, place.base, requester, load, []):
            if isinstance(each, tuple) and not isinstance(each, Found | BadStructure | Fetch):
                fetch, words = each
                if fetch.pa < step.pa + 8 * len(step.new) and step.pa < fetch.pa + 8 * fetch.words:
                    pasid = requester[1] if fetch.pasid is None else fetch.pasid
                    outcome = structures.step(fetch, words)
                    place.structures.append(CachedStructure(fetch.structure, requester[0], pasid, words, outcome))
