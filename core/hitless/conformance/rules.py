"""Every rule that the kit tests: stable id, sentence, source, and what takes a vendor out of it."""

from collections.abc import Mapping

from attrs import frozen

CHECKER = "docs/rules.md"


@frozen
class KitRule:
    """One rule.

    Args:
        id: stable, never reused.
        sentence: what must hold.
        source: where it is explained, or what it rests on.
        owed: it can neither be waived by a capability nor be a known gap.
    """

    id: str
    sentence: str
    source: str = CHECKER
    owed: bool = False


_FORMAT = "docs/formats.md"
_GUIDE = "docs/authors-guide.md"

_RULES = (
    KitRule("N1", "DMA to a neighbour never faults", owed=True),
    KitRule("N2", "DMA to a neighbour always reaches its own page, with its own rights and attributes", owed=True),
    KitRule("C1", "DMA to a converted page gives the old page, a safe fault, or the new page", owed=True),
    KitRule("C2", "after isolate with policy wipe: a fault; after refresh: what the present owner grants", owed=True),
    KitRule("F1", "after refresh no request completes with anything that the present owner would not grant", owed=True),
    KitRule("F2", "after refresh nothing old stays cached"),
    KitRule("B1", "no leaf and no cached translation spans an owner transition, where the vendor demands it"),
    KitRule("S1", "size classes of leaf and owner table agree, where the vendor demands it"),
    KitRule("K1", "two cached entries of one address never differ in shape where hardware may raise a conflict"),
    KitRule("R1", "no table is freed while a walker or a walk cache can reach it", owed=True),
    KitRule("W1", "every word stored is a legal encoding", owed=True),
    KitRule("A1", "a conversion that fails leaves no trace, or what the present owners want", owed=True),
    KitRule("D1", "no write of a device is forgotten"),
    KitRule("M1", "a merge joins only leaves that differ in nothing but A and D"),
    KitRule("H1", "nothing is freed or reported while a wait is outstanding"),
    KitRule("E1", "no command covers more than the smallest legal one for what it targets"),
    KitRule("T1", "no table is ever guest-owned, or mapped writable for a device"),
    KitRule("HOOK1", "the plugin loads: its api number, all required hooks, none that does not exist", _GUIDE),
    KitRule(
        "HOOK2", "each hook answers in every configuration, without an exception, with the type that is due", _GUIDE
    ),
    KitRule("HOOK3", "each hook answers the same question in the same way", _GUIDE),
    KitRule("HOOK4", "each declaration names its source, each feature says what it is", _GUIDE),
    KitRule("HOOK5", "a capability names register field or clause, and waives only what may be waived", _GUIDE),
    KitRule("HOOK6", "each refusal is declared: by a recipe that is impossible, or by a capability", _GUIDE),
    KitRule("FMT1", "levels, sizes and widths fit together, and each level has its layouts", _FORMAT),
    KitRule("FMT2", "leaves of every size are the words that the specification gives", _FORMAT),
    KitRule("FMT3", "pointers are the words that the specification gives", _FORMAT),
    KitRule("FMT4", "what a leaf says is what was put into it, at every size", _FORMAT),
    KitRule("FMT5", "what a pointer says is what was put into it, at every level", _FORMAT),
    KitRule("FMT6", "ints and arrays of words give the same answers", _FORMAT),
    KitRule("FMT7", "an empty word is not present", _FORMAT),
    KitRule("FMT8", "a reserved bit that is set makes an entry illegal, and ends the walk", _FORMAT),
    KitRule("FMT9", "bits that hardware sets change neither address, size nor rights", _FORMAT),
    KitRule("FMT10", "rights are those that were asked for", _FORMAT),
    KitRule("FMT11", "every entry of a run says the same leaf", _FORMAT),
    KitRule("FMT12", "a walk begins for every IOVA that the root can index, and for no other", _FORMAT),
    KitRule("FMT13", "a leaf that is cut keeps its attributes at every smaller size", _FORMAT),
    KitRule("STR1", "structures are read as the words of the specification say", _GUIDE),
    KitRule("STR2", "what setup writes leads to the tables and tags that were asked for", _GUIDE),
    KitRule("STR3", "a device that nobody named, or that is blocked, is not translated", _GUIDE),
    KitRule("STR4", "a live entry that is changed leads where it shall, and the others where they did", _GUIDE),
    KitRule("STR5", "each word of a structure is legal by its own layout", _GUIDE),
    KitRule("CMD1", "commands are the words that the specification gives, and mean what it says", _GUIDE),
    KitRule("CMD2", "what is encoded is legal, and of the declared length", _GUIDE),
    KitRule("CMD3", "an invalidation reaches all of its target", _GUIDE),
    KitRule("CMD4", "a command means no more than its operands say", _GUIDE),
    KitRule("CMD5", "a wait completes, with the word that was asked for", _GUIDE),
    KitRule("CMD6", "reserved bits and unknown opcodes are illegal, and no word makes the decoder fail", _GUIDE),
    KitRule("EVT1", "a fault record tells device, address and what happened", _GUIDE),
    KitRule("EVT2", "no word makes the decoder of fault records fail", _GUIDE),
    KitRule("EVT3", "fault records are the words that the specification gives", _GUIDE),
    KitRule("MAP1", "memory says what the dictionary says: what is mapped is, and nothing else", _GUIDE),
    KitRule("MAP2", "random conversions keep memory and dictionary equal", _GUIDE),
    KitRule("MAP3", "what is unmapped is gone, its tables are free again, and the rest stays", _GUIDE),
    KitRule("MAP4", "leaves are as large as the split rules allow, and are so again after a merge", _GUIDE),
    KitRule("OWN1", "a device that is not trusted never gets at a guest's page", _GUIDE),
    KitRule("OWN2", "a verdict holds for the whole block that it names", _GUIDE),
    KitRule("OWN3", "the steps of an owner change make the owners that were asked for", _GUIDE),
    KitRule("BAD1", "a feature, format or value that does not exist is refused in words", _GUIDE),
    KitRule("BAD2", "no word that memory may hold makes a walk fail", _GUIDE),
    KitRule("BAD3", "a size that the format does not have is refused, not rounded", _GUIDE),
    KitRule("MUT1", "every mistake that core knows is caught under exactly its rules", "docs/mistakes.md"),
    KitRule("MUT2", "a change that harms nobody breaks nothing", "docs/mistakes.md"),
    KitRule("MUT3", "a plan without its stores, barriers, commands or waits breaks a rule", "docs/checker.md"),
    KitRule("EMU1", "an emulated unit translates random tables as the walker does", "docs/qemu.md"),
    KitRule(
        "EMU2", "plans that are carried out on an emulated unit break no rule that devices can see", "docs/qemu.md"
    ),
)

RULES: Mapping[str, KitRule] = {rule.id: rule for rule in _RULES}
"""All of them by id, in the order in which reports show them."""

OWED = tuple(rule.id for rule in _RULES if rule.owed)
"""Those that every vendor owes: no capability and no gap takes one out."""
