"""What ``hitless check --machine qemu`` does: scenarios on emulated units, and random tables."""

from collections.abc import Iterable, Iterator, Sequence

from hitless.check.campaign import Task
from hitless.check.scenarios import SCENARIOS
from hitless.check.witness import emulated_features
from hitless.cli.options import given_features
from hitless.machine.qemu.errors import NotEmulated
from hitless.machine.qemu.machine import check_emulated
from hitless.plugin import VendorRegistry

_AT_ONCE = 6


def witness_tasks(
    registry: VendorRegistry, places: Iterable[tuple[str, str]], scenarios: Sequence[str], features: Sequence[str]
) -> Iterator[Task]:
    """Tasks for every vendor and format that QEMU emulates; without scenarios all of them, and a comparison of walks.

    Raises:
        NotEmulated: QEMU emulates none of them; with the last one's reason.
        NoEmulator: it is not installed.
    """
    found, reason = False, NotEmulated("there is nothing to witness", who="qemu")
    for vendor, name in places:
        given = given_features(registry, vendor, features) if features else {}
        try:
            chosen = emulated_features(registry, vendor, name, given)
            check_emulated(registry.resolve(vendor, name, chosen))
        except NotEmulated as error:
            reason = error
            continue
        found = True
        if not scenarios:
            yield Task("witness", vendor, name, chosen)
        ids = tuple(scenarios) or tuple(each.id for each in SCENARIOS)
        for first in range(0, len(ids), _AT_ONCE):
            yield Task("witness", vendor, name, chosen, ids[first : first + _AT_ONCE])
    if not found:
        raise reason
