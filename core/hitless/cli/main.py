"""The ``hitless`` command: lazily loaded subcommands, and what every exit status means."""

import importlib
import os
import shlex
import sys
import traceback
from typing import Any

import click

from hitless import __version__
from hitless.errors import HitlessError

_COMMANDS = {
    "run": "run a conversion log through domains of every vendor, with DMA in flight",
    "plan": "print what a conversion would do, every word and command explained",
    "explain": "decode entries, commands and events of a vendor",
    "vendors": "list vendors, formats, features and where each strategy comes from",
}


class _Lazy(click.Group):
    """A group whose subcommands live in modules of the same name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"hitless.cli.{cmd_name}_command")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Say what there is without importing it."""
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="hitless")
def cli() -> None:
    """Refresh IOMMU mappings under DMA: plans, checks and comparisons for every vendor.

    Exit status: 0; 1 a rule broke; 2 bad input, or a conversion was refused; 3 a bug in hitless;
    130 interrupted.
    """


def again() -> str:
    """The command that repeats this one."""
    return "hitless " + " ".join(shlex.quote(argument) for argument in sys.argv[1:])


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line and exit with its status."""
    if arguments is not None:
        sys.argv[1:] = arguments
    try:
        status = cli.main(args=sys.argv[1:], prog_name="hitless", standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("interrupted", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except HitlessError as error:
        error.again = error.again or again()
        click.echo(str(error), err=True)
        sys.exit(error.exit_status)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        sys.exit(130)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is a bug in hitless
        _report_bug(error)
        sys.exit(3)
    sys.exit(status if isinstance(status, int) else 0)


def _report_bug(error: Exception) -> None:
    click.echo(f"hitless {__version__}: a bug: {type(error).__name__}: {error}", err=True)
    if os.environ.get("HITLESS_DEBUG") == "1":
        traceback.print_exception(error)
    else:
        click.echo("  do   set HITLESS_DEBUG=1 for the traceback, and report it", err=True)
    click.echo(f"  again: {again()}", err=True)
