"""Recordings of an independent implementation, replayed and compared word by word."""

import copy
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitless.config import open_registry
from hitless.errors import BadInput
from hitless.vectors import flip, formats_of, read_folder, read_recording, verify
from hitless.vectors.compare import difference

HERE = Path(__file__).parent / "recordings"
ALL = Path(__file__).parents[3] / "shared" / "vectors"
NAMES = sorted(path.stem for path in HERE.glob("*.json"))


@pytest.fixture(scope="module")
def formats():
    """Every format of the in-tree vendors."""
    return formats_of(open_registry(None, ["amd", "arm_smmu", "intel"]))


@pytest.fixture(scope="module")
def compared(formats):
    """Every compared word of the excerpt, by recording."""
    return {name: verify(read_recording(HERE / f"{name}.json"), formats, keep=True) for name in NAMES}


def mask(text):
    """``63 60:52 7`` as a number."""
    found = 0
    for part in text.split():
        high, _, low = part.partition(":")
        found |= (1 << int(high) + 1) - (1 << int(low or high))
    return found


# What hardware does not look at, typed from the specifications' tables: by recording, kind of entry and level.
_ARM_TABLE = mask("58:51 11:2")  # DDI0487 D8: 58:51 and 11:2 of a table descriptor
_ARM_LEAF = mask("63:55")  # 58:55 software, 62:59 PBHA or software, 63 software
_NO_DBM = mask("51")  # hardware does not manage dirty state
_NT = mask("16")  # BBML 2: nT of a block is ignored
IGNORED = {
    "amdv1": (lambda level: mask("63 8:7 4:1"), lambda level: mask("63 60:59 8:6 4:1")),  # 48882 2.2.3
    "vtdss": (  # VT-d 9.8; 7 only where no leaf is larger
        lambda level: mask("63 60:52 10 2") | (mask("7") if level == 0 else 0),
        lambda level: mask("63 60:52 10:9 6:2"),
    ),
    "x86_64": (lambda level: mask("62:52 11:9"), lambda level: mask("62:52 11:8 6")),  # APM2 5.3
    "arm_s1": (lambda level: _ARM_LEAF | _NO_DBM | (_NT if level else 0), lambda level: _ARM_TABLE),
    "armv8 prots_s1_dbm": (lambda level: _ARM_LEAF | (_NT if level else 0), lambda level: _ARM_TABLE),
    "armv8 g4k_lpa2_s2_52bit": (  # DS: 9:8 hold the output address' top bits
        lambda level: _ARM_LEAF | _NO_DBM | (_NT if level else 0),
        lambda level: mask("58:51 11:10 7:2"),
    ),
}
IGNORED["amdv1_flex"] = IGNORED["amdv1"]
IGNORED["arm_s2"] = IGNORED["armv8 prots_s2"] = IGNORED["arm_s1"]


def is_leaf(name, word, level):
    """Leaf or pointer, from the specifications."""
    if name.startswith("amdv1"):
        return word >> 9 & 7 in (0, 7)
    if name in ("vtdss", "x86_64"):
        return level == 0 or bool(word >> 7 & 1)
    return level == 0 or word & 3 == 1


@pytest.mark.parametrize("name", NAMES)
def test_the_excerpt_passes(name, compared):
    """Every case but those that nobody should copy, with words in each."""
    found = compared[name]
    assert found.failed == 0, found.differences[:3]
    assert found.passed == found.cases - len(found.skipped) > 0
    assert all(skipped["case"].startswith("quirk_") for skipped in found.skipped)
    assert found.entries > 15


def test_every_recorded_word_is_compared(compared):
    """``entries`` is the number of words in the file, also of pointers to tables that map nothing."""
    for name in NAMES:
        raw = json.loads((HERE / f"{name}.json").read_text())
        runs = [
            run
            for case in raw["cases"]
            if not case["name"].startswith("quirk_")
            for dump in case["dumps"]
            for run in dump["runs"]
        ]
        assert compared[name].entries == len(compared[name].compared) == sum(run["n"] for run in runs)


@pytest.mark.parametrize("name", NAMES)
def test_every_bit_of_every_word_is_held_but_the_ignored_ones(name, formats, compared):
    """Each bit of each kind of word, flipped alone, is told exactly where the specification says that it counts."""
    seen = set()
    for each in compared[name].compared:
        word, level = each.recorded.word, each.place[0]
        leaf = is_leaf(name, word, level)
        key = (each.case, leaf, level)
        if key in seen:
            continue
        seen.add(key)
        masks = IGNORED.get(f"{name} {each.case}") or IGNORED[name]
        free = masks[0 if leaf else 1](level)
        for bit in range(64):
            one = copy.copy(compared[name])
            one.compared = [each]
            told = _told(one, bit)
            assert told == (not free >> bit & 1), (name, each.case, hex(word), level, bit)
    assert len(seen) > 2


def _told(result, bit):
    """Whether the comparison tells one flipped bit."""
    (each,) = result.compared
    changed = each.recorded._replace(word=each.recorded.word ^ 1 << bit)
    return difference(each.fmt, each.place, changed, each.ours) is not None


def test_flips_are_seeded_and_none_is_missed(compared):
    """As many as were asked for; the same seed flips the same bits."""
    results = list(compared.values())
    found = flip(results, 2000, seed=7)
    assert (found.changed, found.missed) == (2000, [])
    assert found.reported + found.ignored == 2000
    assert found.ignored > 100
    assert flip(results, 2000, seed=7) == found
    assert flip(results, 2000, seed=8).reported != found.reported or flip(results, 200, seed=8) != flip(results, 200)


def test_what_is_ignored_and_told_all_the_same_is_missed(compared, monkeypatch):
    """A comparison that is too strict, or too lax, shows in ``missed``."""
    results = [compared["amdv1"]]
    ignored = flip(results, 50).ignored
    monkeypatch.setattr("hitless.vectors.verifying.difference", lambda *_: None)
    assert len(flip(results, 50).missed) == 50 - ignored
    monkeypatch.setattr("hitless.vectors.verifying.difference", lambda *_: "different")
    assert len(flip(results, 50).missed) == ignored


def changed(tmp_path, name, change):
    """A copy of a recording of the excerpt in which something was changed."""
    raw = json.loads((HERE / f"{name}.json").read_text())
    change(raw)
    path = tmp_path / f"{name}.json"
    path.write_text(json.dumps(raw))
    return read_recording(path)


def case(raw, name):
    """One case of a recording."""
    return next(each for each in raw["cases"] if each["name"] == name)


def test_a_changed_word_fails_its_case_and_is_named(tmp_path, formats):
    """With place, both words and the fields that differ."""

    def change(raw):
        case(raw, "dirty")["dumps"][0]["runs"][2]["raw"] = "0x7000000000011041"

    found = verify(changed(tmp_path, "amdv1", change), formats)
    assert (found.passed, found.failed) == (2, 1)
    (difference,) = found.differences
    assert difference["case"] == "dirty"
    assert (difference["recorded"], difference["ours"]) == ("0x7000000000011041", "0x7000000000010041")
    assert difference["fields"] == ["address"]
    assert difference["iova"] == "0x0"


def test_the_address_of_a_table_is_compared_though_ours_lie_elsewhere(tmp_path, formats):
    """A pointer says where the recorded table lay: a bit of that address that is wrong is told."""

    def change(raw):
        run = case(raw, "sme_bit51")["dumps"][0]["runs"][0]
        run["raw"] = f"{int(run['raw'], 16) ^ 1 << 40:#x}"

    found = verify(changed(tmp_path, "amdv1", change), formats)
    assert found.failed == 1


def test_a_word_that_is_missing_or_too_much_is_told(tmp_path, formats):
    """Entries that only one side has are differences with an empty entry."""
    found = verify(changed(tmp_path, "arm_s1", lambda raw: case(raw, "ias32")["dumps"][0]["runs"].pop()), formats)
    assert found.failed == 1
    assert found.differences[0]["recorded"] == "0x0"

    def more(raw):
        runs = case(raw, "ias32")["dumps"][0]["runs"]
        last = copy.deepcopy(runs[-1])
        last["i"], last["iova"] = last["i"] - 7, f"{int(last['iova'], 16) - 7 * 4096:#x}"
        runs.append(last)

    found = verify(changed(tmp_path, "arm_s1", more), formats)
    assert found.failed == 1
    assert found.differences[0]["ours"] == "0x0"


def test_a_map_that_ends_otherwise_than_recorded_is_told(tmp_path, formats):
    """Success where it must fail, and the other way round; a translation that leads elsewhere."""

    def fails(raw):
        op = next(op for op in case(raw, "dirty")["ops"] if op["op"] == "map")
        op["ret"] = -12

    found = verify(changed(tmp_path, "amdv1", fails), formats)
    assert any("must fail" in each.get("what", "") for each in found.differences)

    def leads(raw):
        op = next(op for op in case(raw, "dirty")["ops"] if op["op"] == "phys")
        op["pa"] = "0x1234"

    found = verify(changed(tmp_path, "amdv1", leads), formats)
    assert found.differences[0]["what"] == "0xecf leads to 0x10ecf, not to 0x1234"


def test_dirty_pages_that_are_not_as_recorded_are_told(tmp_path, formats):
    """A run is dirty as a whole; one page of it less is a difference."""

    def change(raw):
        op = next(op for op in case(raw, "dirty")["ops"] if op["op"] == "readdirty")
        op["dirty"][1][1] = "0x1000"

    found = verify(changed(tmp_path, "amdv1", change), formats)
    assert found.differences[0]["what"].startswith("dirty is [0x0, 0x1000), [0x10000, 0x20000)")


def test_a_configuration_that_nobody_answers_fails_unless_only_some_vendors_are_loaded(tmp_path, formats):
    """With all vendors it is a hole in a format; with one of them it is somebody else's."""
    intel = [cls for cls in formats if cls.name.startswith("intel")]
    found = verify(read_recording(HERE / "x86_64.json"), intel, some=True)
    assert {each["case"] for each in found.skipped} == {"quirk_noncanonical_alias", "sme_bit51"}
    assert (found.failed, found.passed) == (0, 2)
    assert verify(read_recording(HERE / "x86_64.json"), intel).failed == 1


def test_a_file_that_no_vendor_answers_is_skipped_with_its_reason(tmp_path, formats):
    """Not failed: its plugin is not installed."""
    found = verify(changed(tmp_path, "amdv1", lambda raw: raw.update(fmt="riscv_64")), formats)
    assert (found.passed, found.failed, len(found.skipped)) == (0, 0, 3)
    assert found.skipped[0]["reason"] == "no format of the loaded vendors answers recordings of riscv_64"


def test_a_difference_that_a_section_justifies_is_listed_and_passes(formats, tmp_path):
    """The format names the section; the case counts as passed."""

    def change(raw):
        case(raw, "dirty")["dumps"][0]["runs"][2]["raw"] = "0x7000000000011041"

    (cls,) = [cls for cls in formats if "amdv1" in cls.recorded_as]

    class Justifying(cls):
        def justifies(self, recorded, ours, level, config):
            return "48882 2.2.3" if config["fmt"] == "amdv1" and recorded == 0x7000000000011041 else None

    found = verify(changed(tmp_path, "amdv1", change), [Justifying])
    assert (found.passed, found.failed) == (3, 0)
    assert [each["justified"] for each in found.differences] == ["48882 2.2.3"]


def test_a_format_that_raises_is_named(formats):
    """A stranger's bug fails the case, and the others go on."""

    class Raising(formats[0]):
        @classmethod
        def from_recording(cls, config):
            raise ZeroDivisionError("oh")

    found = verify(read_recording(HERE / "amdv1.json"), [Raising])
    assert found.failed == 3
    assert "ZeroDivisionError: oh" in found.differences[0]["what"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda raw: raw.pop("fmt"), "fmt"),
        (lambda raw: raw["cases"][0]["ops"][0].update(op="fly"), "'fly'"),
        (lambda raw: raw["cases"][0]["ops"][0].update(iova="x"), "'x'"),
        (lambda raw: raw["cases"][0]["config"].pop("oasz"), "config.oasz"),
        (lambda raw: raw["cases"][0]["config"].update(sme_mask="none"), "'none'"),
        (lambda raw: raw["cases"][0]["dumps"][0]["runs"][0].update(n=0), "n"),
        (lambda raw: raw.update(cases=7), "cases"),
    ],
)
def test_a_file_that_is_no_recording_is_bad_input(tmp_path, change, why):
    """With its name and what is wrong."""
    with pytest.raises(BadInput, match=r"amdv1\.json is not a recording") as caught:
        changed(tmp_path, "amdv1", change)
    assert why in caught.value.why


def test_bad_folders_and_files(tmp_path):
    """No folder, nothing in it, not JSON, not UTF-8: each says so; folders inside are not looked into."""
    with pytest.raises(BadInput, match="no folder"):
        read_folder(tmp_path / "no")
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "x.json").write_text("{")
    with pytest.raises(BadInput, match="holds no"):
        read_folder(tmp_path)
    for octets in (b"{", b"\xff\xfe", b"[]"):
        (tmp_path / "x.json").write_bytes(octets)
        with pytest.raises(BadInput, match=r"x\.json is not"):
            read_folder(tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(not ALL.is_dir(), reason="the recordings are not beside the repository")
def test_all_recordings_pass(formats):
    """Those that lie beside the repository: skipped are quirks, the mock format, and formats without a plugin."""
    results = [verify(each, formats, keep=True) for each in read_folder(ALL)]
    for result in results:
        assert result.failed == 0, result.differences[:3]
        reasons = {each["reason"] for each in result.skipped if not each["case"].startswith("quirk_")}
        assert not reasons or result.fmt in ("amdv1_mock", "riscv_64")
        assert all(each["justified"] for each in result.differences)
    assert sum(result.entries for result in results) > 600_000
    assert flip(results, 5000).missed == []


def places(value, path=()):
    """Every path to a value in a JSON document."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from places(each, (*path, key))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from places(each, (*path, index))
    yield path


@given(st.data())
def test_a_recording_that_somebody_broke_is_refused_or_fails_but_never_crashes(formats, data):
    """Any value in it becomes something else: bad input, or a case that fails; no other error."""
    raw = json.loads((HERE / "amdv1_flex.json").read_text())
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(sorted(places(raw), key=str)))
        junk = data.draw(
            st.sampled_from(
                [None, -1, 0, 7, 64, 1 << 70, "", "0x", "0x0", "0xffffffffffffffff", "-0x1", [], {}, 1.5, True]
            )
        )
        at = raw
        for key in path[:-1]:
            at = at[key]
        if path:
            at[path[-1]] = junk
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "x.json").write_text(json.dumps(raw))
        try:
            verify(read_recording(Path(folder) / "x.json"), formats)
        except BadInput:
            return
