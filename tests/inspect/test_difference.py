"""``hitless diff``: what plans did to tables is told as what it was."""

from guests import guest_image

from hitless.guest_memfd.guest import GUEST, HOST
from stand import G, K, M


def both(hitless, tmp_path, page_format, *steps, owners=True):
    """Two images, before and after conversions, and what diff says of them."""
    image = guest_image(page_format, tmp_path / "before")
    before = image.owners(tmp_path / "owners1")
    for start, size, owner in steps:
        image.stand.guest.convert([(start, start + size)], owner)
    after = type(image)(image.stand, image.options, tmp_path / "after")
    after.write()
    listed = ("--owners", before, "--owners", after.owners(tmp_path / "owners2")) if owners else ()
    return hitless("diff", image.path, after.path, *image.options, *listed, "--json", "-")


def test_nothing_changed(hitless, tmp_path):
    """An image and itself."""
    found = both(hitless, tmp_path, "amd/v1")
    assert found.status == 0
    assert [each["changes"] for each in found.json["spaces"]] == [[]]


def test_a_conversion_in_place_cuts_around_it(hitless, tmp_path):
    """One page inside a 1G leaf: the page is converted, what is around it is cut, no address changes."""
    page = 64 * M + 8 * K
    found = both(hitless, tmp_path, "amd/v1", (page, 4 * K, HOST))
    (space,) = found.json["spaces"]
    assert space["counts"] == {"converted": 1, "cut": 4}
    converted = [each for each in space["changes"] if each["change"] == "converted"]
    assert [(each["iova"], each["size"]) for each in converted] == [(f"{page:#x}", "0x1000")]
    assert sum(int(each["size"], 0) for each in space["changes"]) == G
    assert all(each["before"]["pa"] == each["after"]["pa"] for each in space["changes"])


def test_a_merge_is_told_as_one(hitless, tmp_path):
    """The page goes back, and the policy merges: everything that was cut is merged."""
    page = G + 5 * 4 * K
    found = both(hitless, tmp_path, "amd/v1", (page, 4 * K, GUEST), owners=False)
    (space,) = found.json["spaces"]
    assert set(space["counts"]) == {"merged"}


def test_a_wipe_is_told_as_unmapped(hitless, tmp_path):
    """Intel: a shared page turns private, and is mapped no more."""
    page = 3 * G + 4 * K
    found = both(hitless, tmp_path, "intel/second-stage", (page, 4 * K, GUEST))
    (space,) = found.json["spaces"]
    assert [(each["change"], each["iova"], each["size"]) for each in space["changes"]] == [
        ("unmapped", f"{page:#x}", "0x1000")
    ]
    assert space["changes"][0]["after"] is None


def test_text_and_bad_input(hitless, tmp_path):
    """A line a change; one owner list is not enough."""
    image = guest_image("amd/v1", tmp_path / "one")
    assert "nothing changed" in hitless("diff", image.path, image.path, *image.options).out
    assert hitless("diff", image.path, image.path, *image.options, "--owners", "x").status == 2
    assert hitless("diff", image.path, tmp_path / "missing", *image.options).status == 2
