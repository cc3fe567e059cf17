"""Reading a configuration: what the keys become, and what each mistake says."""

import pytest

from hitless.config import (
    Config,
    DeviceConfig,
    DomainConfig,
    GuestConfig,
    PluginConfig,
    RangeConfig,
    SlotConfig,
    UnitConfig,
    load,
    load_text,
)
from hitless.errors import BadInput

SMALL = '[guest]\nmemory = "4G"\n[[domain]]\nvendor = "amd"\n'
"""The shortest configuration."""
DOMAIN_KEYS = (
    "vendor, name, format, extensions, features, policy, trusted, merge, allow_break, units, table_memory, ioas, "
    "pasid, stage1"
)


def test_every_key_arrives():
    """Each key of each table has its place, sizes are bytes, numbers and texts of sizes are both taken."""
    config = load_text(
        """
        [guest]
        slot = [{ gpa = 0, offset = "0", size = "2G" }, { gpa = "0x100000000", offset = 0x80000000, size = "1G" }]
        hunk = "2M"
        page_size = "4K"
        backing = "scattered"
        owner = "shared"
        private = [{ start = "4K", size = 4096 }]
        shared = [{ start = "8K", size = "8K" }]
        together = true

        [[domain]]
        name = "d"
        vendor = "amd"
        format = "amd/v1"
        extensions = ["x"]
        features = { mode = 5 }
        policy = "match"
        trusted = true
        merge = "at_once"
        allow_break = true
        units = ["u"]
        table_memory = "1G"

        [[unit]]
        name = "u"
        vendor = "amd"
        device = [{ id = 8 }, { id = 9, ats = true, domain = "d" }]

        [[vendor]]
        name = "v"
        plugin = "a.b:c.d"

        [[extension]]
        name = "x"
        plugin = "e:f"
        path = "."
        """,
        "here",
    )
    guest = GuestConfig(
        slot=(SlotConfig(0, 2 << 30, 0), SlotConfig(4 << 30, 1 << 30, 2 << 30)),
        hunk=2 << 20,
        page_size=4096,
        backing="scattered",
        owner="shared",
        private=(RangeConfig(4096, 4096),),
        shared=(RangeConfig(8192, 8192),),
        together=True,
    )
    domain = DomainConfig("amd", "d", "amd/v1", ("x",), {"mode": 5}, "match", True, "at_once", True, ("u",), 1 << 30)
    unit = UnitConfig("u", "amd", (DeviceConfig(8), DeviceConfig(9, True, "d")))
    plugins = (PluginConfig("v", "a.b:c.d"),), (PluginConfig("x", "e:f", "."),)
    assert config == Config(guest, (domain,), (unit,), *plugins, "here", ".")
    assert (config.domains, config.units, config.vendors, config.extensions) == ((domain,), (unit,), *plugins)


def test_memory_is_one_slot_from_0():
    """``memory`` says the same as one slot."""
    assert load_text(SMALL).guest.slots == (SlotConfig(0, 4 << 30, 0),)


def test_domains_without_a_name_take_the_vendors():
    """The first has the vendor's name, the next ones -1, -2 ... behind it, and never a name that is given."""
    text = '[guest]\nmemory = "4G"\n' + '[[domain]]\nvendor = "amd"\n' * 3
    text += '[[domain]]\nvendor = "intel"\nname = "amd-1"\n'
    assert [domain.name for domain in load_text(text).domains] == ["amd", "amd-2", "amd-3", "amd-1"]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a = [", "line 1, column 6"),
        ("[guest]\nmemory = ", "line 2, column 10"),
        ("[guest]\n\nhunk == 3\n", "line 3, column 7"),
        ("[guest]\n[guest]\n", "line 2, column 7"),
    ],
)
def test_syntax_errors_name_line_and_column(text, place, faults_of):
    """What is no TOML is one fault, with its place, at the end of the document too."""
    (fault,) = faults_of(load_text, text)
    problem, _, at = fault.partition(" @ ")
    assert problem.startswith("not TOML: ")
    line, column = (int(word) for word in at.replace("line ", "").replace("column ", "").split(", "))
    wanted = [int(word) for word in place.replace("line ", "").replace("column ", "").split(", ")]
    assert line == wanted[0]
    assert abs(column - wanted[1]) <= 3, at


@pytest.mark.parametrize("text", ["a = " + "9" * 5000, "a = " + "[" * 5000, 'guest.memory = "' + "9" * 5000 + '"'])
def test_what_python_cannot_read_is_a_fault(text, faults_of):
    """Too many digits, or too deep a nesting, is no crash."""
    assert faults_of(load_text, text)


MISTAKES = [
    ('[guest]\nmemory = "4Q"', "expected a size such as 4096, '0x1000', '4K' or '16G', not '4Q'", "$.guest.memory"),
    ("[guest]\nmemory = true", "expected a size such as 4096, '0x1000', '4K' or '16G', not true", "$.guest.memory"),
    ("[guest]\nmemory = 1.5", "expected a size such as 4096, '0x1000', '4K' or '16G', not 1.5", "$.guest.memory"),
    ("[guest]\nmemory = -4096", "expected a size such as 4096, '0x1000', '4K' or '16G', not -4096", "$.guest.memory"),
    ("[guest]\nmemory = 0", "must be a multiple of 4K above 0, not 0", "$.guest.memory"),
    ("[guest]\nmemory = 4097", "must be a multiple of 4K above 0, not 4097", "$.guest.memory"),
    ("[guest]", "the guest has no memory: give memory = SIZE or [[guest.slot]]", "$.guest"),
    (
        "[guest]\nmemory = 4096\nslot = [{ gpa = 0, offset = 0, size = 4096 }]",
        "give either memory or [[guest.slot]], not both",
        "$.guest.memory",
    ),
    ("guest = 3", "expected a table, not 3", "$.guest"),
    ("", "missing: give [guest] with memory = SIZE or [[guest.slot]]", "$.guest"),
    ("[guest]\nmemory = 4096\nhunk = '8K'", "must be 4K, 2M or 1G, not 8K", "$.guest.hunk"),
    ("[guest]\nmemory = 4096\npage_size = '2M'", "must be 4K, 16K or 64K, not 2M", "$.guest.page_size"),
    (
        "[guest]\nmemory = 4096\nbacking = 'apart'",
        "expected 'in-place' or 'separate' or 'scattered', not 'apart'",
        "$.guest.backing",
    ),
    ("[guest]\nmemory = 4096\nowner = 'both'", "expected 'private' or 'shared', not 'both'", "$.guest.owner"),
    ("[guest]\nmemory = 4096\ntogether = 1", "expected true or false, not 1", "$.guest.together"),
    ("[guest]\nslot = { gpa = 0 }", "expected an array, not a table", "$.guest.slot"),
    ("[guest]\nslot = 'ab'", "expected an array, not 'ab'", "$.guest.slot"),
    ("[guest]\nslot = [{ gpa = 0, offset = 0 }]", "missing, and there is no default", "$.guest.slot[0].size"),
    (
        "[guest]\nslot = [{ gpa = 1, offset = 0, size = 4096 }]",
        "gpa, offset and size must be multiples of 4K, size above 0, both ends at most 2**64",
        "$.guest.slot[0]",
    ),
    (
        "[guest]\nslot = [{ gpa = '16E', offset = 0, size = 4096 }]",
        "gpa, offset and size must be multiples of 4K, size above 0, both ends at most 2**64",
        "$.guest.slot[0]",
    ),
    (
        "[guest]\nmemory = 8192\nshared = [{ start = 4096, size = 8192 }]",
        "[0x1000, 0x3000) is not wholly the guest's memory",
        "$.guest.shared[0]",
    ),
    (
        "[guest]\nmemory = 8192\nprivate = [{ start = 0, size = 0 }]",
        "start and size must be multiples of 4K, size above 0",
        "$.guest.private[0]",
    ),
    (
        "[guest]\nmemory = 8192\nshared = [{ start = 0, size = 8192 }]\nprivate = [{ start = 4096, size = 4096 }]",
        "overlaps $.guest.shared[0] in address at 0x1000",
        "$.guest.private[0]",
    ),
]


@pytest.mark.parametrize(("guest", "problem", "path"), MISTAKES, ids=[path + " " + p[:24] for _, p, path in MISTAKES])
def test_mistakes_in_the_guest(guest, problem, path, faults_of):
    """Each mistake is the one fault, at its path, and says what is legal."""
    text = f"{guest}\n[[domain]]\nvendor = 'amd'\n"
    assert faults_of(load_text, text) == [f"{problem} @ {path}"]


def test_slots_that_overlap(faults_of):
    """Slots that share guest physical addresses, or offsets, are two different faults."""
    text = """
        [guest]
        slot = [
          { gpa = 0, offset = 0, size = "1G" },
          { gpa = "512M", offset = "1G", size = "1G" },
          { gpa = "4G", offset = "1536M", size = "1G" },
        ]
        [[domain]]
        vendor = "amd"
    """
    assert faults_of(load_text, text) == [
        "overlaps $.guest.slot[0] in gpa at 0x20000000 @ $.guest.slot[1]",
        "overlaps $.guest.slot[1] in offset at 0x60000000 @ $.guest.slot[2]",
    ]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("vendor = 3", "expected a text, not 3 @ $.domain[0].vendor"),
        ("name = 3\nvendor = 'amd'", "expected a text, not 3 @ $.domain[0].name"),
        ("name = 'x'", "missing, and there is no default @ $.domain[0].vendor"),
        ("vendor = 'amd'\ntrusted = 'yes'", "expected true or false, not 'yes' @ $.domain[0].trusted"),
        (
            "vendor = 'amd'\nmerge = 'maybe'",
            "expected 'never' or 'at_once' or 'on_request', not 'maybe' @ $.domain[0].merge",
        ),
        ("vendor = 'amd'\nunits = 'u'", "expected an array, not 'u' @ $.domain[0].units"),
        ("vendor = 'amd'\nextensions = [1]", "expected a text, not 1 @ $.domain[0].extensions[0]"),
        ("vendor = 'amd'\nextensions = ['x', 'x']", "'x' stands here twice @ $.domain[0].extensions[1]"),
        ("vendor = 'amd'\nfeatures = []", "expected a table, not [] @ $.domain[0].features"),
        ("vendor = 'amd'\ntable_memory = 0", "must be a multiple of 4K from 4K to 512G @ $.domain[0].table_memory"),
        ("vendor = 'amd'\ntable_memory = '1T'", "must be a multiple of 4K from 4K to 512G @ $.domain[0].table_memory"),
        ("vendor = 'amd'\nunits = ['u']", "no [[unit]] is named 'u', there are none @ $.domain[0].units[0]"),
        (
            "vendor = 'amd'\nvender = 'amd'",
            f"unknown key 'vender', known are {DOMAIN_KEYS} @ $.domain[0].vender",
        ),
    ],
)
def test_mistakes_in_a_domain(line, fault, faults_of):
    """Each mistake is the one fault; nothing is coerced."""
    assert faults_of(load_text, f"[guest]\nmemory = '4G'\n[[domain]]\n{line}\n") == [fault]


def test_no_domain_is_a_fault(faults_of):
    """A configuration without a domain has nothing to do."""
    missing = "missing: give at least one [[domain]] with vendor = NAME @ $.domain"
    assert faults_of(load_text, "[guest]\nmemory = '4G'\n") == [missing]
    assert faults_of(load_text, "domain = []\n[guest]\nmemory = '4G'\n") == [missing]


def test_a_table_where_an_array_of_tables_stands(faults_of):
    """``[domain]`` instead of ``[[domain]]`` is told as such, and nothing follows from it."""
    text = "[guest]\nmemory = '4G'\n[domain]\nvendor = 'amd'\n"
    assert faults_of(load_text, text) == ["expected an array of tables, [[domain]], not a table @ $.domain"]


UNITS = """
[guest]
memory = "4G"
[[domain]]
vendor = "amd"
name = "a"
units = {a}
[[domain]]
vendor = "amd"
name = "b"
units = {b}
[[unit]]
name = "u"
vendor = "{vendor}"
device = {device}
"""


@pytest.mark.parametrize(
    ("told", "faults"),
    [
        ({}, []),
        ({"device": "[]"}, ["no device of 'u' is in this domain @ $.domain[0].units[0]", "a unit has at least one"]),
        ({"device": "[{ id = 65536 }]"}, ["must be 0 to 0xffff, not 65536 @ $.unit[0].device[0].id"]),
        ({"device": "[{ id = -1 }]"}, ["must be 0 to 0xffff, not -1 @ $.unit[0].device[0].id"]),
        ({"device": "[{ id = true }]"}, ["expected an integer, not true @ $.unit[0].device[0].id"]),
        ({"device": "[{ id = 8 }, { id = 8 }]"}, ["0x8 is the id of device[0] already @ $.unit[0].device[1].id"]),
        (
            {"device": "[{ id = 8, domain = 'b' }]"},
            [
                "no device of 'u' is in this domain @ $.domain[0].units[0]",
                "domain 'b' does not list this unit @ $.unit[0].device[0].domain",
            ],
        ),
        (
            {"b": "['u']"},
            ["missing: say which of 'a', 'b' it is in, or give them different pasids @ $.unit[0].device[0].domain"],
        ),
        (
            {"b": "['u']", "device": "[{ id = 8, domain = 'a' }]"},
            ["no device of 'u' is in this domain @ $.domain[1].units[0]"],
        ),
        ({"a": "[]"}, ["no domain lists 'u' in its units @ $.unit[0].name"]),
        ({"a": "['u', 'u']"}, ["'u' stands here twice @ $.domain[0].units[1]"]),
        ({"vendor": "intel"}, ["a unit of 'intel', the domain is 'amd''s @ $.domain[0].units[0]"]),
    ],
)
def test_units_and_domains_fit_together(told, faults, faults_of):
    """Every unit is listed, has devices of a known domain, and is of the domain's vendor."""
    text = UNITS.format(**{"a": "['u']", "b": "[]", "vendor": "amd", "device": "[{ id = 8 }]", **told})
    if not faults:
        assert load_text(text).units[0].devices == (DeviceConfig(8),)
        return
    found = faults_of(load_text, text)
    assert len(found) == len(faults)
    assert all(each.startswith(start) for each, start in zip(found, faults, strict=True)), found


@pytest.mark.parametrize("table", ["domain", "unit", "vendor", "extension"])
def test_names_are_unique(table, faults_of):
    """Two tables of one kind with one name are a fault at the second."""
    rows = {
        "domain": "name = 'n'\nvendor = 'amd'",
        "unit": "name = 'n'\nvendor = 'amd'\ndevice = [{ id = 1 }]",
        "vendor": "name = 'n'\nplugin = 'a:b'",
        "extension": "name = 'n'\nplugin = 'a:b'",
    }
    text = "[guest]\nmemory = '4G'\n" + f"[[{table}]]\n{rows[table]}\n" * 2
    if table != "domain":
        text += "[[domain]]\nvendor = 'amd'\nunits = ['n']\n" if table == "unit" else "[[domain]]\nvendor = 'amd'\n"
    assert faults_of(load_text, text) == [f"'n' is the name of $.{table}[0] already @ $.{table}[1].name"]


@pytest.mark.parametrize("plugin", ["", "module", "module:", ":object", "a-b:c", "a:b:c", "/etc/x.py:y"])
def test_plugins_are_module_and_object(plugin, faults_of):
    """``plugin`` has the form module:object, as an entry point has."""
    text = f"[guest]\nmemory = '4G'\n[[domain]]\nvendor = 'amd'\n[[vendor]]\nname = 'v'\nplugin = '{plugin}'\n"
    assert faults_of(load_text, text) == [f"expected 'module:object', not {plugin!r} @ $.vendor[0].plugin"]


def test_a_plugins_folder_is_relative_to_the_file(write, tmp_path, faults_of):
    """``path`` is looked up beside the configuration, wherever the command runs."""
    text = "[guest]\nmemory = '4G'\n[[domain]]\nvendor = 'v'\n[[vendor]]\nname = 'v'\nplugin = 'a:b'\npath = 'mine'\n"
    path = write(text)
    assert faults_of(load, path) == ["there is no folder 'mine' @ $.vendor[0].path"]
    for wrong in ("x" * 9999, "a\\u0000b"):
        (fault,) = faults_of(load, write(text.replace("'mine'", f'"{wrong}"')))
        assert fault.endswith(" @ $.vendor[0].path")
    write(text)
    (tmp_path / "mine").mkdir()
    assert load(path).folder == str(tmp_path)


def test_all_faults_come_at_once(faults_of):
    """Unreadable values, unknown keys and broken rules of all tables are in one list, none twice."""
    text = """
        colour = "red"
        [guest]
        memory = "4G"
        hunk = "3M"
        huncks = 1
        [[domain]]
        vendor = "amd"
        merge = 1
        units = ["nowhere"]
        [[domain]]
        vendor = []
        [[unit]]
        name = "u"
        vendor = "amd"
        device = [{ id = "8" }, { idd = 9 }]
    """
    paths = [fault.rpartition(" @ ")[2] for fault in faults_of(load_text, text)]
    assert sorted(paths) == [
        "$.colour",
        "$.domain[0].merge",
        "$.domain[0].units[0]",
        "$.domain[1].vendor",
        "$.guest.huncks",
        "$.guest.hunk",
        "$.unit[0].device[0].id",
        "$.unit[0].device[1].id",
        "$.unit[0].device[1].idd",
    ]


def test_hostile_text_stays_on_its_line(faults_of):
    """Keys and values with line ends, escape sequences or great length are shown escaped, on one line each."""
    text = (
        f'"[red]\\u001b[31m\\nx" = 1\n[guest]\nmemory = "\\u001b\\n"\nowner = "{"y" * 9999}"\n[[domain]]\nvendor="amd"'
    )
    faults = faults_of(load_text, text)
    assert len(faults) == 3
    assert all(fault.isprintable() and len(fault) < 500 for fault in faults)
    assert faults[0].endswith(r' @ $."[red]\u001b[31m\nx"')


def test_a_file_that_cannot_be_read(write, tmp_path, faults_of):
    """A missing file, a folder or a NUL in the name is bad input; what is no UTF-8 is a fault with its place."""
    for path in (tmp_path / "missing.toml", tmp_path, "a\0b"):
        with pytest.raises(BadInput, match="cannot read the configuration"):
            load(path)
    assert faults_of(load, write(b'[guest]\nowner = "\xff"\n')) == ["not UTF-8 @ line 2, column 10"]
