"""A configuration whose vendor forgets an invalidation: an extension that replaces AMD's recipes."""

from pathlib import Path

EXTENSION = '''
from attrs import evolve

from hitless.plugin import API, hookimpl
from hitless.refresh.recipes import Scope, one_store


class Hasty:
    """Replaces without an invalidation."""

    api = API

    @hookimpl(wrapper=True)
    def recipes(self, page_format, features):
        recipes = yield
        return evolve(recipes, replace=one_store(Scope.NONE, "HASTY-1"))


plugin = Hasty()
'''
CONFIG = """
[guest]
memory = "4G"
backing = "separate"

[[extension]]
name = "hasty"
plugin = "hasty_extension:plugin"
path = "."

[[domain]]
name = "careless"
vendor = "amd"
extensions = ["hasty"]
"""


def hasty_config(folder: Path) -> Path:
    """Write the configuration and its extension."""
    (folder / "hasty_extension.py").write_text(EXTENSION, encoding="utf-8")
    path = folder / "hasty.toml"
    path.write_text(CONFIG, encoding="utf-8")
    return path
