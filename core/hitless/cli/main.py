"""The ``hitless`` command: lazily loaded subcommands, and what every exit status means."""

import importlib
import os
import shlex
import sys
import traceback
from contextlib import suppress
from typing import Any, NoReturn

import click

from hitless import __version__
from hitless.cli.text import plain
from hitless.errors import HitlessError

_COMMANDS = {
    "run": "run a conversion log through domains of every vendor, with DMA in flight",
    "plan": "print what a conversion would do, every word and command explained",
    "check": "check plans over every interleaving, and the checker by mutants",
    "inspect": "decode the tables in a memory image: what is mapped, and what is wrong",
    "audit": "hold the tables in a memory image against the static rules",
    "diff": "what changed in address spaces from one memory image to another",
    "explain": "decode entries, structures, commands and events of a vendor",
    "vectors": "replay recorded page tables word by word, and make such recordings",
    "new-vendor": "write a small vendor that passes the conformance kit, to be changed file by file",
    "vendors": "list vendors, formats, features and where each strategy comes from",
    "doctor": "tell what each machine needs, and what is missing",
}

STATUS = "hitless.status"
"""Key of the context's ``meta``: the status that a subcommand has come to before it prints."""


class _ReaderGone(Exception):
    """Nobody reads standard output any more; the argument is the exit status."""


class _Lazy(click.Group):
    """A group whose subcommands live in modules of the same name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"hitless.cli.{cmd_name.replace('-', '_')}_command")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Say what there is without importing it."""
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            status = super().invoke(ctx)
            if sys.stdout is not None:
                sys.stdout.flush()
        except BrokenPipeError as error:
            raise _ReaderGone(ctx.meta.get(STATUS, 0)) from error
        return status


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="hitless", message="%(prog)s %(version)s")
def cli() -> None:
    """Refresh IOMMU mappings under DMA: plans, checks and comparisons for every vendor.

    Exit status: 0; 1 a rule broke; 2 bad input, or a conversion was refused; 3 a bug in hitless;
    130 interrupted.
    """


def again() -> str:
    """The command that repeats this one, quoted for a shell."""
    return " ".join(["hitless", *map(_quoted, sys.argv[1:])])


def _quoted(argument: str) -> str:
    if argument.isprintable():
        return shlex.quote(argument)
    octets = (chr(b) if 0x20 <= b < 0x7F and b not in b"'\\" else f"\\x{b:02x}" for b in os.fsencode(argument))
    return f"$'{''.join(octets)}'"


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit with its status."""
    if arguments is not None:
        sys.argv[1:] = arguments
    with suppress(AttributeError, ValueError):  # ValueError: the stream is in use, or closed
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    sys.exit(_run())


def _run() -> int:
    try:
        status = cli.main(args=sys.argv[1:], prog_name="hitless", standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return 130
    except click.ClickException as error:
        error.show()
        return 2
    except HitlessError as error:
        click.echo(plain(error), err=True)
        if not error.again:
            click.echo(f"  again: {again()}", err=True)
        if os.environ.get("HITLESS_DEBUG") == "1":
            traceback.print_exception(error)
        return error.exit_status
    except _ReaderGone as gone:
        with suppress(OSError, ValueError, AttributeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(gone.args[0])
    except Exception as error:  # noqa: BLE001 - whatever it is, it is a bug in hitless
        _report_bug(error)
        return 3
    return status if isinstance(status, int) else 0


def _report_bug(error: Exception) -> None:
    click.echo(plain(f"hitless {__version__}: a bug: {type(error).__name__}: {error}"), err=True)
    if os.environ.get("HITLESS_DEBUG") == "1":
        traceback.print_exception(error)
    else:
        click.echo("  do   set HITLESS_DEBUG=1 for the traceback, and report it", err=True)
    click.echo(f"  again: {again()}", err=True)
