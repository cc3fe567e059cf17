"""docs/command-line.md is complete."""

import re
from pathlib import Path

import click
import pytest

from hitless.cli.main import cli

TEXT = (Path(__file__).parents[2] / "docs" / "command-line.md").read_text(encoding="utf-8")
CONTEXT = click.Context(cli)


def commands(group: click.Group, prefix: str = "") -> dict[str, click.Command]:
    """All commands by name, those of groups among them: ``vectors verify``."""
    found: dict[str, click.Command] = {}
    for name in group.list_commands(CONTEXT):
        command = group.get_command(CONTEXT, name)
        assert command is not None
        found[prefix + name] = command
        if isinstance(command, click.Group):
            found |= commands(command, f"{prefix}{name} ")
    return found


COMMANDS = commands(cli)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_section(name):
    """Each command is a heading."""
    assert re.search(rf"^###? `hitless {name}\b", TEXT, re.MULTILINE)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_documented(name):
    """Each option stands in the page, in code."""
    options = {option for each in COMMANDS[name].params if isinstance(each, click.Option) for option in each.opts}
    assert {option for option in options if f"`{option}" not in TEXT} == set()


def test_no_option_is_made_up():
    """What the page names with two dashes exists."""
    known = {"--help", "--version"}
    for command in COMMANDS.values():
        known |= {option for each in command.params for option in each.opts}
    named = set(re.findall(r"`(--[a-z-]+)", TEXT))
    assert named <= known
