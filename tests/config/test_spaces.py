"""Address spaces, PASIDs and guests' own tables in a configuration: every fault with its path and a way out."""

import pytest

from hitless.config import check, load_text, open_registry
from hitless.config.attaching import machines_of, places_of
from hitless.errors import ConfigurationError

GUEST = '[guest]\nmemory = "4G"\n'
ARM = '[[domain]]\nvendor = "arm_smmu"\nformat = "arm_smmu/stage2"\n'
IOAS = '[[ioas]]\nname = "far"\narea = [{ iova = "0x4000000000", gpa = "0", size = "4G" }]\n'


def faults(text):
    """All faults of a text, those that only plugins see too."""
    try:
        config = load_text(text)
        check(config, open_registry(config))
    except ConfigurationError as error:
        return list(error.faults)
    return []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            ARM + 'ioas = "near"\n' + IOAS,
            ["no [[ioas]] is named 'near', there are 'far' @ $.domain[0].ioas", "no domain names 'far'"],
        ),
        (ARM + IOAS, ["no domain names 'far': give ioas to a domain, or to its stage1 @ $.ioas[0].name"]),
        (ARM + 'ioas = "far"\n[[ioas]]\nname = "far"\n', ["at least one [[ioas.area]] @ $.ioas[0]"]),
        (
            ARM + 'ioas = "far"\n[[ioas]]\nname = "far"\narea = [{ iova = 0, gpa = "3G", size = "2G" }]\n',
            ["[0xc0000000, 0x140000000) is not wholly the guest's memory @ $.ioas[0].area[0].gpa"],
        ),
        (
            ARM
            + 'ioas = "far"\n[[ioas]]\nname = "far"\narea = [{ iova = 0, gpa = 0, size = "2G" }, '
            + '{ iova = "1G", gpa = "2G", size = "1G" }]\n',
            ["overlaps $.ioas[0].area[0] in iova at 0x40000000 @ $.ioas[0].area[1]"],
        ),
        (
            ARM + 'ioas = "far"\n[[ioas]]\nname = "far"\narea = [{ iova = 1, gpa = 0, size = "1G" }]\n',
            ["must be multiples of 4K", "$.ioas[0].area[0]"],
        ),
        (ARM + "pasid = 0x100000\n", ["must be 0 to 0xfffff, not 1048576 @ $.domain[0].pasid"]),
        (
            ARM + 'ioas = "far"\nstage1 = { format = "arm_smmu/stage1", ioas = "far" }\n' + IOAS,
            ["maps guest physical addresses: give ioas to stage1 instead @ $.domain[0].ioas"],
        ),
        (
            ARM + 'stage1 = { format = "arm_smmu/stage1", memory = 0 }\n',
            ["must be a multiple of 4K above 0, not 0 @ $.domain[0].stage1.memory"],
        ),
        (
            ARM + 'stage1 = { format = "arm_smmu/stage1", memory = "4G" }\n',
            ["its own tables would take 4G: give less memory to them @ $.domain[0].stage1.memory"],
        ),
    ],
)
def test_faults_without_plugins(text, expected):
    """One line each, with the path and what there is."""
    found = faults(GUEST + text)
    assert len(found) <= len(expected)
    for part in expected:
        assert any(part in each for each in found), found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            ARM + 'stage1 = { format = "arm_smmu/stage3" }\n',
            "no format 'arm_smmu/stage3', it has arm_smmu/stage2, arm_smmu/stage1 @ $.domain[0].stage1.format",
        ),
        (
            ARM + 'stage1 = { format = "arm_smmu/stage2" }\n',
            "arm_smmu/stage2 is no stage 1, use arm_smmu/stage1 @ $.domain[0].stage1.format",
        ),
        (
            '[[domain]]\nvendor = "arm_smmu"\nformat = "arm_smmu/stage1"\nstage1 = { format = "arm_smmu/stage1" }\n',
            "no guest's tables stand over arm_smmu/stage1, which is no stage 2 @ $.domain[0].stage1",
        ),
        (
            ARM
            + 'stage1 = { format = "arm_smmu/stage1", ioas = "far" }\n[[ioas]]\nname = "far"\n'
            + 'area = [{ iova = "0xf000000000000", gpa = 0, size = "4G" }]\n',
            "translates 48 bits @ $.domain[0].stage1.ioas",
        ),
        (
            '[[domain]]\nvendor = "amd"\nioas = "far"\n' + IOAS.replace("0x4000000000", "0xf000000000000"),
            "an IOVA range ends at 0xf000100000000, amd/v1 translates 48 bits @ $.domain[0].ioas",
        ),
        (
            '[[domain]]\nvendor = "amd"\npasid = 5\n',
            "device 0x8 with PASID 0x5 are refused: a request with a PASID, and GV = 0 (AMD-DTE-22) @ $.domain[0]",
        ),
        (
            '[[domain]]\nvendor = "intel"\nformat = "intel/second-stage"\nstage1 = { format = "intel/first-stage" }\n',
            "cannot be set up so",
        ),
        (
            '[[domain]]\nvendor = "amd"\nformat = "amd/v2"\nfeatures = { snp = false, glx = 0 }\npasid = 512\n',
            "PASID 0x200 is beyond GCR3 tables of 1 levels",
        ),
    ],
)
def test_faults_that_plugins_see(text, expected):
    """Formats, widths, and structures that cannot say what is asked of them."""
    found = faults(GUEST + text)
    assert len(found) == 1 and expected in found[0], found


def two(more="", pasid="pasid = 5\n"):
    """Two domains of stage 1 behind one unit."""
    each = '[[domain]]\nname = "{}"\nvendor = "amd"\nformat = "amd/v2"\nfeatures = {{ snp = false }}\nunits = ["u"]\n'
    unit = '[[unit]]\nname = "u"\nvendor = "amd"\ndevice = [{ id = 8 }, { id = 9 }]\n'
    return f"{GUEST}together = true\n{each.format('a')}{each.format('b')}{pasid}{more}{unit}"


def test_a_device_is_in_several_domains_only_by_pasid():
    """Without different PASIDs nobody knows where its requests go."""
    assert faults(two()) == []
    found = faults(two(pasid=""))
    assert len(found) == 2 and all("or give them different pasids" in each for each in found)


def test_tags_tell_spaces_of_one_device_apart():
    """AMD: one DomainID, PASIDs above it (AMD-INV-7); a domain of other devices has a DomainID of its own."""
    text = two('[[domain]]\nname = "c"\nvendor = "amd"\nunits = ["u"]\n').replace(
        "{ id = 9 }", '{ id = 9, domain = "c" }'
    )
    text = text.replace("{ id = 8 }", "{ id = 8 }").replace("[guest]", "[guest]", 1)
    config = load_text(text.replace("{ id = 8 }", '{ id = 8, domain = "a" }, { id = 10, domain = "b" }'))
    registry = open_registry(config)

    def vendor_of(told):
        return registry.resolve(told.vendor, told.format, told.features)

    places = places_of(config, config.domains, vendor_of)
    assert {name: [(p.unit, p.tag, [d.id for d in p.devices]) for p in found] for name, found in places.items()} == {
        "a": [("u", 1, [8])],
        "b": [("u", 2 | 5 << 16, [10])],
        "c": [("u", 3, [9])],
    }
    shared = load_text(two())
    found = places_of(shared, shared.domains, vendor_of)
    assert [found[name][0].tag for name in "ab"] == [1, 1 | 5 << 16]


def test_domains_that_share_units_are_in_one_machine():
    """Directly, or through another one."""
    unit = '[[unit]]\nname = "{0}"\nvendor = "amd"\n'
    unit += 'device = [{{ id = 8, domain = "{1}" }}, {{ id = 9, domain = "{2}" }}]\n'
    domain = '[[domain]]\nname = "{}"\nvendor = "amd"\nunits = [{}]\n'
    text = GUEST + domain.format("a", '"u"') + domain.format("b", '"v"') + domain.format("c", '"u", "v"')
    text += domain.format("d", "") + unit.format("u", "a", "c") + unit.format("v", "b", "c")
    config = load_text(text)
    assert [[each.name for each in group] for group in machines_of(config.domains)] == [["a", "b", "c"], ["d"]]
