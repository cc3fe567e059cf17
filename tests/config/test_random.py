"""Whatever a configuration holds: a Config, or all its faults, and nothing else."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hitless.config import check, load_checked, load_text, open_registry
from hitless.errors import ConfigurationError

EXAMPLES = Path(__file__).parents[2] / "examples"
TABLES = {
    "guest": "memory slot hunk page_size backing owner shared private together",
    "domain": ("vendor name format extensions features policy trusted merge allow_break units table_memory mode bbml"),
    "unit": "name vendor device",
    "vendor": "name plugin path",
    "extension": "name plugin path",
}


def toml(value: Any) -> str:
    """A value as inline TOML."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case list():
            return f"[{', '.join(map(toml, value))}]"
        case dict():
            return "{" + ", ".join(f"{toml(key)} = {toml(each)}" for key, each in value.items()) + "}"
    return str(value)


WORDS = ["amd", "arm_smmu", "intel", "4K", "1G", "16G", "in-place", "private", "never", "u", "amd/v1", "match", "a:b"]
TEXTS = st.one_of(
    st.sampled_from(WORDS), st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
)
SCALARS = st.one_of(
    TEXTS,
    st.integers(-(2**70), 2**70),
    st.sampled_from([0, 4096, 1 << 21, 1 << 30, 8]),
    st.booleans(),
    st.floats(allow_nan=False, allow_infinity=False),
)
INNER_KEYS = st.one_of(st.sampled_from(["gpa", "offset", "size", "start", "id", "ats", "domain", "mode"]), TEXTS)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(INNER_KEYS, inner, max_size=4),
    max_leaves=8,
)


def table(name: str) -> st.SearchStrategy[dict[str, Any]]:
    """A table with keys that it knows, and some that it does not."""
    keys = st.one_of(st.sampled_from(TABLES[name].split()), TEXTS)
    return st.dictionaries(keys, VALUES, max_size=6)


DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "guest": table("guest") | VALUES,
        **{name: st.lists(table(name), max_size=3) | VALUES for name in TABLES if name != "guest"},
        "other": VALUES,
    },
)


@pytest.fixture(scope="module")
def registry():
    """Every installed vendor."""
    return open_registry(None)


def reads_or_tells(text: str, registry) -> None:
    """Load and check; faults must be single printable lines with a path, and no two the same."""
    faults: tuple[str, ...] | None = None
    try:
        check(load_text(text), registry)
    except ConfigurationError as error:
        faults = error.faults
    if faults is not None:
        assert faults
        assert len(set(faults)) == len(faults)
        for fault in faults:
            assert fault.isprintable()
            assert fault.rpartition(" @ ")[2].startswith(("$", "line "))


@given(document=DOCUMENTS)
def test_random_documents(document, registry):
    """Documents of the right keys with values of any kind give a Config or faults."""
    reads_or_tells("\n".join(f"{key} = {toml(value)}" for key, value in document.items()), registry)


@given(text=st.text(max_size=60))
def test_random_text(text, registry):
    """Text that is hardly ever TOML gives faults."""
    reads_or_tells(text, registry)


@settings(max_examples=60)
@given(data=st.data())
def test_damaged_examples(data, registry):
    """A good file with a few characters lost, doubled or changed gives a Config or faults."""
    text = (EXAMPLES / "commented.toml").read_text(encoding="utf-8")
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text) - 1))
        text = text[:at] + data.draw(st.sampled_from(["", text[at] * 2, "=", '"', "1", "[", "\n"])) + text[at + 1 :]
    reads_or_tells(text, registry)


GOOD = """\
[guest]
memory = "8G"
hunk = "1G"
owner = "private"

[[domain]]
vendor = "amd"
name = "one"
units = ["u"]
trusted = false
features = { mode = 4 }

[[domain]]
vendor = "arm_smmu"
merge = "never"
policy = "check"

[[unit]]
name = "u"
vendor = "amd"
device = [{ id = 1 }, { id = 2 }]
"""
MISTAKES = [
    ('memory = "8G"', 'memory = "8Q"', "$.guest.memory"),
    ('hunk = "1G"', 'hunk = "4G"', "$.guest.hunk"),
    ('owner = "private"', "owner = 1", "$.guest.owner"),
    ("[guest]\n", "[guest]\ncolour = 1\n", "$.guest.colour"),
    ("trusted = false", "trusted = 0", "$.domain[0].trusted"),
    ('units = ["u"]', 'units = ["u", "w"]', "$.domain[0].units[1]"),
    ("mode = 4 }", "mode = 9 }", "$.domain[0].features.mode"),
    ('merge = "never"', "merge = []", "$.domain[1].merge"),
    ('policy = "check"', 'policy = "nothing"', "$.domain[1].policy"),
    ('vendor = "arm_smmu"', 'vendor = "arm_smmu"\nflavour = 2', "$.domain[1].flavour"),
    ("{ id = 2 }", "{ id = 1 }", "$.unit[0].device[1].id"),
    ("[[unit]]", '[[extension]]\nname = "x"\nplugin = "none"\n[[unit]]', "$.extension[0].plugin"),
]


@given(chosen=st.sets(st.sampled_from(MISTAKES), min_size=0))
def test_each_mistake_is_told_once(chosen, tmp_path_factory):
    """Any set of independent mistakes gives exactly their paths, whatever the others are."""
    text = GOOD
    for good, bad, _ in chosen:
        text = text.replace(good, bad, 1)
    path = tmp_path_factory.mktemp("mistakes") / "config.toml"
    path.write_text(text, encoding="utf-8")
    try:
        load_checked(path)
        found: list[str] = []
    except ConfigurationError as error:
        found = [fault.rpartition(" @ ")[2] for fault in error.faults]
    assert sorted(found) == sorted(where for _, _, where in chosen)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.name)
def test_the_examples_are_right(path, registry):
    """Every example is a configuration without faults."""
    check(load_text(path.read_text(encoding="utf-8"), str(path)), registry)
