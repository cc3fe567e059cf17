"""Explains commands and fault records: what they say, and what a unit does for them."""

from typing import Any

from hitless.hardware.facts import STAGES, Completes, Drops, DropsStructure, Effect, Illegal, NoEffect
from hitless.plugin import Vendor
from hitless.refresh.commands import Words
from hitless.units import WORD_MAX, lg2_text


def explain_command(vendor: Vendor, words: Words) -> dict[str, Any]:
    """A command in the vendor's words, and its declared effects with their sources."""
    effects = [explain_effect(effect) for effect in vendor.commands.decode(words)]
    return {
        "summary": vendor.commands.describe(words),
        "effects": effects or ["the unit takes it, but what it does is unpredictable"],
    }


def explain_event(vendor: Vendor, words: Words) -> dict[str, Any]:
    """A fault record: its name, and every field that is not 0."""
    decoded = vendor.events.decode(words)
    fields = [
        {"name": name, "bits": "", "value": f"{value:#x}", "meaning": ""}
        for name, value in decoded.items()
        if isinstance(value, int) and value
    ]
    return {"summary": str(decoded["event"]), "fields": fields}


def explain_effect(effect: Effect) -> str:
    """What a unit does once the wait behind a command has completed, with the fact that says so."""
    match effect:
        case Drops():
            return f"{_drops(effect)} ({effect.source})"
        case DropsStructure():
            return f"{_drops_structure(effect)} ({effect.source})"
        case Completes(source, store_pa, value, bits):
            ended = [
                name for name, drained in (("reads", effect.drains_reads), ("writes", effect.drains_writes)) if drained
            ]
            drained = f", after {' and '.join(ended)} in flight have ended" if ended else ", drains nothing"
            return f"writes {value:#x} ({bits} bits) to {store_pa:#x}{drained} ({source})"
        case Illegal(source, why):
            return f"illegal: {why} ({source})"
        case NoEffect(source):
            return f"concerns nothing that is modelled ({source})"


def _drops(effect: Drops) -> str:
    what = [name for name, targeted in (("leaves", effect.leaves), ("table pointers", effect.tables)) if targeted]
    where = "the whole space" if (effect.first, effect.last) == (0, WORD_MAX) else _range(effect)
    whose = f"{_of_stages(effect)}{_of_tag(effect)}"
    if effect.device is not None:
        pasid = " with and without PASIDs" if effect.every_pasid else ""
        pasid = f" for PASID {effect.pasid:#x}" if effect.pasid is not None else pasid
        whose = f"in the ATC of device {effect.device:#x}{pasid}"
    text = f"drops cached {' and '.join(what)} {whose} in {where}"
    if effect.leaf_levels is not None:
        text += f", leaves of level {', '.join(map(str, sorted(effect.leaf_levels)))} only"
    if where != "the whole space":
        text += f": {effect.leaf_match.value}"
    if effect.whole_lg2s:
        text += f"; leaves of {', '.join(map(lg2_text, sorted(effect.whole_lg2s)))} only if all of one is in the range"
    return text


def _of_stages(effect: Drops) -> str:
    if effect.stages == STAGES:
        return ""
    names = {"1": "stage 1", "2": "stage 2", "12": "both stages combined"}
    return f"of {' and of '.join(names[stage] for stage in sorted(effect.stages, key=len))}, "


def _of_tag(effect: Drops) -> str:
    if effect.tag is None:
        return "of every tag"
    if effect.tag_mask == -1:
        return f"of tag {effect.tag:#x}"
    return f"of tag {effect.tag & effect.tag_mask:#x} (mask {effect.tag_mask & WORD_MAX:#x})"


def _drops_structure(effect: DropsStructure) -> str:
    what = " and ".join(sorted(effect.structures)) if effect.structures is not None else "structures of every kind"
    whose = [f"device {effect.device:#x}" if effect.device is not None else "every device"]
    if effect.device is not None and effect.device_mask != -1:
        whose[0] += f" (bits {~effect.device_mask:#x} do not count)"
    whose += [f"PASID {effect.pasid:#x}"] if effect.pasid is not None else []
    whose += [f"tag {effect.tag:#x}"] if effect.tag is not None else []
    return f"drops cached {what} of {', '.join(whose)}"


def _range(effect: Drops) -> str:
    return f"[{effect.first:#x}, {effect.last:#x}]"
