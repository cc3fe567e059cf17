"""``hitless vendors``."""

import attrs

from hitless import __version__
from hitless_amd.features import AmdFeatures
from installed import OWN, VENDORS

HOOKS = "from hitless.plugin import hookimpl\n"
VENDOR = "from hitless_amd.plugin import AmdPlugin\nplugin = AmdPlugin()\n"


def test_what_is_installed(hitless):
    """Every vendor with title, origin, formats, policies and features, in 80 columns, and nothing else."""
    ended = hitless("vendors")
    assert (ended.status, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert all(len(line) <= 80 for line in lines if "│" in line)
    for name in ("amd", "arm_smmu", "intel"):
        assert any(line.startswith(f"{name}: ") for line in lines)
    for each in attrs.fields(AmdFeatures):
        assert any(line.split()[:1] == [each.name] for line in lines)
    assert "(unconfirmed)" in ended.out
    assert "broken" not in ended.out


def test_json(hitless):
    """Schema vendors/1, with everything that a vendor declares."""
    data = hitless("vendors", "--json", "-").json
    assert list(data)[:2] == ["hitless", "schema"]
    assert (data["hitless"], data["schema"]) == (__version__, "vendors/1")
    assert data["broken"] == []
    assert [each["name"] for each in data["vendors"]] == VENDORS
    amd, arm, _ = (each for each in data["vendors"] if each["name"] in OWN)
    assert (amd["distribution"], amd["entry"]) == ("hitless", "hitless_amd:plugin")
    assert [each["name"] for each in amd["formats"]] == ["amd/v1", "amd/v2"]
    assert amd["formats"][0]["levels"][-1] == "level 0 (AMD level 1)"
    assert amd["formats"][0]["leaves"] == ["4K", "2M", "1G"]
    assert (amd["policies"], amd["default_policy"]) == (["match", "wipe", "check"], "match")
    mode = next(each for each in amd["features"] if each["name"] == "mode")
    assert (mode["default"], mode["values"], mode["unconfirmed"]) == (4, [1, 2, 3, 4, 5, 6], False)
    assert mode["sentence"]
    assert mode["source"].startswith("AMD-")
    bbml = next(each for each in arm["features"] if each["name"] == "bbml")
    assert (bbml["default"], bbml["values"]) == (2, [0, 1, 2])
    assert set(amd["strategies"]) >= {"page_formats", "split_rules", "recipes", "commands", "events", "ownership"}
    assert set(amd["strategies"].values()) == {amd["origin"]}


def test_extensions_are_listed(install, hitless):
    """An installed extension stands with the strategies that it answers."""
    source = (
        "from hitless.plugin import hookimpl\n"
        "class Extension:\n"
        "    api = 1\n"
        "    @hookimpl(wrapper=True)\n"
        "    def recipes(self, page_format, features):\n"
        "        return (yield)\n"
        "plugin = Extension()\n"
    )
    install("dist-x", "x_extension", source, extensions={"softer": "x_extension:plugin"})
    (each,) = hitless("vendors", "--json", "-").json["extensions"]
    assert (each["name"], each["distribution"], each["hooks"]) == ("softer", "dist-x", ["recipes"])
    assert "extension softer from dist-x 1.0 (x_extension:plugin): recipes" in hitless("vendors").out


def test_what_does_not_load_is_listed(install, hitless):
    """A failed import, a misspelt hook, a hook that raises, and a name taken twice: each with distribution and cause.

    The status is still 0: telling this is what the command is for.
    """
    install("dist-a", "a_vendor", "import nowhere\n", vendors={"gone": "a_vendor:plugin"})
    misspelt = f"{HOOKS}class P:\n  api = 1\n  @hookimpl\n  def featurs(self): ...\nplugin = P()\n"
    install("dist-b", "b_vendor", misspelt, vendors={"misspelt": "b_vendor:plugin"})
    raising = (
        VENDOR + "from hitless.plugin import hookimpl\nclass P(AmdPlugin):\n  @hookimpl\n  def features(self): 1 / 0\n"
    )
    install("dist-c", "c_vendor", raising + "plugin = P()\n", vendors={"raising": "c_vendor:plugin"})
    for name in ("d", "e"):
        install(f"dist-{name}", f"{name}_vendor", VENDOR, vendors={"twice": f"{name}_vendor:plugin"})
    ended = hitless("vendors")
    assert ended.status == 0
    broken = [line for line in ended.out.splitlines() if line.startswith("broken: ")]
    assert any("gone from dist-a 1.0, a_vendor:plugin: ModuleNotFoundError" in line for line in broken)
    assert any("misspelt from dist-b 1.0" in line and "featurs" in line for line in broken)
    assert any("raising from dist-c 1.0" in line and "ZeroDivisionError" in line for line in broken)
    twice = [line for line in broken if "taken twice" in line]
    assert len(twice) == 2
    assert all("dist-d 1.0" in line and "dist-e 1.0" in line for line in twice)
    data = hitless("vendors", "--json", "-").json
    assert [each["name"] for each in data["vendors"]] == VENDORS
    assert {each["name"] for each in data["broken"]} == {"gone", "misspelt", "raising", "twice"}


def test_a_strangers_text_is_no_markup(install, hitless):
    """Titles and causes may hold anything."""
    titled = VENDOR + "plugin.title = '[red]mine[/red]\\x1b[31m'\n"
    install("dist-t", "t_vendor", titled, vendors={"titled": "t_vendor:plugin"})
    install("dist-u", "u_vendor", "raise OSError('[/] \\x1b]0;x')\n", vendors={"u": "u_vendor:plugin"})
    out = hitless("vendors").out
    assert "titled: [red]mine[/red]\\x1b[31m" in out
    assert "OSError: [/] \\x1b]0;x" in out
    assert "\x1b" not in out
