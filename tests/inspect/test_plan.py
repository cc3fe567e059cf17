"""``hitless plan --image``: plans on the tables that an image holds, checked, and nothing is written."""

from pathlib import Path

import pytest
from guests import FORMATS, guest_image

from stand import G, K, M

EXCERPT = Path(__file__).parent / "excerpts" / "amd.lime.gz"
AMD = ("--from", "amd/device-table@0x1000001")


@pytest.mark.parametrize("page_format", [each for each in FORMATS if not each.startswith("arm")])
def test_plans_on_our_own_images(hitless, tmp_path, page_format):
    """A page of a shared 64K turns private: the plan cuts or wipes, and no rule breaks; the file stays as it is."""
    image = guest_image(page_format, tmp_path / "ram")
    before = image.path.read_bytes()[:: 4096 * 7]
    owners = ("--owners", image.owners(tmp_path / "owners"))
    page = 3 * G + 8 * K
    found = hitless("plan", "--image", image.path, *image.options, *owners, "--convert", f"{page:#x}+4K:private")
    assert found.status == 0, found.err
    assert "no rule breaks" in found.out
    assert "invalidate iommu0" in found.out
    assert image.path.read_bytes()[:: 4096 * 7] == before


def test_a_page_inside_a_large_leaf_is_cut_out(hitless, tmp_path):
    """The store replaces the image's own entry by a pointer to a table that the image does not hold."""
    image = guest_image("amd/v1", tmp_path / "ram")
    page = 2 * G + 64 * M
    found = hitless("plan", "--image", image.path, *image.options, "--convert", f"{page:#x}+4K:shared", "--json", "-")
    (plan,) = found.json["plans"]
    steps = [each["step"] for each in plan["steps"]]
    assert plan["checked"] == 1
    assert plan["check_violations"] == {}
    assert sum(step.startswith("store cut") for step in steps) == 1
    assert [step for step in steps if step.startswith("fill")][1:] != []


def test_a_plan_on_tables_that_linux_wrote(hitless):
    """Three levels, size-7 runs, leaves with other rights beside it: they keep theirs, and no rule breaks."""
    options = ("--image", EXCERPT, *AMD, "--device", "00:04.0")
    space = hitless("inspect", EXCERPT, *AMD, "--device", "00:04.0", "--json", "-").json
    run = next(each for each in space["ranges"] if each["leaf"] == "64K")
    found = hitless("plan", *options, "--convert", f"{run['iova']}+4K:shared")
    assert found.status == 0, found.err
    assert "no rule breaks" in found.out


@pytest.mark.parametrize(
    "arguments",
    [
        (*AMD, "--convert", "0xfffe0000+4K:shared"),
        (*AMD, "--device", "00:04.0", "--convert", "0x1000+4K:shared"),
        (*AMD, "--device", "00:04.0", "--convert", "0xfffe0000+4K:shared", "--memory", "4G"),
        ("--convert", "0xfffe0000+4K:shared"),
    ],
)
def test_what_cannot_be_planned(hitless, arguments):
    """Several spaces, what is not mapped, options of a fresh guest, no tables: status 2."""
    found = hitless("plan", "--image", EXCERPT, *arguments)
    assert found.status == 2
    assert "Traceback" not in found.err


def test_tables_without_an_image(hitless):
    """Options that name tables need an image."""
    assert hitless("plan", *AMD, "--convert", "0x1000+4K:shared").status == 2
