"""Generic mutants of waits, and of what has to stand behind one."""

from hitless.check.mutants import situations as at
from hitless.check.mutants.declared import LEFT, Declared, Rules, own_drops
from hitless.check.mutants.edits import changed, is_a, moved, rounds, steps_of, stores, without
from hitless.check.mutants.mutant import Mutant
from hitless.check.subject import Subject
from hitless.hardware.vendor import Vendor
from hitless.plan import Invalidate, Release, Store, Wait


def _last_wait(subject: Subject) -> Subject | None:
    steps = steps_of(subject)
    last = max((i for i, (_, step) in enumerate(steps) if isinstance(step, Wait)), default=None)
    return None if last is None else changed(subject, steps[:last] + steps[last + 1 :])


def nothing_before(vendor: Vendor) -> str:
    """Why nothing has to stand before the owner change."""
    policy = vendor.ownership.policies[vendor.ownership.default_policy]
    if not policy.wipes and policy.boundary.value == "none":
        return f"policy {policy.name} leaves everything mapped, and the owner check is made page by page"
    return ""


def _waits_again(declared: Declared) -> bool:
    """Whether a wait follows the owner change anyway."""
    return any(isinstance(step, Wait) for section, step in declared.subject.steps if section == "refresh")


def _isolate_not_waited(declared: Declared) -> Rules:
    rules = declared.old_at_owner_change() | declared.conflict(size=True)
    rules |= {"H1", *swapped} if (swapped := declared.swapped()) else set()
    if _waits_again(declared):
        return rules
    if own_drops(declared.vendor):
        return rules | {"H1"}
    return LEFT | rules | {"H1"} | (set() if declared.unsafe else {"F1"})


def _release_before(subject: Subject, *kinds: type) -> Subject | None:
    """Tables are freed before the first step of a kind in the round that unlinks them."""
    steps = steps_of(subject)
    merges = [i for i, _ in stores(subject, "merge")]
    for start, end in rounds(steps):
        if merges and start <= merges[0] < end:
            to = next(i for i in range(start, end) if isinstance(steps[i][1], kinds))
            return changed(subject, moved(steps, is_a(Release, section="refresh"), to))
    return None


WAIT_MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "generic.no-wait",
        (4,),
        "no command is waited for",
        at.HIDE,
        lambda d: {"H1"} | d.old_stays(),
        lambda subject: without(subject, is_a(Wait)),
    ),
    Mutant(
        "generic.stale-status-word",
        (36,),
        "the last wait returns at once: its status word was that of an earlier one",
        at.HIDE,
        lambda d: (
            LEFT | d.late | {"H1"} | ({"C2"} if d.wiped_first else set()) | d.conflict(address=d.moves and d.new_enters)
        ),
        _last_wait,
    ),
    Mutant(
        "generic.isolate-not-waited",
        (4,),
        "owners change before the commands of isolate are waited for",
        at.HIDE_IN_PLACE,
        _isolate_not_waited,
        lambda subject: without(subject, is_a(Wait, section="isolate")),
        why_not=nothing_before,
    ),
    Mutant(
        "generic.release-before-wait",
        (10,),
        "a table is freed before the wait behind its invalidation",
        at.MERGE,
        lambda _: {"H1", "R1"},
        lambda subject: _release_before(subject, Wait),
    ),
    Mutant(
        "generic.release-before-invalidation",
        (10,),
        "a table is freed before cached pointers to it are invalidated",
        at.MERGE,
        lambda _: {"R1"},
        lambda subject: _release_before(subject, Invalidate),
    ),
    Mutant(
        "generic.release-before-unlink",
        (10,),
        "a table is freed while memory still leads to it",
        at.MERGE,
        lambda _: {"R1"},
        lambda subject: _release_before(subject, Store),
    ),
)
"""Mutants of waits."""
