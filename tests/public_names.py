"""What a plugin may rely on: modules, names, and signatures. ``python tests/public_names.py`` prints the list anew."""

import enum
import importlib
import inspect
import sys
from collections.abc import Iterator

PUBLIC_WITHOUT_ALL = {
    "hitless.bits": {
        *("BoolArray", "U64Array", "W", "Field", "Layout", "bit", "reserved", "ignored"),
        *("get", "put", "place", "masked", "keep", "drop", "join", "test", "equals", "both", "either", "negate"),
        *("select", "lowest_zero"),
    },
    "hitless.errors": {"HitlessError", "BadInput", "PluginError", "OutOfTableMemory", "Refused", "OwnerChangeRefused"},
    "hitless.hardware.facts": {
        *("Match", "Drops", "DropsStructure", "Completes", "Illegal", "NoEffect", "Effect", "FaultRecord"),
        "HardwareFacts",
        *("Commands", "Events"),
    },
    "hitless.hardware.structures": {
        *("StageRoot", "Fetch", "Found", "BadStructure", "Structures", "TableSource", "GuestMemory"),
        *("StructureEntry", "StructureImage", "StructureStore", "StructureRound"),
    },
    "hitless.refresh.commands": {"Target", "Words", "Encoder", "aligned_blocks"},
    "hitless.refresh.recipes": {
        *("Recipe", "Recipes", "Impossible", "Round", "Scope", "SplitRules"),
        *("new_word", "empty", "one_store", "break_before_make"),
    },
    "hitless.units": {"PAGE", "PAGE_LG2", "SPACE", "WORD_MAX", "align_down", "align_up", "lg2_text", "parse_size"},
}
"""What a plugin may import from modules that have no ``__all__``; from the others: what stands there."""

WITH_ALL = (
    *("hitless.check.mutants", "hitless.check.rules", "hitless.ownership", "hitless.pagetable", "hitless.plan"),
    *("hitless.plugin", "hitless.testing"),
)
"""Public modules that say themselves what they offer."""


def names(module: str) -> list[str]:
    """The public names of a module."""
    return sorted(PUBLIC_WITHOUT_ALL.get(module) or importlib.import_module(module).__all__)


def lines() -> Iterator[str]:
    """One line a name: functions and classes with their arguments, a class's public methods below it."""
    for module in sorted([*PUBLIC_WITHOUT_ALL, *WITH_ALL]):
        yield f"{module}"
        for name in names(module):
            value = getattr(importlib.import_module(module), name)
            yield f"    {name}{_arguments(value)}"
            if inspect.isclass(value) and not issubclass(value, BaseException | enum.Enum):
                yield from (f"        {line}" for line in _methods(value))


def _methods(kind: type) -> Iterator[str]:
    for name, value in sorted(vars(kind).items()):
        function = getattr(value, "__func__", value)  # class and static methods
        if not name.startswith("_") and inspect.isfunction(function):
            yield f"{name}{_arguments(function)}"


def _arguments(value: object) -> str:
    """Names and defaults of the arguments; annotations and addresses differ between versions of Python."""
    if isinstance(value, enum.EnumMeta):
        return f" = {' | '.join(each.name for each in value)}"
    if not callable(value) or getattr(value, "__module__", "").startswith(("typing", "numpy")):
        return ""
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return ""
    shown = [_shown(each) for each in signature.parameters.values()]
    return str(signature.replace(parameters=shown, return_annotation=inspect.Signature.empty))


class _Something:
    """A default that has no short text."""

    def __repr__(self) -> str:
        return "..."


def _shown(parameter: inspect.Parameter) -> inspect.Parameter:
    """The parameter without annotation; of its default only what every Python shows alike."""
    default = parameter.default
    if default is not inspect.Parameter.empty and not isinstance(default, bool | int | str | None):
        default = _Something()
    return parameter.replace(annotation=inspect.Parameter.empty, default=default)


if __name__ == "__main__":
    sys.stdout.writelines(f"{line}\n" for line in lines())
