"""``hitless inspect``: JSON, CSV, text, one translation, exit statuses, bad input."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "inspect"))
from memories import Pages

RW = 3 << 61
ROOT = 0x10_0000


@pytest.fixture
def image(tmp_path):
    """A raw image with an AMD v1 table of three levels, and a device table of 128 entries at 0x80000."""
    memory = Pages()
    memory.put(ROOT, 0x10_1000 | 2 << 9 | 1 | RW)
    memory.put(0x10_1000, 0x10_2000 | 1 << 9 | 1 | RW, 0x20_0000 | 1 | RW)
    memory.put(0x10_2000, 0x7000 | 1 | RW, 0x8000 | 1 | RW, 0x9000 | 1 | 1 << 61)
    translating = 3 | 3 << 9 | ROOT | RW
    for device in (0x20, 0x28):
        memory.put(0x8_0000 + 32 * device, translating, 7, 0, 0)
    memory.put(0x8_0000 + 32 * 0x30, 3, 0, 0, 0)
    path = tmp_path / "ram"
    memory.write(path)
    return path


TABLES = ("--format", "amd/v1", "--root", hex(ROOT), "--set", "mode=3")
RANGES = [
    {"iova": "0x0", "size": "0x2000", "pa": "0x7000", "rights": "RW", "leaf": "4K"},
    {"iova": "0x2000", "size": "0x1000", "pa": "0x9000", "rights": "R-", "leaf": "4K"},
    {"iova": "0x200000", "size": "0x200000", "pa": "0x200000", "rights": "RW", "leaf": "2M"},
]


def plain(ranges):
    """The keys of ranges that are promised, and no others."""
    return [{key: each[key] for key in ("iova", "size", "pa", "rights", "leaf")} for each in ranges]


def test_json_of_one_table(hitless, image):
    """Ranges with addresses as 0x texts, totals as numbers, status 0."""
    found = hitless("inspect", image, *TABLES, "--json", "-")
    assert found.status == 0
    data = found.json
    assert list(data)[:2] == ["hitless", "schema"]
    assert data["schema"] == "inspect/1"
    assert plain(data["ranges"]) == RANGES
    assert (data["tables"], data["bytes"], data["findings"]) == (3, 0x20_3000, [])
    assert data["leaves"] == {"4K": 3, "2M": 1}


def test_from_the_device_table(hitless, image):
    """All devices: those with one table are one space; the others are counted by what becomes of their requests."""
    found = hitless("inspect", image, "--from", "amd/device-table@0x80000", "--json", "-")
    data = found.json
    assert found.status == 0
    assert plain(data["ranges"]) == RANGES
    (space,) = data["spaces"]
    assert (space["devices"], space["format"], space["levels"], space["tag"]) == (["0x20", "0x28"], "amd/v1", 3, 7)
    assert data["others"]["abort"] == ["0x30"]
    assert len(data["others"]["bypass"]) == 125
    one = hitless("inspect", image, "--from", "amd/device-table@0x80000", "--device", "00:05.0", "--json", "-")
    assert one.json["spaces"][0]["devices"] == ["0x28"]
    nobody = hitless("inspect", image, "--from", "amd/device-table@0x80000", "--device", "0x30", "--json", "-")
    assert nobody.json["ranges"] == []


def test_devices_with_tags_of_their_own_share_a_table(hitless, image):
    """One table under two DomainIDs is one space; both tags are told."""
    words = bytearray(image.read_bytes())
    words[0x8_0000 + 32 * 0x28 + 8 : 0x8_0000 + 32 * 0x28 + 16] = (9).to_bytes(8, "little")
    image.write_bytes(words)
    (space,) = hitless("inspect", image, "--from", "amd/device-table@0x80000", "--json", "-").json["spaces"]
    assert (space["devices"], space["tags"]) == (["0x20", "0x28"], [7, 9])


@pytest.mark.parametrize("config", ["0x3f", "0x101bf", "0xffffffff"])
def test_a_register_of_nonsense_ends(hitless, image, config):
    """A stream table of 2^63 devices: it is said that not all were looked up, or none is there."""
    found = hitless("inspect", image, "--from", "arm_smmu/stream-table@0x0", "--set", f"strtab_base_cfg={config}")
    assert found.status in (0, 1), found.err


def test_text_fits_into_80_columns(hitless, image):
    """A line a range, totals, no colour."""
    found = hitless("inspect", image, "--from", "amd/device-table@0x80000")
    assert found.status == 0
    assert all(len(line) <= 80 for line in found.out.splitlines())
    assert "devices 00:04.0, 00:05.0" in found.out
    assert "0x200000 │ 2M" in found.out
    assert "2 of" not in found.out.split("leaves:")[0]
    assert "\x1b" not in found.out
    short = hitless("inspect", image, *TABLES, "--limit", "1")
    assert "... and 2 more ranges" in short.out
    assert hitless("inspect", image, *TABLES, "--quiet").out == ""


def test_csv(hitless, image):
    """The same ranges, and nothing else on standard output."""
    found = hitless("inspect", image, *TABLES, "--csv")
    assert plain(csv.DictReader(io.StringIO(found.out))) == RANGES
    both = hitless("inspect", image, *TABLES, "--csv", "--json", "-")
    assert both.status == 2


def test_json_into_a_file_beside_the_text(hitless, image, tmp_path):
    """The file is whole; the text is there too."""
    found = hitless("inspect", image, *TABLES, "--json", tmp_path / "out.json")
    assert "mapped in 3 ranges" in found.out
    assert plain(json.loads((tmp_path / "out.json").read_text())["ranges"]) == RANGES


def test_one_translation_step_by_step(hitless, image):
    """Every structure and entry with its address, words and fields, and where it ends."""
    found = hitless(
        "inspect", image, "--from", "amd/device-table@0x80000", "--device", "0x20", "--iova", "0x1234", "--json", "-"
    )
    (told,) = found.json["translations"]
    assert [(step["what"], step["pa"]) for step in told["steps"]] == [
        ("dte", "0x80400"),
        ("level 2 (AMD level 3)", "0x100000"),
        ("level 1 (AMD level 2)", "0x101000"),
        ("level 0 (AMD level 1)", "0x102008"),
    ]
    assert (told["outcome"], told["pa"], told["rights"]) == ("translated", "0x8234", "RW")
    assert plain(found.json["ranges"]) == [
        {"iova": "0x1000", "size": "0x1000", "pa": "0x8000", "rights": "RW", "leaf": "4K"}
    ]
    text = hitless("inspect", image, *TABLES, "--iova", "0x1234")
    assert text.status == 0
    assert text.out.rstrip().endswith("=> 0x8234 RW, leaf 4K")
    missing = hitless("inspect", image, *TABLES, "--iova", "0x5000")
    assert (missing.status, missing.out.rstrip().splitlines()[-1]) == (0, "=> not-present")


def test_a_write_only_page_is_translated(hitless, tmp_path):
    """What may only be written is explained as a write."""
    memory = Pages()
    memory.put(ROOT, 0x10_1000 | 2 << 9 | 1 | RW)
    memory.put(0x10_1000, 0x20_0000 | 1 | 1 << 62)
    memory.put(0x8_0000, 3 | 3 << 9 | ROOT | RW, 7, 0, 0)
    memory.write(tmp_path / "ram")
    for tables in (TABLES, ("--from", "amd/device-table@0x80000", "--device", "0")):
        found = hitless("inspect", tmp_path / "ram", *tables, "--iova", "0x1234")
        assert found.out.rstrip().endswith("=> 0x201234 -W, leaf 2M")


def test_shells_complete(hitless, tmp_path):
    """Click's own completion, through the environment: commands, and options of one of them."""
    for words, expected in (("hitless insp", "inspect"), ("hitless inspect --fr", "--from")):
        told = {"_HITLESS_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
        command = [sys.executable, "-c", "from hitless.cli import main; main()"]
        done = subprocess.run(command, env={**os.environ, **told}, capture_output=True, text=True, check=True)
        assert f"plain,{expected}" in done.stdout.splitlines()


def test_findings_make_status_1(hitless, image):
    """A pointer to nowhere and a reserved bit: place, word, rule, reason, what to do."""
    words = bytearray(image.read_bytes())
    words[0x10_1010:0x10_1018] = (0x7_0000_0000 | 1 << 9 | 1 | RW).to_bytes(8, "little")
    words[0x10_1018:0x10_1020] = (0x40_0000 | 1 | RW | 1 << 53).to_bytes(8, "little")
    image.write_bytes(words)
    found = hitless("inspect", image, *TABLES, "--json", "-")
    assert found.status == 1
    assert plain(found.json["ranges"]) == RANGES
    assert sorted(each["rule"] for each in found.json["findings"]) == ["I1", "W1"]
    for each in found.json["findings"]:
        assert list(each) == ["rule", "where", "entry", "why", "do"]
        assert each["entry"].startswith("0x")
        assert "IOVA" in each["where"]
    text = hitless("inspect", image, *TABLES)
    assert text.status == 1
    assert "2 findings: I1 1, W1 1" in text.out
    translation = hitless("inspect", image, *TABLES, "--iova", "0x400000")
    assert translation.status == 1


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--format", "amd/v1"),
        ("--root", "0x1000"),
        ("--format", "amd/v9", "--root", "0x1000"),
        ("--format", "nobody/v1", "--root", "0x1000"),
        ("--format", "amd/v1", "--root", "0x1000", "--set", "nothing=1"),
        ("--format", "amd/v1", "--root", "0x1000", "--device", "0x20"),
        ("--format", "amd/v1", "--root", "1" * 30),
        ("--from", "amd/device-table"),
        ("--from", "amd/nothing@0x1000"),
        ("--from", "amd/device-table@x"),
        ("--from", "arm_smmu/stream-table@0x1000"),
        ("--from", "amd/device-table@0x1000", "--device", "zz:00.0"),
        ("--from", "amd/device-table@0x1000", "--format", "amd/v1", "--root", "0"),
        (*TABLES, "--segment", "0+4K"[:2]),
        (*TABLES, "--base", "3"),
    ],
)
def test_bad_input_is_status_2(hitless, image, arguments):
    """With a message, never a traceback."""
    found = hitless("inspect", image, *arguments)
    assert found.status == 2
    assert found.err
    assert "Traceback" not in found.err


def test_an_image_that_is_none(hitless, tmp_path):
    """Missing and empty files."""
    (tmp_path / "empty").touch()
    for name in ("missing", "empty"):
        assert hitless("inspect", tmp_path / name, *TABLES).status == 2


def test_a_further_register_is_named_when_it_is_missing(hitless, image):
    """Arm's stream table needs two registers: the message says which, and how to give it."""
    found = hitless("inspect", image, "--from", "arm_smmu/stream-table@0x1000")
    assert "--set strtab_base_cfg=0x" in found.err
