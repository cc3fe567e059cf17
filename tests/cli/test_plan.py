"""``hitless plan``."""

import json

import pytest

from hasty import hasty_config
from hitless import __version__
from hitless.cli import plan_command
from hitless.plan import Invalidate, Store, StoreStructure, parse_plan
from installed import VENDORS

SHARE = ("--convert", "0x40000000+4K:shared")


def plans_in(text: str) -> list[str]:
    """The text forms in an output, one for each plan."""
    return [part for part in text.split("\n\n") if "\nplan " in f"\n{part}"]


def test_a_plan_is_printed_in_its_text_form(hitless):
    """Steps stand in the form that is parsed back, sections in their order, an explanation before each."""
    ended = hitless("plan", *SHARE, "--vendor", "amd", "--backing", "separate")
    assert (ended.status, ended.err) == (0, "")
    (text,) = plans_in(ended.out)
    sections = [line for line in text.splitlines() if line.startswith("[")]
    assert sections == ["[prepare]", "[isolate]", "[own]", "[refresh]"]
    plan = parse_plan(text)
    assert plan.notifier == "amd"
    stores = [step for _, step in plan.steps() if isinstance(step, Store)]
    assert [step.what for step in stores] == ["cut", "replace"]
    first_step = text.splitlines().index("[prepare]") + 1
    assert text.splitlines()[first_step].startswith("# ")


def test_every_word_and_command_is_explained(hitless):
    """Words of tables and entries come with size, address and rights, commands with the vendor's names."""
    out = hitless("plan", *SHARE, "--vendor", "amd").out
    assert "# cut, no translation changes, at level 2 (AMD level 3): leaf 1G -> 0x20040000000 RW  =>  table " in out
    assert "of level 1 (AMD level 2)" in out
    assert "of level 0 (AMD level 1)" in out
    assert ": leaf 4K -> 0x20040000000 RW" in out
    assert ": 511 entries, leaf 2M -> 0x20040200000 RW, each 0x200000 further" in out
    assert "INVALIDATE_IOMMU_PAGES DomainID=0x1 S=0x1" in out
    assert "(COMPLETION_WAIT)" in out
    assert "RMPUPDATE: owned by the host (shared)" in out
    fills = out[out.index("fill ") : out.index("[isolate]")]
    words = [line.split()[2] for line in fills.splitlines() if line.startswith(("  run", "  word"))]
    assert words
    assert out.count("# ") >= len(words) + out.count("\nstore ") + out.count("\ninvalidate ")


def test_one_owner_is_one_plan(hitless):
    """Conversions of one owner are one plan; with another owner it is the next plan, on what the first left."""
    ranges = ("--convert", "0x40000000+2M:shared", "--convert", "0x80000000+4K:shared")
    back = ("--convert", "0x40001000+4K:private")
    one = hitless("plan", *ranges, "--vendor", "amd", "--json", "-").json["plans"]
    assert [each["ranges"] for each in one] == [
        [["0x40000000", "0x40200000"], ["0x80000000", "0x80001000"]],
    ]
    two = hitless("plan", *ranges, *back, "--vendor", "amd", "--json", "-").json["plans"]
    assert [each["owner"] for each in two] == ["shared", "private"]
    cuts = [[s["step"] for s in each["steps"] if s["step"].startswith("store cut")] for each in two]
    assert ["L2" in step for step in cuts[0]] == [True, True]
    assert ["L1" in step for step in cuts[1]] == [True]


def test_nothing_to_change(hitless):
    """A page that has the owner already needs no plan, and that is said."""
    ended = hitless("plan", "--convert", "0x40000000+4K:private", "--vendor", "amd")
    assert ended.status == 0
    assert "nothing changes" in ended.out
    assert plans_in(ended.out) == []


def test_all_vendors_by_default(hitless):
    """Without ``--vendor`` each installed vendor has its plan, on 4 GiB."""
    data = hitless("plan", "--convert", "0xfffff000+4K:shared", "--json", "-").json
    assert list(data)[:2] == ["hitless", "schema"]
    assert (data["hitless"], data["schema"]) == (__version__, "plan/1")
    assert [each["vendor"] for each in data["plans"]] == VENDORS
    assert hitless("plan", "--convert", "0x100000000+4K:shared").status == 2
    assert hitless("plan", "--convert", "0x100000000+4K:shared", "--memory", "5G").status == 0


def test_json_steps(hitless, tmp_path):
    """Every step has its section, its text, and at least one line of explanation; ``--json FILE`` keeps the text."""
    target = tmp_path / "plan.json"
    shown = hitless("plan", *SHARE, "--vendor", "intel", "--json", target)
    (plan,) = json.loads(target.read_text())["plans"]
    assert plan["refused"] is None
    assert {step["section"] for step in plan["steps"]} <= {"prepare", "isolate", "own", "refresh"}
    assert all(step["explained"] for step in plan["steps"])
    text = "\n".join(f"[{step['section']}]\n{step['step']}" for step in plan["steps"])
    again = hitless("plan", *SHARE, "--vendor", "intel")
    assert parse_plan(text).refresh == parse_plan(plans_in(again.out)[0]).refresh
    assert shown.out == again.out


def test_a_refusal(hitless, write):
    """What cannot be done is refused with reason and ways out, status 2; ``--allow-break`` plans it."""
    config = write(
        '[guest]\nmemory = "4G"\nbacking = "separate"\n'
        '[[domain]]\nvendor = "arm_smmu"\nfeatures.bbml = 0\n[[domain]]\nvendor = "amd"\n'
    )
    ended = hitless("plan", *SHARE, "--config", config)
    assert ended.status == 2
    assert "  do   " in ended.err
    assert ended.err.rstrip().splitlines()[-1].startswith("  again: hitless plan")
    assert "# refused" in ended.out
    assert len(plans_in(ended.out)) == 1
    refused = hitless("plan", *SHARE, "--config", config, "--json", "-").json["plans"][0]
    assert refused["refused"].startswith("arm_smmu.")
    assert refused["steps"] == []
    allowed = hitless("plan", *SHARE, "--config", config, "--allow-break")
    assert allowed.status == 0
    steps = [step for _, step in parse_plan(plans_in(allowed.out)[0]).steps()]
    assert any(isinstance(step, Invalidate) for step in steps)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ("0x1000+4K", ":shared or :private"),
        ("0x1000+4K:hosts", ":shared or :private"),
        ("0x1000:shared", "not a range"),
        ("0x2000-0x1000:shared", "empty"),
        ("0x1000-0x1000:shared", "empty"),
        ("16E+4K:shared", "2**64"),
        ("x-y:shared", "not a size"),
        ("9" * 5000 + "+1:shared", "digits"),
        ("0x1001+4K:shared", "4K pages"),
        ("0x100000000+4K:shared", "beyond the guest's memory"),
    ],
)
def test_ranges_that_are_none(told, said, hitless):
    """Each is status 2, with nothing planned."""
    ended = hitless("plan", "--convert", told, "--vendor", "amd")
    assert (ended.status, ended.out) == (2, "")
    assert said in " ".join(ended.err.split())


def test_options_are_those_of_run(hitless, write, monkeypatch):
    """``--memory`` contradicts ``--config``; ``--backing`` overrides it."""
    config = write('[guest]\nmemory = "4G"\n[[domain]]\nvendor = "amd"\n')
    assert hitless("plan", *SHARE, "--config", config, "--memory", "1G").status == 2
    seen = []
    monkeypatch.setattr(plan_command, "plan_conversions", lambda config, *_, **__: seen.append(config) or [])
    assert hitless("plan", *SHARE, "--config", config, "--backing", "scattered", "--allow-break").status == 0
    assert (seen[0].guest.backing, seen[0].domains[0].allow_break) == ("scattered", True)


def test_a_plan_is_checked(hitless, tmp_path):
    """``--check``: one line behind a plan that is right; a story and status 1 for one that is not."""
    right = hitless("plan", *SHARE, "--vendor", "amd", "--check")
    assert (right.status, right.err) == (0, "")
    assert right.out.rstrip().splitlines()[-1].startswith("# checked over every interleaving of ")
    assert right.out.rstrip().endswith("no rule breaks")
    parse_plan(right.out)
    wrong = hitless("plan", *SHARE, "--config", hasty_config(tmp_path), "--check")
    assert wrong.status == 1
    assert "F1 1" in wrong.out.rstrip().splitlines()[-1]
    assert wrong.err.startswith("careless: amd/v1, [0x40000000, 0x40001000) to shared: ")
    assert "  break  " in wrong.err
    data = hitless("plan", *SHARE, "--config", hasty_config(tmp_path), "--check", "--json", "-").json
    assert data["plans"][0]["checked"] == 1
    assert data["plans"][0]["check_violations"]["F1"] == 1


def test_a_plan_that_grows_the_root_is_explained(hitless):
    """The structure's fields that change, and the larger root's level; the text is parsed as it is printed."""
    shown = hitless("plan", "--config", "examples/growing.toml", "--convert", "0x40000000+4K:shared", "--check").out
    assert "dte of device 0x8: Mode 0x3 -> 0x4, root 0x" in shown
    assert "new table of level 3 (AMD level 4)" in shown and "no rule breaks" in shown
    grown = [step for _, step in parse_plan(shown).steps() if isinstance(step, StoreStructure)]
    assert [(step.what, step.structure, step.device) for step in grown] == [("grow", "dte", 8)]
